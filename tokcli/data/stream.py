"""The order in which training sees a source: endless, seeded, and resumed by nothing but the step number.

The batch of a step is a pure function of (seed, step). Each epoch is a seeded permutation of all items; batches run
on across the seam of two epochs, so every item is read once per epoch whatever the batch size. All ranks together
read one batch, so that the number of processes does not change what is learnt from.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tokcli.contracts import Item, Source
from tokcli.data.items import Failure, quiet_worker, read
from tokcli.errors import InputError, UsageError

PREFETCHED = 4
"""Batches that each worker reads ahead."""

ATTEMPTS = 16
"""Items tried in a row before training gives up on its data."""


@dataclass(frozen=True)
class Batch:
    """What one step of one rank reads.

    signals: (batch, channels, *size) float32 in [-1, 1]. failures: unreadable items, replaced by those after them.
    """

    signals: Tensor
    failures: list[Failure] = field(default_factory=list)

    def pin_memory(self) -> "Batch":
        """The same batch where a GPU can fetch it without waiting; called by the loader."""
        return Batch(self.signals.pin_memory(), self.failures)


class TrainingOrder:
    """Which (item, draw) each step reads.

    items: in the source. batch_size: of a step, over all ranks. rank, world: this process and how many there are;
        each reads its own contiguous share of the batch.
    Raises UsageError where the batch cannot be shared out evenly.
    """

    def __init__(self, items: int, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
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
        epoch, place = divmod(position, self._items)
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = numpy.random.default_rng([self._seed, epoch]).permutation(self._items)
        return int(self._permutation[place]), self._first_draw + epoch


def training_loader(
    source: Source,
    batch_size: int,
    seed: int,
    start_step: int,
    steps: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """The batches of steps `start_step` to `steps` - 1, read ahead by `workers` processes (0: read in this one).

    batch_size: over all ranks. Signals come in pinned memory where there is a CUDA device.
    Raises UsageError at once where the batch cannot be shared out evenly, and while it is read InputError where
    ATTEMPTS items in a row cannot be read or signals differ in shape.
    """
    order = TrainingOrder(len(source), batch_size, seed, rank, world)
    loader = DataLoader(
        _Batches(source, order),
        batch_size=None,
        sampler=range(start_step, steps),
        num_workers=workers,
        prefetch_factor=PREFETCHED if workers else None,
        worker_init_fn=quiet_worker,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # leaves the global generator, which training depends on, alone
    )
    return _unless_stopped(loader)


def _unless_stopped(loader: Iterable[Batch | str]) -> Iterator[Batch]:
    for batch in loader:
        if isinstance(batch, str):
            raise InputError(batch)
        yield batch


class _Batches(Dataset):
    """Steps to batches; a reason to stop is returned as its message, because it must cross processes unchanged."""

    def __init__(self, source: Source, order: TrainingOrder) -> None:
        self._source = source
        self._order = order

    def __getitem__(self, step: int) -> Batch | str:
        items, failures = [], []
        try:
            for index, draw in self._order.batch(step):
                items.append(_readable(self._source, index, draw, failures))
            return Batch(_stacked(items), failures)
        except InputError as error:
            return str(error)


def _readable(source: Source, index: int, draw: int, failures: list[Failure]) -> Item:
    """Item `index`, or the next one that can be read; those that cannot are added to `failures`."""
    attempts = min(ATTEMPTS, len(source))
    for attempt in range(attempts):
        reading = read(source, (index + attempt) % len(source), draw)
        if isinstance(reading, Item):
            return reading
        failures.append(reading)
    last = failures[-1]
    raise InputError(f"{attempts} items in a row cannot be read, the last is {last.item}: {last.reason}")


def _stacked(items: list[Item]) -> Tensor:
    first = items[0]
    for item in items:
        if item.signal.shape != first.signal.shape:
            raise InputError(
                f"{first.name} gives {tuple(first.signal.shape)} and {item.name} {tuple(item.signal.shape)}, but a "
                "training batch needs one shape; set `size` in the training data"
            )
    return torch.stack([item.signal for item in items])
