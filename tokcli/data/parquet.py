"""`X.parquet`: pictures or sounds in a column of bytes, as Hugging Face datasets keep them, each row an item.

The column is `image` (or `audio`), a struct of `bytes` and `path`; `label`, `text` and whatever else the other columns
say in a word or a number is what is known of the item. Only these columns are read, a row group at a time: unpacked
once into the cache, from where each row is read by itself, in any order.

https://huggingface.co/docs/datasets/about_arrow and https://parquet.apache.org/docs/file-format describe the form.
"""

import bisect
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO

import numpy

from tokcli.contracts import make_mark
from tokcli.data.cache import recall
from tokcli.data.items import NumberedNames
from tokcli.data.named_files import Files
from tokcli.data.places import Place, measure, open_part
from tokcli.errors import InputError
from tokcli.optional import require
from tokcli.untrusted import check_plain, parse_json

COLUMNS = {"images": ("image", "Image"), "audio files": ("audio", "Audio")}
"""What the column of such files is called, and the type that Hugging Face's features give it."""

CAPTIONS = ("caption", "text")
"""Columns whose text is an item's caption; the first that there is."""

LARGEST_GROUP = 2**32
"""Bytes that one row group may unpack to."""

COLUMNS_NAMED = 20
"""Columns that a message names."""


