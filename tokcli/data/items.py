"""Reading a source in order, ahead of whoever consumes it: what encode and evaluate iterate over.

Worker processes decode while the consumer computes. Items arrive in order, and one that cannot be read arrives as a
`Failure` in its place instead of ending the work.
"""

import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tokcli.contracts import Item, Source, Stream
from tokcli.errors import InputError

NEIGHBOURS = 8
"""Items handed over at a time, as one tensor: each tensor that crosses processes costs as much as decoding a third of a
small photograph."""

PREFETCHED = 1
"""Handfuls of neighbours that each worker reads ahead; few, because images at native size are large."""

FEW_ITEMS = 16
"""Starting a process takes longer than reading this many items."""


@dataclass(frozen=True)
class Failure:
    """An item that could not be read, and why, without its name."""

    item: str
    reason: str


def read_items(
    source: Source,
    workers: int | None = None,
    start: int = 0,
    indices: Sequence[int] | None = None,
    draw: int = 0,
    streams: bool = False,
) -> Iterator[Item | Stream | Failure]:
    """The items of `source` in order, each under `draw`, with decoding overlapped with the consumer's work.

    workers: processes that read; 0 reads in this one, None chooses. start: items to skip. indices: which items, and
    in which order, instead of all; `start` then skips among these. draw: seeds what is random in all of them.
    streams: whether the consumer takes a long item as a stream, which is then read by the consumer itself.
    """
    indices = range(len(source))[start:] if indices is None else indices[start:]
    workers = default_workers(len(indices)) if workers is None else workers
    if not workers:
        yield from (read(source, index, draw, streams) for index in indices)
        return
    loader = DataLoader(
        _Handfuls(source, draw, streams),
        batch_size=None,
        sampler=[indices[first : first + NEIGHBOURS] for first in range(0, len(indices), NEIGHBOURS)],
        num_workers=workers,
        prefetch_factor=PREFETCHED,
        worker_init_fn=quiet_worker,
        generator=torch.Generator(),  # leaves the global generator, which training depends on, alone
    )
    for handful in loader:
        for parcel in handful:
            yield from parcel.items() if isinstance(parcel, _Parcel) else [parcel]


def grouped(readings: Iterable[Item | Stream | Failure], batch_size: int) -> Iterator[list[Item] | Stream | Failure]:
    """Neighbours of equal signal shape as lists of at most `batch_size`; the rest in its place, order kept."""
    group: list[Item] = []
    for reading in readings:
        fits = isinstance(reading, Item) and (not group or reading.signal.shape == group[0].signal.shape)
        if group and not (fits and len(group) < batch_size):
            yield group
            group = []
        if isinstance(reading, Item):
            group.append(reading)
        else:
            yield reading
    if group:
        yield group


def read(source: Source, index: int, draw: int = 0, streams: bool = False) -> Item | Stream | Failure:
    """Item `index`, or why it cannot be read; a stream of it where it is long and `streams` allows."""
    try:
        return source.load_or_stream(index, draw) if streams else source.load(index, draw)
    except InputError as error:
        return failure_of(source.names[index], error)


def failure_of(name: str, error: InputError) -> Failure:
    """What became of item `name`, by an error that may begin with that name."""
    return Failure(name, str(error).removeprefix(f"{name}: "))


def default_workers(items: int | None = None, processes: int = 1) -> int:
    """Worker processes to read `items` with: a core each, one left for the consumer, at most 8; 0 for few items.

    processes: how many consumers share this machine.
    """
    if items is not None and items <= FEW_ITEMS:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(8, cores // processes - 1))


def quiet_worker(worker: int) -> None:
    """Leave Ctrl-C to the main process, which stops its workers; else each would print a traceback of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _report_unless_consumer_left


def _report_unless_consumer_left(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A consumer that is interrupted while it takes a tensor breaks the connection; the worker need not tell."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


@dataclass(frozen=True)
class _Parcel:
    """Items of equal shape on their way between processes, with their signals in one tensor."""

    names: list[str]
    signals: Tensor
    original_sizes: list[tuple[int, ...]]

    @classmethod
    def of(cls, items: list[Item]) -> "_Parcel":
        signals = torch.stack([item.signal for item in items])
        return cls([item.name for item in items], signals, [item.original_size for item in items])

    def items(self) -> Iterator[Item]:
        return map(Item, self.names, self.signals, self.original_sizes)


class _Handfuls(Dataset):
    """Several items of a source at a time, read or failed, ready to cross processes."""

    def __init__(self, source: Source, draw: int, streams: bool) -> None:
        self._source = source
        self._draw = draw
        self._streams = streams

    def __getitem__(self, indices: Sequence[int]) -> list[_Parcel | Stream | Failure]:
        readings = (read(self._source, index, self._draw, self._streams) for index in indices)
        groups = grouped(readings, len(indices))
        return [_Parcel.of(group) if isinstance(group, list) else group for group in groups]
