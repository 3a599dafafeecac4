"""What tokens add up to, shard by shard, so that nothing is read again: items, signal, the counts of codes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokcli.metrics.tokens import DENSE_CODES, count_tokens
from tokcli.tokens.header import TokenHeader, TokenRecord


@dataclass
class Tally:
    """Sums over items.

    Attributes:
        header: of their tokens.
        items: how many.
        grid: of all of them; None where they differ, or before the first.
        samples: of their signals.
        counts: how often each code occurs, (groups, codebook_size) int64; None before the first, and where there are
            too many to be counted.
    """

    header: TokenHeader
    items: int = 0
    grid: tuple[int, ...] | None = None
    samples: int = 0
    counts: Tensor | None = None

    def add(self, records: Sequence[TokenRecord], tokens: Sequence[np.ndarray]) -> None:
        """Take in items. tokens: (*grid, groups) of each."""
        for record in records:
            self.samples += math.prod(record.signal_size)
            self._join(1, record.grid)
        if tokens and is_counted(self.header):
            flat = np.concatenate([values.reshape(-1, self.header.groups) for values in tokens]).astype(np.int64)
            self._count(count_tokens(torch.from_numpy(flat), self.header.codebook_size))

    def to_json(self) -> dict[str, Any]:
        """Plain values: the codes that occur and how often, or the counts of all, whichever is shorter."""
        histogram = None if self.counts is None else [_spell_counts(row) for row in self.counts]
        return {"grid": self.grid, "samples": self.samples, "histogram": histogram}

    def add_json(self, items: int, values: Any) -> None:
        """Take in what `to_json` made of so many other items.

        Raises:
            ValueError: where it was made of other things.
        """
        if not items:
            return
        try:
            grid = tuple(values["grid"]) if values["grid"] is not None else None
            samples = int(values["samples"])
            rows = [_read_counts(row, self.header.codebook_size) for row in values["histogram"] or ()]
        except (TypeError, KeyError, RuntimeError, OverflowError) as error:
            raise ValueError(f"it is damaged: {error}") from error
        if len(rows) != (self.header.groups if is_counted(self.header) else 0):
            raise ValueError(f"it counts the codes of {len(rows)} groups, and there are {self.header.groups}")
        self.samples += samples
        self._join(items, grid)
        if rows:
            self._count(torch.stack(rows))

    def _join(self, items: int, grid: tuple[int, ...] | None) -> None:
        self.grid = grid if self.items == 0 or self.grid == grid else None
        self.items += items

    def _count(self, counts: Tensor) -> None:
        self.counts = counts if self.counts is None else self.counts + counts


def is_counted(header: TokenHeader) -> bool:
    """Whether codes are counted: of a codebook of millions, the counts would be longer than the tokens."""
    return header.codebook_size <= DENSE_CODES


def _spell_counts(row: Tensor) -> list[int] | dict[str, list[int]]:
    """The counts (codes,) of one group."""
    occurring = row.nonzero()[:, 0]
    if 2 * len(occurring) >= len(row):
        return row.tolist()
    return {"codes": occurring.tolist(), "counts": row[occurring].tolist()}


def _read_counts(values: Any, size: int) -> Tensor:
    if isinstance(values, list):
        dense = _read_whole(values)
        if dense.shape != (size,):
            raise ValueError(f"it counts {len(values)} codes, and there are {size}")
        return dense
    codes, counts = (_read_whole(values[name]) for name in ("codes", "counts"))
    if (
        codes.shape != counts.shape
        or codes.ndim != 1
        or (len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < size)
    ):
        raise ValueError("it counts codes that there are not")
    return torch.zeros(size, dtype=torch.int64).index_add(0, codes, counts)


def _read_whole(values: Any) -> Tensor:
    """Whole numbers as a tensor; by way of numpy, which takes a list four times as fast."""
    numbers = np.array(values)
    if len(numbers) and numbers.dtype != np.int64:
        raise ValueError("it counts in other things than whole numbers")
    return torch.from_numpy(numbers.astype(np.int64))
