"""Named tensors with text metadata in one safetensors file, written whole or not at all.

Written by hand (8 bytes of length, JSON, bytes), because the library orders the metadata by chance: equal tensors and
equal metadata give equal bytes here.
"""

import contextlib
import hashlib
import json
import pathlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from tokcli.errors import InputError, MismatchError
from tokcli.files import find_problem, replacing

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""What a file calls the types of tensors that are written and read here."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class TensorFile:
    """What a safetensors file holds."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def write_tensors(path: pathlib.Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Replace `path` by a file of these tensors: a reader sees the old file or the new one.

    Raises OSError where the folder cannot be written or the disk is full; nothing is left behind.
    """
    entries: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    # Wide types first, so that every tensor is aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    end = 0
    for name in order:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    words = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    words += b" " * (-len(words) % 8)
    with replacing(path) as unfinished:
        try:
            _write(unfinished, words, [tensors[name] for name in order])
        except OSError as error:
            error.filename = str(path)  # a write that fails does not know where it wrote
            raise


def _write(path: pathlib.Path, words: bytes, tensors: list[Tensor]) -> None:
    """The file's length of header, header, and content."""
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(words)) + words)
        for tensor in tensors:
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data if flat.numel() else b"")


def read_tensors(path: pathlib.Path) -> TensorFile:
    """Everything in the file, on the CPU.

    Raises InputError where there is no such file, MismatchError where it is not a whole safetensors file.
    """
    with _opened(path) as file:
        return TensorFile({name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {}))  # noqa: SIM118


def parse_tensors(content: bytes, sha256: str) -> TensorFile:
    """Everything in a file that was read already. Raises MismatchError where it has another sum than this."""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise MismatchError("the file was damaged since it was written; make it again")
    words = content[8 : 8 + int.from_bytes(content[:8], "little")]
    return TensorFile(safetensors.torch.load(content), dict(json.loads(words).get("__metadata__", {})))


def read_metadata(path: pathlib.Path) -> dict[str, str]:
    """The metadata alone, without reading the tensors. Raises as `read_tensors` does."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


def read_promises(path: pathlib.Path) -> dict[str, Tensor]:
    """Tensors without content, on the meta device, of the shapes and types that the file's header names.

    Raises as `read_tensors` does, and MismatchError for a type that is not read here.
    """
    promises = {}
    with _opened(path) as file:
        for name in file.keys():  # noqa: SIM118
            slot = file.get_slice(name)
            if slot.get_dtype() not in DTYPES:
                raise MismatchError(f"{path}: the tensor {name} is of the type {slot.get_dtype()}, which is not read")
            promises[name] = torch.empty(slot.get_shape(), dtype=DTYPES[slot.get_dtype()], device="meta")
    return promises


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
    problem = find_problem(path)
    if problem:
        raise InputError(f"there is no file {path} to read: {problem}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            yield file
    except safetensors.SafetensorError as error:
        raise MismatchError(f"{path} is not a whole safetensors file ({error}); make it again") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
