"""Named tensors with text metadata in one safetensors file, written whole or not at all."""

import contextlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
from safetensors.torch import save_file
from torch import Tensor

from tokcli.errors import InputError, MismatchError
from tokcli.files import explain, replacing


@dataclass(frozen=True)
class TensorFile:
    """What a safetensors file holds."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def write_tensors(path: pathlib.Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Replace `path` by a file of these tensors: a reader sees the old file or the new one.

    Raises OSError where the folder cannot be written or the disk is full; nothing is left behind.
    """
    # Clones, because safetensors refuses tensors that share memory, and one file should not depend on that.
    detached = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path) as unfinished:
        try:
            save_file(detached, unfinished, dict(metadata))
            _order_metadata(unfinished)
        except safetensors.SafetensorError as error:
            raise explain(error, path) from error


def _order_metadata(path: pathlib.Path) -> None:
    """Sort the metadata, which the library writes in an order of chance: equal contents shall be equal bytes."""
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        if "__metadata__" in header:
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(ordered) <= length:  # always, for it is the same text in another order
            file.seek(8)
            file.write(ordered.ljust(length))


def read_tensors(path: pathlib.Path) -> TensorFile:
    """Everything in the file, on the CPU.

    Raises InputError where there is no such file, MismatchError where it is not a whole safetensors file.
    """
    with _opened(path) as file:
        return TensorFile({name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {}))  # noqa: SIM118


def read_metadata(path: pathlib.Path) -> dict[str, str]:
    """The metadata alone, without reading the tensors. Raises as `read_tensors` does."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            yield file
    except safetensors.SafetensorError as error:
        raise MismatchError(f"{path} is not a whole safetensors file ({error}); make it again") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
