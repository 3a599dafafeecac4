"""The order in which training sees a source: endless, seeded, and resumed by nothing but the step number.

The batch of a step is a pure function of (seed, step). Each epoch is a seeded permutation of all items; batches run
on across the seam of two epochs, so every item is read once per epoch whatever the batch size. All ranks together
read one batch, so that the number of processes does not change what is learnt from.

Where items lie in shards (archives, row groups), the shards are permuted, then cut into windows of some of them, and
the items of a window permuted: readers need few shards at a time, and memory grows with the shards, not the items.
"""

import hashlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tokcli.contracts import Item, Source
from tokcli.data.items import Failure, make_failure, quiet_worker
from tokcli.errors import InputError, UsageError
from tokcli.numerics import pack_levels, unpack_levels

BATCHES_AHEAD = 4
"""Batches that each worker reads ahead."""

LARGEST_TABLE = 2**24
"""Items of which an epoch's permutation is kept as a table, 128 MB; of more, it is computed place by place."""

WINDOW = 2**17
"""Items, about, among which those of shards are permuted: 13 GB of pictures of 100 kB."""

FEWEST_SHARDS = 4
"""In a window, whatever they hold."""

ROUNDS = 6
"""Of the Feistel network that permutes more items; four already look random."""

ATTEMPTS = 16
"""Items tried in a row before training gives up on its data."""


