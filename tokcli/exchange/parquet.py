"""Parquet: what Hugging Face datasets, and so torchtitan and most others, load by a folder's name.

The schema carries the features of `datasets` (ClassLabel with the names of the classes). CosyVoice's and DALL·E mini's
tables are the same columns under other names.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy

from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.exchange.base import (
    ExchangeFormat,
    ExchangeItem,
    Expected,
    TokenSet,
    choose_split,
    count_digits,
    name_part,
)
from tokcli.exchange.sequences import Layout, Order, SequenceLayout, check_range
from tokcli.optional import require
from tokcli.schema import OpenShare
from tokcli.spelling import nearest
from tokcli.untrusted import parse_json

COLUMNS = ("name", "tokens", "label", "caption", "grid", "original_size", "signal_size", "about")
SPLITS = {"train": "train", "val": "validation"}
"""Of files, by ours: what `datasets` calls the split that it reads from files of such a name."""

SCHEMA_KEY = b"tok"


class Parquet(ExchangeFormat):
    """A row for each item, in files of a split.

    Args:
        columns: other names for columns, as {tokens: speech_token, name: utt}.
        fixed: tokens as lists of one length, where all grids are equal, instead of lists of any length.
        order: in which the positions of a grid are visited: raster, columns, snake or morton.
        layout: of several tokens a position: parallel (a list for each position), interleaved or delay.
        split: the share of items that train; the others validate. None: all train.
    """

    summary: ClassVar[str] = "Hugging Face datasets, torchtitan; CosyVoice by --columns tokens=speech_token,name=utt"
    file_suffix: ClassVar[str | None] = ".parquet"

    def __init__(
        self,
        columns: dict[str, str] | None = None,
        fixed: bool = False,
        order: Order = "raster",
        layout: Layout = "parallel",
        split: OpenShare | None = None,
    ) -> None:
        self.columns = dict(columns or {})
        self.fixed = fixed
        self.order: Order = order
        self.layout: Layout = layout
        self.split = split

    def check(self, tokens: TokenSet) -> None:
        """Columns that exist, under names that differ; one grid where lists are to be of one length."""
        require("pyarrow", extra="export")
        for column in self.columns:
            if column not in COLUMNS:
                raise UsageError(f"--columns: there is no column '{column}'; {nearest(column, COLUMNS)}")
        names = [self._name(column) for column in COLUMNS]
        if len(set(names)) != len(names):
            raise UsageError(f"--columns: two columns would have one name: {', '.join(names)}")
        if self.fixed and tokens.grid is None:
            raise UsageError("--fixed: the items differ in grid, so their lists differ in length")

    def describe(self, tokens: TokenSet) -> dict[str, Any]:
        """Names, order and layout."""
        return {"columns": self.columns, "order": self.order, "layout": self.layout, "split": self.split}

    def _name(self, column: str) -> str:
        return self.columns.get(column, column)

    def _layout(self, codebook_size: int, groups: int) -> SequenceLayout:
        return SequenceLayout(codebook_size, groups, self.order, self.layout)

    def write_part(self, items: Sequence[ExchangeItem], tokens: TokenSet, folder: pathlib.Path, part: int) -> None:
        """A file for each split that has items."""
        import pyarrow.parquet

        for split in SPLITS:
            chosen = [item for item in items if choose_split(item.name, self.split) == split]
            if chosen or (split == "train" and part == 0):
                table = self._table(chosen, tokens)
                pyarrow.parquet.write_table(table, folder / f"{name_part(part)}.{split}", compression="zstd")

    def _table(self, items: Sequence[ExchangeItem], tokens: TokenSet) -> Any:
        import pyarrow

        schema = self._schema(tokens)
        layout = self._layout(tokens.codebook_size, tokens.groups)
        nested = tokens.groups > 1 and self.layout == "parallel"
        rows = [layout.order_tokens(item.tokens) if nested else layout.to_ids(item.tokens) for item in items]
        values: dict[str, list[Any]] = {
            "name": [item.name for item in items],
            "tokens": [list(row) for row in rows],
            "label": [item.label for item in items],
            "caption": [item.about.get("caption") for item in items],
            "grid": [list(item.grid) for item in items],
            "original_size": [item.original_size and list(item.original_size) for item in items],
            "signal_size": [item.signal_size and list(item.signal_size) for item in items],
            "about": [json.dumps(dict(item.about), ensure_ascii=False) if item.about else None for item in items],
        }
        arrays = [pyarrow.array(values[column], schema.field(self._name(column)).type) for column in COLUMNS]
        return pyarrow.Table.from_arrays(arrays, schema=schema)

    def _schema(self, tokens: TokenSet) -> Any:
        """Column types, with the features that `datasets` reads from the schema's metadata."""
        import pyarrow

        layout = self._layout(tokens.codebook_size, tokens.groups)
        flat = tokens.groups == 1 or self.layout != "parallel"
        largest = layout.first_free - 1 if flat else tokens.codebook_size - 1
        kind = "uint16" if largest <= numpy.iinfo("uint16").max else "int32"
        length = -1
        if self.fixed and tokens.grid is not None:
            length = layout.body_length(tokens.grid) // (1 if flat else tokens.groups)
        element = getattr(pyarrow, kind)()
        inner = element if flat else pyarrow.list_(element, tokens.groups)
        types = {
            "name": pyarrow.string(),
            "tokens": pyarrow.list_(inner, length) if length > 0 else pyarrow.list_(inner),
            "label": pyarrow.int64(),
            "caption": pyarrow.string(),
            "grid": pyarrow.list_(pyarrow.int32()),
            "original_size": pyarrow.list_(pyarrow.int64()),
            "signal_size": pyarrow.list_(pyarrow.int64()),
            "about": pyarrow.string(),
        }
        fields = [pyarrow.field(self._name(column), types[column]) for column in COLUMNS]
        features = self._features(kind, flat, length, tokens)
        own = {"columns": self.columns, "order": self.order, "layout": self.layout, "header": dict(tokens.header)}
        metadata = {b"huggingface": json.dumps({"info": {"features": features}}), SCHEMA_KEY: json.dumps(own)}
        return pyarrow.schema(fields, metadata=metadata)

    def _features(self, kind: str, flat: bool, length: int, tokens: TokenSet) -> dict[str, Any]:
        def value(dtype: str) -> dict[str, Any]:
            return {"dtype": dtype, "_type": "Value"}

        def sequence(feature: dict[str, Any], length: int = -1) -> dict[str, Any]:
            return {"feature": feature, "length": length, "_type": "List"}

        label = {"names": list(tokens.classes), "_type": "ClassLabel"} if tokens.classes else value("int64")
        inner = value(kind) if flat else sequence(value(kind), tokens.groups)
        features = {
            "name": value("string"),
            "tokens": sequence(inner, length),
            "label": label,
            "caption": value("string"),
            "grid": sequence(value("int32")),
            "original_size": sequence(value("int64")),
            "signal_size": sequence(value("int64")),
            "about": value("string"),
        }
        return {self._name(column): features[column] for column in COLUMNS}

    def join_parts(self, folder: pathlib.Path, parts: int, tokens: TokenSet, output: pathlib.Path) -> None:
        """`train-00000-of-00003.parquet` and so on."""
        for split, named in SPLITS.items():
            files = [path for part in range(parts) if (path := folder / f"{name_part(part)}.{split}").is_file()]
            width = count_digits(len(files))
            for number, path in enumerate(files):
                target = output / f"{named}-{number:0{width}}-of-{len(files):0{width}}.parquet"
                target.hardlink_to(path)

    def read(self, path: pathlib.Path, expected: Expected) -> Iterator[ExchangeItem]:
        """Items of one file or of all files of a folder; a generator's need no more than a column of tokens."""
        parquet = require("pyarrow.parquet", extra="export")
        files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
        if not files:
            raise InputError(f"{path} holds no .parquet file")
        number = 0
        for file in files:
            try:
                opened = parquet.ParquetFile(file)
            except (OSError, ValueError) as error:
                raise MismatchError(f"{file} is not a whole parquet file: {error}") from error
            own = parse_json((opened.schema_arrow.metadata or {}).get(SCHEMA_KEY, b"{}"))
            reader = Parquet(
                own.get("columns") or self.columns, False, own.get("order", self.order), own.get("layout", self.layout)
            )
            if reader._name("tokens") not in opened.schema_arrow.names:
                have = ", ".join(opened.schema_arrow.names)
                raise MismatchError(
                    f"{file} has no column '{reader._name('tokens')}' (it has: {have}); name it: --columns tokens=NAME"
                )
            for batch in opened.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    yield reader._item(row, number, expected)
                    number += 1

    def _item(self, row: Mapping[str, Any], number: int, expected: Expected) -> ExchangeItem:
        def get(column: str) -> Any:
            return row.get(self._name(column))

        name = get("name") or f"{number:05d}"
        values = numpy.array(get("tokens"))
        if values.dtype.kind not in "iu" or not 1 <= values.ndim <= 2:
            raise MismatchError(f"{name}: its tokens are no list of integers")
        layout = self._layout(expected.codebook_size, expected.groups)
        grid = tuple(get("grid")) if get("grid") else None
        if values.ndim == 2:
            check_range(values, expected.codebook_size, name)
            tokens = layout.restore_order(values.astype(numpy.int64), grid or expected.find_grid(len(values), name))
        else:
            positions = len(values) // expected.groups - (expected.groups - 1 if layout.pad is not None else 0)
            tokens, _ = layout.to_tokens(values, grid or expected.find_grid(positions, name), name)
        sizes = {key: tuple(get(key)) if get(key) else None for key in ("original_size", "signal_size")}
        about = parse_json(get("about")) if get("about") else {}
        return ExchangeItem(name, tokens, **sizes, about=about, label=get("label"))
