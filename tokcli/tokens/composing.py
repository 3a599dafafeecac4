"""From a finished spool to a token file: the three forms, streamed, and renamed into place when whole.

Memory grows with the names of the items, never with their tokens.
"""

import itertools
import json
import math
import os
import pathlib
import shutil
import struct
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import BinaryIO

from tokcli.data.items import Failure
from tokcli.files import move_into_place, sync
from tokcli.tokens.header import FORMAT, TokenHeader, TokenRecord, file_shape, sidecar_of
from tokcli.tokens.spool import Spool

NPY_PREAMBLE = 128
"""Bytes before the first token of a .npy file: a fixed width, so that tokens stream behind a header written last."""

MANIFEST = "manifest.jsonl"


def publish_npy(spool: Spool, header: TokenHeader, target: pathlib.Path) -> None:
    """Turn the spool itself into `target`, with its sidecar; the tokens are not copied."""
    assert spool.first is not None, "nothing was encoded"
    with open(spool.tokens_path, "r+b") as file:
        file.write(npy_preamble(header, (spool.written, *file_shape(spool.first, header.groups))))
        sync(file)
    sidecar = spool.tokens_path.with_name("sidecar.json")
    with open(sidecar, "wb") as file:
        _write_sidecar(file, spool, header)
        sync(file)
    # The tokens make the file look finished, so they come last, and never beside the sidecar of an older file.
    target.unlink(missing_ok=True)
    move_into_place(sidecar, sidecar_of(target))
    move_into_place(spool.tokens_path, target)


def npy_preamble(header: TokenHeader, shape: tuple[int, ...]) -> bytes:
    """The header of the .npy format, version 1.0, padded with spaces to NPY_PREAMBLE bytes."""
    words = f"{{'descr': '{header.dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
    length = NPY_PREAMBLE - 10
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + words.ljust(length - 1).encode("ascii") + b"\n"


def _write_sidecar(file: BinaryIO, spool: Spool, header: TokenHeader) -> None:
    """One JSON object with one line per item, written as the journal is read."""
    assert spool.first is not None, "nothing was encoded"
    about = {**header.to_json(), "dtype": header.dtype.name, "grid": spool.first.grid}
    file.write(_encoded(about)[:-1] + b',\n"failed": ' + _encoded([asdict(failure) for failure in spool.failures()]))
    file.write(b',\n"items": [')
    for index, record in enumerate(spool.records()):
        file.write((b",\n" if index else b"\n") + _encoded(asdict(record)))
    file.write(b"\n]}\n")


def publish_safetensors(spool: Spool, header: TokenHeader, target: pathlib.Path) -> None:
    """One safetensors file with one tensor per item."""
    result = spool.tokens_path.with_name("result.safetensors")
    with open(spool.tokens_path, "rb") as tokens:
        write_safetensors(result, header, list(spool.records()), spool.failures(), tokens)
    move_into_place(result, target)


def publish_folder(spool: Spool, header: TokenHeader, target: pathlib.Path, shard_items: int) -> None:
    """A folder of safetensors files of `shard_items` items, with a manifest of one line per item."""
    result, previous = (spool.tokens_path.with_name(name) for name in ("result", "previous"))
    for leftover in (result, previous):
        shutil.rmtree(leftover, ignore_errors=True)
    result.mkdir()
    with open(spool.tokens_path, "rb") as tokens, open(result / MANIFEST, "wb") as manifest:
        shards = math.ceil(spool.written / shard_items)
        manifest.write(_encoded({**header.to_json(), "items": spool.written, "shards": shards}) + b"\n")
        records = spool.records()
        for number in range(shards):
            name = f"shard-{number:05d}.safetensors"
            shard = list(itertools.islice(records, shard_items))
            write_safetensors(result / name, header, shard, [], tokens)
            manifest.writelines(_encoded({"shard": name, **asdict(record)}) + b"\n" for record in shard)
        manifest.writelines(_encoded(asdict(failure)) + b"\n" for failure in spool.failures())
        sync(manifest)
    if target.exists():
        os.rename(target, previous)
    move_into_place(result, target)


def write_safetensors(
    path: pathlib.Path,
    header: TokenHeader,
    records: Sequence[TokenRecord],
    failures: Iterable[Failure],
    tokens: BinaryIO,
) -> None:
    """Write the tokens that come next in `tokens`, those of `records`, as one whole safetensors file.

    The format by hand (8 bytes of length, JSON, bytes), because the library wants all tensors in memory.
    """
    entries: dict[str, object] = {
        "__metadata__": {
            "format": FORMAT,
            "header": _encoded(header.to_json()).decode(),
            "items": _encoded([asdict(record) for record in records]).decode(),
            "failed": _encoded([asdict(failure) for failure in failures]).decode(),
        }
    }
    end = 0
    for record in records:
        shape = file_shape(record, header.groups)
        start, end = end, end + math.prod(shape) * header.dtype.itemsize
        kind = f"U{8 * header.dtype.itemsize}"
        entries[record.item] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    words = _encoded(entries)
    words += b" " * (-len(words) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(words)) + words)
        _copy(tokens, file, end)
        sync(file)


def _copy(source: BinaryIO, target: BinaryIO, count: int) -> None:
    while count:
        block = source.read(min(count, 2**20))
        if not block:
            raise OSError(f"{source.name} is shorter than its journal says")
        target.write(block)
        count -= len(block)


def _encoded(values: object) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode()
