"""Token files as sequences of ids for a language model: what fits its context, each token counted once.

A sequence is a start and the codes of an item in raster order, the groups of a position one behind another, each with
ids of its own. The start is the item's class where items have classes, else one id for all. Items beyond the context
are cut into tiles of one shape (pictures) or stretches of one length (sounds). Where these do not divide an item, the
last one begins earlier: the tokens that it shares with the one before are seen and not counted again.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

IGNORED = -100
"""The target of a position behind the end of its sequence."""


@dataclass(frozen=True)
class Piece:
    """A part of an item that fits the context.

    Attributes:
        item: its number.
        start: first position along each axis.
        shape: positions along each axis.
        fresh: the first position along each axis, from `start`, that no earlier piece has counted.
    """

    item: int
    start: tuple[int, ...]
    shape: tuple[int, ...]
    fresh: tuple[int, ...]


def cut_grid(grid: tuple[int, ...], groups: int, context: int, item: int = 0) -> list[Piece]:
    """The pieces of an item of this grid, as few and as square as the context allows.

    Args:
        grid: positions along each axis, (time,) or (height, width).
        groups: tokens of a position.
        context: tokens of a piece, at most.
        item: its number.
    """
    most = max(1, context // groups)
    if math.prod(grid) <= most:
        shape = grid
    elif len(grid) == 1:
        shape = (most,)
    else:
        height = min(grid[0], math.isqrt(most))
        width = min(grid[1], most // height)
        shape = (min(grid[0], most // width), width)
    axes = [_cut_axis(length, part) for length, part in zip(grid, shape, strict=True)]
    return [
        Piece(item, tuple(start for start, _ in corner), shape, tuple(fresh for _, fresh in corner))
        for corner in itertools.product(*axes)
    ]


def _cut_axis(length: int, part: int) -> list[tuple[int, int]]:
    """Where pieces begin, and how much of each an earlier one has counted."""
    cuts = [(start, 0) for start in range(0, length - part + 1, part)]
    counted = cuts[-1][0] + part
    return cuts if counted == length else [*cuts, (length - part, counted - (length - part))]


class Sequences:
    """Items as sequences.

    Args:
        items: tokens (*grid, groups) of each.
        labels: the class of each; None: there are no classes.
        codebook_size: values of a token.
        context: tokens of a sequence, at most.

    Attributes:
        pieces: of all items, in order; sequence number N is piece number N.
        tokens: in all items.
    """

    def __init__(
        self, items: Sequence[numpy.ndarray], labels: Sequence[int] | None, codebook_size: int, context: int
    ) -> None:
        self.items = items
        self.labels = labels
        self.codebook_size = codebook_size
        self.groups = items[0].shape[-1]
        self.first_start = codebook_size * self.groups
        self.tokens = sum(item.size for item in items)
        self.pieces = [
            piece
            for number, item in enumerate(items)
            for piece in cut_grid(item.shape[:-1], self.groups, context, number)
        ]

    def __len__(self) -> int:
        return len(self.pieces)

    def read_tokens(self, index: int) -> numpy.ndarray:
        """The tokens of a sequence as they lie in the item, (*shape, groups)."""
        piece = self.pieces[index]
        area = tuple(slice(at, at + length) for at, length in zip(piece.start, piece.shape, strict=True))
        return self.items[piece.item][area]

    def read_ids(self, index: int) -> numpy.ndarray:
        """(ids,) int64 of a sequence, its start left out."""
        tokens = self.read_tokens(index).astype(numpy.int64)
        return (tokens + self.codebook_size * numpy.arange(self.groups)).reshape(-1)

    def find_counted(self, index: int) -> numpy.ndarray:
        """(ids,) bool: which ids of a sequence are counted in it and in no other."""
        piece = self.pieces[index]
        counted = numpy.zeros((*piece.shape, self.groups), bool)
        counted[tuple(slice(fresh, None) for fresh in piece.fresh)] = True
        return counted.reshape(-1)

    def find_start(self, index: int) -> int:
        """The id that a sequence starts with."""
        return self.first_start + (self.labels[self.pieces[index].item] if self.labels is not None else 0)

    def collate(self, indices: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Sequences for a network: what it reads, what it predicts, and which predictions are counted.

        Returns:
            inputs (batch, length) int64, targets of the same shape with IGNORED behind each end, counted bool.
        """
        rows = [self.read_ids(index) for index in indices]
        length = max(map(len, rows))
        inputs = torch.zeros((len(rows), length), dtype=torch.int64)
        targets = torch.full((len(rows), length), IGNORED, dtype=torch.int64)
        counted = torch.zeros((len(rows), length), dtype=torch.bool)
        for number, (index, row) in enumerate(zip(indices, rows, strict=True)):
            ids = torch.from_numpy(row)
            inputs[number, 0] = self.find_start(index)
            inputs[number, 1 : len(row)] = ids[:-1]
            targets[number, : len(row)] = ids
            counted[number, : len(row)] = torch.from_numpy(self.find_counted(index))
        return inputs, targets, counted


def choose_batch(sequences: int, batch_size: int, step: int, seed: int) -> list[int]:
    """The sequences of a step: every epoch is another order of all, as a pure function of its arguments."""
    chosen = []
    for number in range(step * batch_size, (step + 1) * batch_size):
        epoch, place = divmod(number, sequences)
        chosen.append(int(_order(sequences, seed, epoch)[place]))
    return chosen


_orders: dict[tuple[int, int, int], numpy.ndarray] = {}


def _order(sequences: int, seed: int, epoch: int) -> numpy.ndarray:
    """All sequences in the order of an epoch; the latest two orders are kept."""
    key = (sequences, seed, epoch)
    if key not in _orders:
        while len(_orders) > 1:
            del _orders[next(iter(_orders))]
        _orders[key] = numpy.random.default_rng([seed, epoch]).permutation(sequences)
    return _orders[key]