@dataclass(frozen=True)
class Batch:
    """What one step of one rank reads.

    Attributes:
        packed: (batch, channels, *size), signals or, of images of 8 bits, their levels in uint8 (`pack_levels`).
        failures: Unreadable items, replaced by those after them.
    """

    packed: Tensor
    failures: list[Failure] = field(default_factory=list)

    @property
    def signals(self) -> Tensor:
        """(batch, channels, *size) float32 in [-1, 1], where they were read."""
        return unpack_levels(self.packed)

    def move(self, device: torch.device) -> Tensor:
        """The signals on a device, to which they go as they are packed, without waiting."""
        return unpack_levels(self.packed.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The same batch where a GPU can fetch it without waiting; called by the loader."""
        return Batch(self.packed.pin_memory(), self.failures)


class TrainingOrder:
    """Which (item, draw) each step reads.

    Args:
        items: In the source.
        batch_size: Of a step, over all ranks.
        seed: Another seed is another order with other draws.
        rank: This process, which reads its own contiguous share of each batch.
        world: How many processes there are.
        starts: The number of the first item of each shard, and at the end how many items there are; None where items
            lie in no shards.

    Raises:
        UsageError: The batch cannot be shared out evenly.
    """

    def __init__(
        self,
        items: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        starts: Sequence[int] | NDArray[numpy.int64] | None = None,
    ) -> None:
        if batch_size % world:
            raise UsageError(
                f"a batch of {batch_size} cannot be split over {world} processes; use a multiple of {world}"
            )
        self._items = items
        self._batch_size = batch_size
        self._seed = seed
        self._rank = rank
        self._world = world
        self._first_draw = int(numpy.random.default_rng(seed).integers(1, 2**62))
        self._starts = None if starts is None else numpy.asarray(starts, numpy.int64)
        self._windows: _Windows | None = None
        self._epoch = -1
        self._permutation = numpy.empty(0, dtype=numpy.int64)

    def batch(self, step: int) -> list[tuple[int, int]]:
        """The (index, draw) pairs of a step, counted from 0.

        Draws differ between epochs and between seeds, and are never 0, the draw of evaluation.
        """
        share = self._batch_size // self._world
        first = step * self._batch_size + self._rank * share
        return [self._read_at(position) for position in range(first, first + share)]

    def _read_at(self, position: int) -> tuple[int, int]:
        """The pair at a position of the endless sequence of epochs."""
        epoch, number = divmod(position, self._items)
        if self._starts is not None:
            if self._windows is None or epoch != self._windows.epoch:
                self._windows = _Windows(self._starts, self._seed, epoch)
            return self._windows.read_at(number), self._first_draw + epoch
        if self._items > LARGEST_TABLE:
            return permute(number, self._items, self._seed, epoch), self._first_draw + epoch
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = numpy.random.default_rng([self._seed, epoch]).permutation(self._items)
        return int(self._permutation[number]), self._first_draw + epoch


class _Windows:
    """The order of one epoch of items that lie in shards.

    Args:
        starts: The first item of each shard, and at the end how many there are: (shards + 1,).
        seed: Of the order.
        epoch: Counted from 0.
    """

    def __init__(self, starts: NDArray[numpy.int64], seed: int, epoch: int) -> None:
        self.epoch = epoch
        self._seed = seed
        sizes = numpy.diff(starts)
        self._shards = numpy.random.default_rng([seed, epoch]).permutation(len(sizes))
        self._starts = starts[self._shards]
        self._ends = numpy.cumsum(sizes[self._shards])
        shards = max(FEWEST_SHARDS, -(-WINDOW * len(sizes) // int(starts[-1])))
        self._window_ends = numpy.append(self._ends[shards - 1 : -1 : shards], self._ends[-1])
        self._window = -1
        self._permutation = numpy.empty(0, dtype=numpy.int64)

    def read_at(self, number: int) -> int:
        """The item that is read as number `number` of the epoch."""
        window = int(numpy.searchsorted(self._window_ends, number, "right"))
        first = int(self._window_ends[window - 1]) if window else 0
        place = first + self._permute(number - first, int(self._window_ends[window]) - first, window)
        shard = int(numpy.searchsorted(self._ends, place, "right"))
        before = int(self._ends[shard - 1]) if shard else 0
        return int(self._starts[shard]) + place - before

    def _permute(self, number: int, items: int, window: int) -> int:
        if items > LARGEST_TABLE:
            return permute(number, items, self._seed, (self.epoch << 40) + window + 1)
        if window != self._window:
            self._window = window
            self._permutation = numpy.random.default_rng([self._seed, self.epoch, window]).permutation(items)
        return int(self._permutation[number])


def permute(number: int, items: int, seed: int, epoch: int) -> int:
    """Where a pseudo-random permutation of range(items) carries `number`, without a table of it.

    A Feistel network permutes the numbers of an even count of bits, at least `items` and less than 4·items of them;
    what falls behind the last item is permuted again until it falls before it (cycle walking, Black and Rogaway 2002).
    """
    half = max(1, (items - 1).bit_length() + 1 >> 1)
    mask = (1 << half) - 1
    while True:
        left, right = number >> half, number & mask
        for turn in range(ROUNDS):
            digest = hashlib.blake2b(f"{seed} {epoch} {turn} {right}".encode(), digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(digest, "little") & mask)
        number = left << half | right
        if number < items:
            return number


def open_training_loader(
    source: Source,
    batch_size: int,
    seed: int,
    start_step: int,
    steps: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> Generator[Batch]:
    """The batches of steps `start_step` to `steps` - 1. Signals come in pinned memory where there is a CUDA device.

    Args:
        source: What to read.
        batch_size: Of a step, over all ranks.
        seed: Of the order and the draws.
        start_step: The first step that is read, counted from 0.
        steps: Of the whole training.
        rank: This process.
        world: How many processes there are.
        workers: Processes that read ahead; 0 reads in this one.

    Raises:
        UsageError: At once, where the batch cannot be shared out evenly.
        InputError: While reading, where ATTEMPTS items in a row cannot be read or signals differ in shape.
    """
    order = TrainingOrder(len(source), batch_size, seed, rank, world, source.starts)
    loader = DataLoader(
        _Batches(source, order),
        batch_size=None,
        sampler=range(start_step, steps),
        num_workers=workers,
        prefetch_factor=BATCHES_AHEAD if workers else None,
        worker_init_fn=quiet_worker,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # leaves the global generator, which training depends on, alone
    )
    return _raise_problems(loader)


def _raise_problems(loader: Iterable[Batch | str]) -> Generator[Batch]:
    """The batches of a loader; a reason to stop is raised as the InputError that it was in the worker."""
    for batch in loader:
        if isinstance(batch, str):
            raise InputError(batch)
        yield batch


class _Batches(Dataset[Any]):
    """A batch for each step; a reason to stop is returned as its message, because it must cross processes unchanged."""

    def __init__(self, source: Source, order: TrainingOrder) -> None:
        self._source = source
        self._order = order

    def __getitem__(self, index: int) -> Batch | str:
        failures: list[Failure] = []
        try:
            pairs = self._order.batch(index)
            items = [_read_next(self._source, first, draw, failures) for first, draw in pairs]
            signals = _stack(items)
            return Batch(pack_levels(signals) if self._source.modality == "image" else signals, failures)
        except InputError as error:
            return str(error)


def _read_next(source: Source, index: int, draw: int, failures: list[Failure]) -> Item:
    """Item `index`, or the next one that can be read; those that cannot are added to `failures`."""
    attempts = min(ATTEMPTS, len(source))
    for attempt in range(attempts):
        number = (index + attempt) % len(source)
        try:
            return source.load(number, draw)
        except InputError as error:
            failures.append(make_failure(source.names[number], error))
    last = failures[-1]
    raise InputError(f"{attempts} items in a row cannot be read, the last is {last.item}: {last.reason}")


def _stack(items: list[Item]) -> Tensor:
    """Signals of one shape as (batch, channels, *size)."""
    first = items[0]
    for item in items:
        if item.signal.shape != first.signal.shape:
            raise InputError(
                f"{first.name} gives {tuple(first.signal.shape)} and {item.name} {tuple(item.signal.shape)}, but a "
                "training batch needs one shape; set `size` in the training data"
            )
    return torch.stack([item.signal for item in items])