class Parquet(Files):
    """The pictures or sounds in the rows of a parquet file.

    Raises:
        InputError: where it cannot be read, or has no such column or no row.
    """

    def __init__(self, path: str, suffixes: Sequence[str], noun: str) -> None:
        arrow = require("pyarrow.parquet", "parquet")
        try:
            self._place = measure(path)
            with open_part(self._place) as opened:
                file = arrow.ParquetFile(opened)
                metadata, self._schema = file.metadata, file.schema_arrow
            counts = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        except InputError as error:
            raise InputError(f"'{path}': {error}") from error
        except _list_damage() as error:
            raise InputError(f"'{path}': it is no parquet file, or cut off: {_shorten(error)}") from error
        self._firsts = self.starts = numpy.cumsum([0, *counts], dtype=numpy.int64)
        self._features = _read_features(self._schema)
        self._column = self._choose_column(path, noun)
        self._read = self._choose_read()
        if not self._firsts[-1]:
            raise InputError(f"'{path}' holds no {noun}: it has no rows")
        self.names = NumberedNames("", int(self._firsts[-1]), digits=8)
        self._told = self._choose_told()
        self._expected = [key for key, column in self._told.items() if _is_usual(metadata, column)]

    def opener(self, index: int) -> Callable[[], BinaryIO]:
        """What opens row `index`."""
        group, row = self._find(index)
        return partial(_open_row, self._place, group, row, self._column, self._read)

    def mark(self, items: range) -> str:
        """What changes when the file does."""
        return make_mark([f"{self._place.size} {self._place.mark} {items}"])

    def resolved(self, count: int | None = None) -> Iterator[str]:
        """The file and the number of each row."""
        url = self._place.resolved
        return (f"{url}:{row}" for row in range(len(self.names))[:count])

    def about(self, index: int) -> Mapping[str, Any]:
        """What the other columns say of row `index`."""
        group, row = self._find(index)
        rows = _load_rows(self._place, group, self._read)
        # -1 is how Hugging Face says that there is no label.
        said = {name: value for name in self._read[1:] if (value := rows.column(name)[row].as_py()) is not None}
        said = {name: value for name, value in said.items() if not isinstance(value, float) or math.isfinite(value)}
        for key, column in self._told.items():
            value = said.pop(column, None)
            said |= {key: value} if value is not None and not (key == "label" and value == -1) else {}
        said |= self._name_classes(said)
        try:
            check_plain(said, finite=True)
        except ValueError as error:
            raise InputError(f"its columns hold {error}") from error
        return said

    def lacks(self, index: int) -> Sequence[str]:
        """Whether row `index` has no label or caption where most others have one."""
        said = self.about(index) if self._expected else {}
        return [key for key in self._expected if key not in said]

    def _choose_read(self) -> tuple[str, ...]:
        """The columns that are read: that of the items, and those of plain values."""
        kinds = require("pyarrow", "parquet").types
        plain = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_string, kinds.is_large_string)
        others = [each.name for each in self._schema if any(is_kind(each.type) for is_kind in plain)]
        return (self._column, *(name for name in others if name != self._column))

    def _find(self, index: int) -> tuple[int, int]:
        """The row group of row `index`, and its number in it."""
        group = bisect.bisect_right(self._firsts, index) - 1
        return group, index - int(self._firsts[group])

    def _choose_column(self, path: str, noun: str) -> str:
        """The column of the items. Raises InputError, with those that there are."""
        usual, feature = COLUMNS.get(noun, ("file", "File"))
        others = [name for name, _ in COLUMNS.values() if name != usual]
        structs = [each.name for each in self._schema if _holds_bytes(each.type)]
        typed = [name for name in structs if _type_of(self._features.get(name)) == feature]
        free = [name for name in structs if name not in others and _type_of(self._features.get(name)) is None]
        binary = [each.name for each in self._schema if each.name == usual and _is_binary(each.type)]
        for names in ([usual] if usual in structs else [], typed, free, binary):
            if len(names) == 1:
                return names[0]
        there = ", ".join(f"{each.name} ({str(each.type)[:40]})" for each in list(self._schema)[:COLUMNS_NAMED])
        raise InputError(f"'{path}' has no column '{usual}' of a struct with `bytes`; there are: {there or 'none'}")

    def _choose_told(self) -> dict[str, str]:
        """Which columns are the label and the caption."""
        labels = [name for name, feature in self._features.items() if _type_of(feature) == "ClassLabel"]
        label = "label" if "label" in self._read else labels[0] if len(labels) == 1 else None
        caption = next((name for name in CAPTIONS if name in self._read), None)
        return {key: name for key, name in (("label", label), ("caption", caption)) if name in self._read and name}

    def _name_classes(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """What the schema calls the class of a numbered label."""
        column, label = self._told.get("label"), said.get("label")
        names = self._features.get(column or "", {}).get("names")
        if not isinstance(label, int) or not isinstance(names, list) or not 0 <= label < len(names):
            return {}
        return {"label_name": str(names[label])}


def _open_row(place: Place, group: int, row: int, column: str, columns: tuple[str, ...]) -> BinaryIO:
    """The bytes of a row, as a file. Raises InputError, with the reason, where there are none."""
    value = _load_rows(place, group, columns).column(column)[row]
    path = None
    if not _is_binary(value.type):
        path = value["path"].as_py() if value.is_valid and "path" in [each.name for each in value.type] else None
        value = value["bytes"] if value.is_valid else value
    if not value.is_valid:
        beside = f"; it names the file '{str(path)[:200]}', which is not in it" if path else ""
        raise InputError(f"the row has no bytes{beside}")
    return io.BytesIO(value.as_buffer())


def _load_rows(place: Place, group: int, columns: tuple[str, ...]) -> Any:
    """The rows of a row group, from the cache. Raises InputError where they are damaged."""
    arrow = require("pyarrow", "parquet")
    content = recall(f"rows 1 {group} {columns} {place.identity}", partial(_unpack_rows, place, group, columns))
    return arrow.ipc.open_file(arrow.py_buffer(content)).read_all()


def _unpack_rows(place: Place, group: int, columns: tuple[str, ...]) -> bytes:
    """A row group as an Arrow file."""
    arrow = require("pyarrow", "parquet")
    with open_part(place) as opened:
        try:
            file = require("pyarrow.parquet", "parquet").ParquetFile(opened)
            size = file.metadata.row_group(group).total_byte_size
            if size > LARGEST_GROUP:
                raise InputError(f"its row group has {size:,} bytes; write the file in groups of {LARGEST_GROUP:,}")
            rows = file.read_row_group(group, columns=list(columns), use_threads=False)
        except _list_damage() as error:
            raise InputError(f"row group {group} of the file is damaged: {_shorten(error)}") from error
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    return sink.getvalue().to_pybytes()


def _list_damage() -> tuple[type[Exception], ...]:
    """What pyarrow raises for a file that is damaged: its own errors, and those of reading and of text."""
    return (require("pyarrow", "parquet").ArrowException, OSError, UnicodeDecodeError)


def _read_features(schema: Any) -> dict[str, Any]:
    """What Hugging Face's metadata says of the columns; empty where it says nothing."""
    try:
        told = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = told["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return (
        {name: each for name, each in features.items() if isinstance(each, dict)} if isinstance(features, dict) else {}
    )


def _type_of(feature: Any) -> str | None:
    return feature.get("_type") if isinstance(feature, dict) else None


def _holds_bytes(kind: Any) -> bool:
    """Whether a column is of structs with `bytes`."""
    fields = list(kind) if require("pyarrow", "parquet").types.is_struct(kind) else []
    return any(each.name == "bytes" and _is_binary(each.type) for each in fields)


def _is_binary(kind: Any) -> bool:
    kinds = require("pyarrow", "parquet").types
    return kinds.is_binary(kind) or kinds.is_large_binary(kind)


def _is_usual(metadata: Any, column: str) -> bool:
    """Whether most rows have a value in this column; unless the file counts them, all have."""
    numbers = [number for number in range(metadata.num_columns) if metadata.schema.column(number).path == column]
    empty = 0
    for group in range(metadata.num_row_groups):
        told = metadata.row_group(group).column(numbers[0]).statistics if numbers else None
        empty += told.null_count if told is not None and told.has_null_count else 0
    return 2 * empty < metadata.num_rows


def _shorten(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
