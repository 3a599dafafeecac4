"""JSON lines: 1d-tokenizer's `{"class_id": int, "tokens": [int, ...]}`, one line an item.

Its generators read `class_id` and `tokens` by line number; the keys behind them are this project's, for the way back.
"""

import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy

from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.exchange.base import (
    ExchangeFormat,
    ExchangeItem,
    Expected,
    TokenSet,
    choose_split,
    concatenate,
    name_part,
)
from tokcli.exchange.sequences import Layout, Order, SequenceLayout, check_range
from tokcli.schema import OpenShare
from tokcli.untrusted import parse_json


class JsonLines(ExchangeFormat):
    """A line of JSON for each item.

    Args:
        order: in which the positions of a grid are visited: raster, columns, snake or morton.
        layout: of several tokens a position: parallel (a list for each position), interleaved or delay.
        split: the share of items in `train.jsonl`; the others go to `val.jsonl`. None: all in one.
    """

    summary: ClassVar[str] = "1d-tokenizer's lines of class_id and tokens"
    file_suffix: ClassVar[str | None] = ".jsonl"

    def __init__(self, order: Order = "raster", layout: Layout = "parallel", split: OpenShare | None = None) -> None:
        self.order: Order = order
        self.layout: Layout = layout
        self.split = split

    def check(self, tokens: TokenSet) -> None:
        """Every set fits; items without a label have no class_id."""

    def describe(self, tokens: TokenSet) -> dict[str, Any]:
        """Order and layout."""
        return {"order": self.order, "layout": self.layout, "split": self.split}

    def write_part(self, items: Sequence[ExchangeItem], tokens: TokenSet, folder: pathlib.Path, part: int) -> None:
        """A file of lines for each split."""
        layout = self._layout(tokens.codebook_size, tokens.groups)
        for split in ("train", "val"):
            with open(folder / f"{name_part(part)}.{split}", "w", encoding="utf-8") as lines:
                for item in items:
                    if choose_split(item.name, self.split) == split:
                        lines.write(json.dumps(self._line(item, layout), ensure_ascii=False) + "\n")

    def _layout(self, codebook_size: int, groups: int) -> SequenceLayout:
        return SequenceLayout(codebook_size, groups, self.order, self.layout)

    def _line(self, item: ExchangeItem, layout: SequenceLayout) -> dict[str, Any]:
        if layout.groups > 1 and self.layout == "parallel":
            values = layout.order_tokens(item.tokens).tolist()
        else:
            values = layout.to_ids(item.tokens).tolist()
        label = {} if item.label is None else {"class_id": item.label}
        return label | {"tokens": values} | {key: value for key, value in item.to_json().items() if value}

    def join_parts(self, folder: pathlib.Path, parts: int, tokens: TokenSet, output: pathlib.Path) -> None:
        """`train.jsonl`, and `val.jsonl` where items are split."""
        for split in ("train", "val") if self.split is not None else ("train",):
            names = (folder / f"{name_part(part)}.{split}" for part in range(parts))
            concatenate(names, output / f"{split}.jsonl")

    def read(self, path: pathlib.Path, expected: Expected) -> Iterator[ExchangeItem]:
        """Items of one file, or of a folder with `train.jsonl`."""
        files = [path] if path.is_file() else sorted(path.glob("*.jsonl"))
        if not files:
            raise InputError(f"{path} holds no .jsonl file")
        number = 0
        for file in files:
            with open(file, encoding="utf-8") as lines:
                for line in lines:
                    if line.strip():
                        yield self._item(line, f"{file}, line {number + 1}", number, expected)
                        number += 1

    def _item(self, line: str, where: str, number: int, expected: Expected) -> ExchangeItem:
        try:
            entry = parse_json(line)
            values = numpy.array(entry["tokens"])
        except (ValueError, KeyError, TypeError) as error:
            raise MismatchError(f'{where}: expected a line such as {{"class_id": 3, "tokens": [5, 0]}}') from error
        if values.dtype.kind not in "iu" or not 1 <= values.ndim <= 2:
            raise MismatchError(f"{where}: its tokens are no list of integers")
        name = entry.get("name") or f"{number:05d}"
        layout = self._layout(expected.codebook_size, expected.groups)
        grid = tuple(entry["grid"]) if entry.get("grid") else None
        if values.ndim == 2:
            if values.shape[1] != expected.groups:
                raise UsageError(f"{where}: {values.shape[1]} tokens a position, the tokenizer has {expected.groups}")
            check_range(values, expected.codebook_size, name)
            tokens = layout.restore_order(values.astype(numpy.int64), grid or expected.find_grid(len(values), name))
        else:
            positions = len(values) // expected.groups - (expected.groups - 1 if layout.pad is not None else 0)
            tokens, _ = layout.to_tokens(values, grid or expected.find_grid(positions, name), name)
        sizes = {key: tuple(entry[key]) if entry.get(key) else None for key in ("original_size", "signal_size")}
        return ExchangeItem(name, tokens, **sizes, about=entry.get("about") or {}, label=entry.get("class_id"))
