"""Safetensors files of tokens: their header, written by hand, and what is said of damaged ones.

By hand (8 bytes of length, JSON, bytes), because the library wants all tensors in memory.
"""

import contextlib
import hashlib
import math
import pathlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors

from tokcli.errors import InputError, MismatchError
from tokcli.files import sync
from tokcli.tokens.header import TokenHeader, dump_json, parse_json

LARGEST_HEADER = 100_000_000
"""Bytes; readers of the format refuse more."""


@dataclass(frozen=True)
class Written:
    """A file, in figures.

    Attributes:
        bytes: that it has.
        sha256: of them.
    """

    bytes: int
    sha256: str


def make_words(header: TokenHeader, metadata: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """The beginning of a file of tensors of these names and shapes, in the header's type, one behind another."""
    width, end = header.dtype.itemsize, 0
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * width
        entries[name] = {"dtype": f"U{8 * width}", "shape": shape, "data_offsets": [start, end]}
    words = dump_json(entries)
    words += b" " * (-len(words) % 8)
    return struct.pack("<Q", len(words)) + words


def write_tensors(path: pathlib.Path, words: bytes, tokens: Iterable[np.ndarray]) -> Written:
    """Write a file of this beginning and these tokens, and wait until it is on the disk."""
    digest, size = hashlib.sha256(words), len(words)
    with open(path, "wb") as file:
        file.write(words)
        for values in tokens:
            piece = values.tobytes()
            file.write(piece)
            digest.update(piece)
            size += len(piece)
        sync(file)
    return Written(size, digest.hexdigest())


def map_tensors(path: pathlib.Path) -> Any:
    """A safetensors file, opened. Raises MismatchError where it is none."""
    try:
        return safetensors.safe_open(path, framework="numpy")
    except safetensors.SafetensorError as error:
        raise MismatchError(f"{path} is not a whole safetensors file ({error}); encode again") from error


def get_tensor(file: Any, name: str, path: pathlib.Path) -> np.ndarray:
    """The tensor `name` of an opened file. Raises as `guard_tensor` says."""
    with guard_tensor(name, path):
        return file.get_tensor(name)


@contextlib.contextmanager
def guard_tensor(name: str, path: pathlib.Path) -> Iterator[None]:
    """For reading the tokens of the item `name`.

    Raises:
        InputError: where there is not enough memory, which is no fault of the file.
        MismatchError: where they are not there, or no tensor that numpy has.
    """
    try:
        yield
    except MemoryError as error:
        raise InputError(f"{path}: there is not enough memory to read the tokens of {name}") from error
    except Exception as error:  # of the library, or of numpy for a type that it does not know
        raise MismatchError(f"{path} does not hold the tokens of {name} ({error}); encode again") from error


def read_header(file: Any, path: pathlib.Path) -> TokenHeader:
    """The header in the metadata of an opened file. Raises MismatchError where there is none."""
    return TokenHeader.from_json(read_metadata(file, "header", path), path)


def read_metadata(file: Any, name: str, path: pathlib.Path) -> Any:
    """What an opened file says about `name`. Raises MismatchError where it was not written by tok encode."""
    metadata = file.metadata() or {}
    if not metadata.get("format", "").startswith("tok-tokens/"):
        raise MismatchError(f"{path} is a safetensors file, but was not written by tok encode")
    return parse_json(metadata.get(name, "null").encode(), path)
