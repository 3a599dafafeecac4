"""From a grid of tokens to the flat sequence of ids that a language model reads, and back.

A sequence is `[bos] [label] body [eos]`. Its ids lie one behind another, so that no two things share one:
`offset` ids that are left to the generator's own vocabulary, the codes of every group, then the pad of a delayed
layout, bos, eos and the labels, as far as they are used.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy

from tokcli.errors import MismatchError, UsageError

Order = Literal["raster", "columns", "snake", "morton"]
Layout = Literal["parallel", "interleaved", "delay"]

ORDERS: tuple[Order, ...] = get_args(Order)
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


def scan_positions(grid: tuple[int, ...], order: Order) -> numpy.ndarray:
    """The positions of a grid in the order in which a sequence visits them.

    Args:
        grid: positions along each axis, (time,) or (height, width).
        order: `raster`: row by row; `columns`: column by column; `snake`: row by row, every second one backwards, so
            that neighbours in the sequence are neighbours in the picture; `morton`: the bits of row and column
            interleaved, so that near positions stay near at every scale. A sequence in time has one order, its own.

    Returns:
        (positions,) int64, numbers of positions in raster order.
    """
    numbers = numpy.arange(math.prod(grid)).reshape(grid)
    if len(grid) == 1 or order == "raster":
        return numbers.reshape(-1)
    if order == "columns":
        return numbers.T.reshape(-1)
    if order == "snake":
        numbers[1::2] = numbers[1::2, ::-1].copy()
        return numbers.reshape(-1)
    rows, columns = numpy.indices(grid)
    bits = max(1, (max(grid) - 1).bit_length())
    code = sum((((columns >> bit) & 1) << (2 * bit)) | (((rows >> bit) & 1) << (2 * bit + 1)) for bit in range(bits))
    return numpy.argsort(numpy.asarray(code).reshape(-1), kind="stable")


@dataclass(frozen=True)
class SequenceLayout:
    """How the tokens of an item become ids, and which ids mean what.

    Attributes:
        codebook_size: values of a token.
        groups: tokens of a position.
        order: in which positions are visited.
        layout: how the groups of a position share the sequence. `interleaved`: one behind another, each group with
            ids of its own; `delay`: the same with group g moved g positions on and the gaps padded, so that a position
            is predicted from the coarser groups of its neighbours (MusicGen); `parallel`: a row for each position.
        offset: ids before the first code.
        bos, eos: ids that begin and end each item; None: none.
        label_base: the id of label 0; None: labels are not in the sequence.
    """

    codebook_size: int
    groups: int
    order: Order = "raster"
    layout: Layout = "interleaved"
    offset: int = 0
    bos: int | None = None
    eos: int | None = None
    label_base: int | None = None

    @property
    def pad(self) -> int | None:
        """The id that fills the gaps of a delayed layout; None where there are none."""
        return self.offset + self.codebook_size * self.groups if self.layout == "delay" and self.groups > 1 else None

    @property
    def first_free(self) -> int:
        """The first id behind the codes and the pad."""
        return self.offset + self.codebook_size * self.groups + (self.pad is not None)

    def vocabulary_size(self, labels: int) -> int:
        """How many ids a model of these sequences needs, given how many labels there are."""
        used = [self.first_free - 1]
        used += [special for special in (self.bos, self.eos) if special is not None]
        used += [self.label_base + labels - 1] if self.label_base is not None else []
        return max(used) + 1

    def body_length(self, grid: tuple[int, ...]) -> int:
        """The ids of an item of this grid, without bos, label and eos."""
        positions = math.prod(grid)
        if self.pad is not None:
            positions += self.groups - 1
        return positions * self.groups

    def item_length(self, grid: tuple[int, ...]) -> int:
        """The ids of an item of this grid, all of them."""
        extra = sum(special is not None for special in (self.bos, self.eos, self.label_base))
        return self.body_length(grid) + extra

    def order_tokens(self, tokens: numpy.ndarray) -> numpy.ndarray:
        """tokens: (*grid, groups) -> (positions, groups) in the order of the sequence; no offsets."""
        grid = tokens.shape[:-1]
        return tokens.reshape(-1, self.groups)[scan_positions(grid, self.order)]

    def restore_order(self, rows: numpy.ndarray, grid: tuple[int, ...]) -> numpy.ndarray:
        """rows: (positions, groups) in the order of the sequence -> tokens: (*grid, groups)."""
        tokens = numpy.empty_like(rows)
        tokens[scan_positions(grid, self.order)] = rows
        return tokens.reshape(*grid, self.groups)

    def to_ids(self, tokens: numpy.ndarray, label: int | None = None) -> numpy.ndarray:
        """The flat sequence of one item.

        Args:
            tokens: (*grid, groups), below codebook_size.
            label: number of its class, where `label_base` asks for one.

        Returns:
            (ids,) int64.
        """
        rows = self.order_tokens(tokens).astype(numpy.int64)
        rows = rows + self.offset + self.codebook_size * numpy.arange(self.groups)
        if self.pad is not None:
            delayed = numpy.full((len(rows) + self.groups - 1, self.groups), self.pad, numpy.int64)
            for group in range(self.groups):
                delayed[group : group + len(rows), group] = rows[:, group]
            rows = delayed
        parts = [rows.reshape(-1)]
        if self.label_base is not None:
            if label is None:
                raise ValueError("a label is asked for, and the item has none")
            parts.insert(0, numpy.array([self.label_base + label]))
        if self.bos is not None:
            parts.insert(0, numpy.array([self.bos]))
        if self.eos is not None:
            parts.append(numpy.array([self.eos]))
        return numpy.concatenate(parts)

    def to_tokens(self, ids: numpy.ndarray, grid: tuple[int, ...], name: str) -> tuple[numpy.ndarray, int | None]:
        """The tokens (*grid, groups) and the label of one sequence, as `to_ids` lays it out.

        Raises:
            MismatchError: naming the item, where the ids are not those of such a sequence.
        """
        if len(ids) != self.item_length(grid):
            raise MismatchError(
                f"{name} has {len(ids)} ids, and a grid of {format_grid(grid)} takes {self.item_length(grid)}"
            )
        ids = ids.astype(numpy.int64)
        if self.bos is not None:
            _expect(name, "begins with", self.bos, int(ids[0]))
            ids = ids[1:]
        label = None
        if self.label_base is not None:
            label, ids = int(ids[0]) - self.label_base, ids[1:]
            if label < 0:
                raise MismatchError(f"{name} has the id {label + self.label_base} where its label belongs")
        if self.eos is not None:
            _expect(name, "ends with", self.eos, int(ids[-1]))
            ids = ids[:-1]
        rows = ids.reshape(-1, self.groups)
        if self.pad is not None:
            count = math.prod(grid)
            rows = numpy.stack([rows[group : group + count, group] for group in range(self.groups)], axis=1)
        rows = rows - self.offset - self.codebook_size * numpy.arange(self.groups)
        check_range(rows, self.codebook_size, name)
        return self.restore_order(rows, grid), label


def check_range(tokens: numpy.ndarray, codebook_size: int, name: str) -> None:
    """Raise MismatchError, naming the item, for tokens that are not below `codebook_size`."""
    low, high = (int(tokens.min()), int(tokens.max())) if tokens.size else (0, 0)
    if low < 0 or high >= codebook_size:
        raise MismatchError(
            f"{name} holds the token {low if low < 0 else high}, but the codebook has {codebook_size} codes "
            f"(0 to {codebook_size - 1})"
        )


def parse_grid(text: str) -> tuple[int, ...]:
    """`16x16` or `50` as positions along each axis. Raises UsageError for anything else."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(part.isdecimal() and len(part) < 10 and int(part) for part in parts):
        raise UsageError(f"--grid: expected positions as HxW, such as 16x16, or a number of frames; got '{text[:40]}'")
    return tuple(int(part) for part in parts)


def format_grid(grid: tuple[int, ...]) -> str:
    """`16×16`."""
    return "×".join(map(str, grid))


def _expect(name: str, where: str, expected: int, got: int) -> None:
    if got != expected:
        raise MismatchError(f"{name} {where} the id {got}, where {expected} was expected")
