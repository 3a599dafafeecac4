"""One shard of tokens in a safetensors file: where grids agree, one tensor of all its items, with their names once.

At 16×16 positions a tensor of its own costs an item three quarters of its tokens again; stacked, a few percent.
"""

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tokcli.data.items import Failure
from tokcli.errors import MismatchError, UsageError
from tokcli.tokens.header import (
    FORMAT,
    TokenHeader,
    TokenRecord,
    dump_json,
    get_file_shape,
    read_entries,
)
from tokcli.tokens.tensors import (
    LARGEST_HEADER,
    Written,
    get_tensor,
    guard_tensor,
    make_words,
    read_metadata,
    write_tensors,
)

LAYOUT, STACKED, TENSOR = "layout", "stacked", "tokens"


def write_shard(
    path: pathlib.Path,
    header: TokenHeader,
    records: Sequence[TokenRecord],
    failures: Iterable[Failure],
    tokens: Sequence[np.ndarray],
) -> Written:
    """Write a shard and wait until it is on the disk. tokens: (*grid, groups) of each record.

    Raises:
        UsageError: where the names and what is known of the items are more than such a file can hold.
    """
    metadata = {
        "format": FORMAT,
        "header": dump_json(header.to_json()).decode(),
        "failed": dump_json([asdict(failure) for failure in failures]).decode(),
    }
    if len({record.grid for record in records}) == 1:
        metadata |= {LAYOUT: STACKED, **_describe_stacked(records)}
        shapes = {TENSOR: (len(records), *get_file_shape(records[0], header.groups))}
    else:
        metadata["items"] = dump_json([record.to_json() for record in records]).decode()
        shapes = {record.item: get_file_shape(record, header.groups) for record in records}
    words = make_words(header, metadata, shapes)
    if len(words) > LARGEST_HEADER:
        raise UsageError(
            f"what is known of the {len(records)} items of {path.parent} is too much for one shard "
            f"({len(words):,} bytes); make shards of fewer: --shard-items {max(1, len(records) // 10)}"
        )
    return write_tensors(path, words, (values.astype(header.dtype) for values in tokens))


def _describe_stacked(records: Sequence[TokenRecord]) -> dict[str, str]:
    """Names, sizes (one where all agree) and whatever else is known, each as JSON."""
    sizes = {}
    for name in ("original_size", "signal_size"):
        values = [list(getattr(record, name)) for record in records]
        sizes[name] = values if any(value != values[0] for value in values) else values[0]
    about = [dict(record.about) for record in records]
    described = {"names": [record.item for record in records], "sizes": {"grid": list(records[0].grid), **sizes}}
    described |= {"about": about} if any(about) else {}
    return {name: dump_json(values).decode() for name, values in described.items()}


def is_stacked(file: Any) -> bool:
    """Whether an opened safetensors file is a shard of one tensor."""
    return (file.metadata() or {}).get(LAYOUT) == STACKED


def read_shard(
    file: Any, header: TokenHeader, path: pathlib.Path
) -> tuple[list[TokenRecord], list[Failure], Callable[[int], np.ndarray]]:
    """The items of an opened shard of either layout, those that failed, and what reads the tokens of item `index`.

    Raises:
        MismatchError: where it is damaged.
    """
    stacked = is_stacked(file)
    items = _list_stacked(file, path) if stacked else read_metadata(file, "items", path)
    records, failed = read_entries([items, read_metadata(file, "failed", path)], path)
    expected = {TENSOR} if stacked else {record.item for record in records}
    if set(file.keys()) != expected:
        raise MismatchError(f"{path} holds other tensors than the items it lists; encode again")
    if not stacked:
        return records, failed, lambda index: get_tensor(file, records[index].item, path)
    try:
        tensor = file.get_slice(TENSOR)
        count = tensor.get_shape()[0] if tensor.get_shape() else -1
    except Exception as error:  # of the library
        raise MismatchError(f"{path} does not hold its tokens ({error}); encode again") from error
    if count != len(records):
        raise MismatchError(f"{path} holds the tokens of {count} items and names {len(records)}; encode again")

    def fetch(index: int) -> np.ndarray:
        with guard_tensor(records[index].item, path):
            return np.asarray(tensor[index])

    return records, failed, fetch


def _list_stacked(file: Any, path: pathlib.Path) -> list[Mapping[str, Any]]:
    """The items of a stacked shard as the entries that every other token file has."""
    names, sizes = read_metadata(file, "names", path), read_metadata(file, "sizes", path)
    about = read_metadata(file, "about", path)
    if not isinstance(names, list) or not isinstance(sizes, dict) or not isinstance(about, list | None):
        raise MismatchError(f"{path} has a damaged list of items")
    count = len(names)
    columns = {name: _spread(sizes.get(name), count) for name in ("grid", "original_size", "signal_size")}
    columns |= {"about": about} if about is not None else {}
    if any(len(column) != count for column in columns.values()):
        raise MismatchError(f"{path} has a damaged list of items: {count} names, and not as many sizes")
    return [
        {"item": name, **dict(zip(columns, values, strict=True))}
        for name, *values in zip(names, *columns.values(), strict=True)
    ]


def _spread(values: Any, count: int) -> list[Any]:
    """A size for each item: the list, or the one size that all have."""
    if not isinstance(values, list) or not values:
        return []
    return values if isinstance(values[0], list) else [values] * count
