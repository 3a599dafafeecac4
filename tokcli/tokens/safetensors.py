"""`X.safetensors`: one file with one tensor per item, of any grids, and the header in its metadata.

Written by hand (8 bytes of length, JSON, bytes), because the library wants all tensors in memory.
"""

import math
import pathlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import safetensors

from tokcli.data.items import Failure
from tokcli.errors import MismatchError, UsageError
from tokcli.files import move_into_place, sync
from tokcli.tokens.format import TokenFormat
from tokcli.tokens.header import FORMAT, TokenHeader, TokenRecord, dump_json, get_file_shape, parse_json, read_entries
from tokcli.tokens.reading import TokenReader
from tokcli.tokens.spool import Spool

LARGEST_HEADER = 100_000_000
"""Bytes; readers of the format refuse more."""


class Safetensors(TokenFormat):
    """A tensor (*grid) or, with several tokens per position, (*grid, groups) for each item, under the item's name."""

    name = "safetensors"
    suffix = ".safetensors"
    usage = "NAME.safetensors (any sizes)"

    def publish(self, spool: Spool, header: TokenHeader, path: pathlib.Path) -> None:
        """Write the file in the spool's folder and move it into place."""
        result = spool.folder / "result.safetensors"
        write_items(result, header, list(spool.records()), spool.failures(), spool.tokens())
        move_into_place(result, path)

    def open(self, path: pathlib.Path) -> TokenReader:
        """Map the file; each tensor is read when it is asked for."""
        file = map_tensors(path)
        header = read_header(file, path)
        records, failed = read_entries([read_metadata(file, name, path) for name in ("items", "failed")], path)
        if {record.item for record in records} != set(file.keys()):
            raise MismatchError(f"{path} holds other tensors than the items it lists; encode again")
        return TokenReader(path, header, records, failed, lambda index: get_tensor(file, records[index].item, path))

    def has_header(self, path: pathlib.Path) -> bool:
        """Whether its metadata is that of tokens; what cannot be opened is no generator's file either."""
        try:
            metadata = map_tensors(path).metadata() or {}
        except (MismatchError, OSError):
            return True
        return metadata.get("format", "").startswith("tok-tokens/")

    def check_names(self, path: pathlib.Path, names: Sequence[str]) -> None:
        """Each name stands in the header twice, beside about 250 bytes of sizes and offsets."""
        if sum(2 * len(name) + 250 for name in names) > LARGEST_HEADER:
            raise UsageError(f"{path}: {len(names)} items are too many for one .safetensors file; write to a folder")


def write_items(
    path: pathlib.Path,
    header: TokenHeader,
    records: Sequence[TokenRecord],
    failures: Iterable[Failure],
    tokens: Iterable[np.ndarray],
) -> None:
    """Write `tokens`, one array for each of `records`, as one safetensors file, and wait until it is on the disk."""
    entries: dict[str, object] = {
        "__metadata__": {
            "format": FORMAT,
            "header": dump_json(header.to_json()).decode(),
            "items": dump_json([record.to_json() for record in records]).decode(),
            "failed": dump_json([asdict(failure) for failure in failures]).decode(),
        }
    }
    kind = f"U{8 * header.dtype.itemsize}"
    end = 0
    for record in records:
        shape = get_file_shape(record, header.groups)
        start, end = end, end + math.prod(shape) * header.dtype.itemsize
        entries[record.item] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    words = dump_json(entries)
    words += b" " * (-len(words) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(words)) + words)
        for _, values in zip(records, tokens, strict=False):  # those of the records, the rest is another file's
            file.write(values.tobytes())
        sync(file)


def map_tensors(path: pathlib.Path) -> Any:
    """A safetensors file, opened. Raises MismatchError where it is none."""
    try:
        return safetensors.safe_open(path, framework="numpy")
    except safetensors.SafetensorError as error:
        raise MismatchError(f"{path} is not a whole safetensors file ({error}); encode again") from error


def get_tensor(file: Any, name: str, path: pathlib.Path) -> np.ndarray:
    """The tensor `name` of an opened file. Raises MismatchError where it is none that numpy has."""
    try:
        return file.get_tensor(name)
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
