"""Reading a source in order, ahead of whoever consumes it: what encode and evaluate iterate over.

Worker processes decode while the consumer computes. Items arrive in order, and one that cannot be read arrives as a
`Failure` in its place instead of ending the work.
"""

import itertools
import signal
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tokcli.contracts import Item, Source, Stream
from tokcli.data.places import Troubles
from tokcli.distributed import count_cores
from tokcli.errors import InputError, UnreachableError
from tokcli.numerics import pack_levels, unpack_levels

T = TypeVar("T")


@dataclass(frozen=True)
class NumberedNames(Sequence[str]):
    """000000, 000001, ..., made when they are asked for: a billion take no memory.

    Attributes:
        beginning: Of all of them, before the number.
        total: How many there are.
        digits: Of a number, at least.
    """

    beginning: str
    total: int
    digits: int = 6

    def __len__(self) -> int:
        return self.total

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._name(number) for number in range(self.total)[index]]
        return self._name(range(self.total)[index])

    def _name(self, number: int) -> str:
        return f"{self.beginning}{number:0{self.digits}d}"


ITEMS_AT_ONCE = 8
"""Items handed over at a time, as one tensor: each tensor that crosses processes costs as much as decoding a third of a
small photograph."""

GROUPS_AHEAD = 1
"""So many times ITEMS_AT_ONCE does each worker read ahead; few, because images at native size are large."""

FEW_ITEMS = 16
"""Starting a process takes longer than reading this many items."""

MOST_WORKERS = 8
"""More than these read faster than one consumer takes."""


@dataclass(frozen=True)
class Failure:
    """An item that could not be read.

    Attributes:
        item: Its name.
        reason: Why, without its name.
    """

    item: str
    reason: str


class Unreached(Failure):
    """An item that could not be read because what holds it could not be: an archive, a server."""


@overload
def read_items(
    source: Source,
    workers: int | None = None,
    start: int = 0,
    indices: Sequence[int] | None = None,
    draw: int = 0,
    streams: Literal[False] = False,
) -> Iterator[Item | Failure]: ...
@overload
def read_items(
    source: Source,
    workers: int | None = None,
    start: int = 0,
    indices: Sequence[int] | None = None,
    draw: int = 0,
    *,
    streams: bool,
) -> Iterator[Item | Stream | Failure]: ...
def read_items(
    source: Source,
    workers: int | None = None,
    start: int = 0,
    indices: Sequence[int] | None = None,
    draw: int = 0,
    streams: bool = False,
) -> Iterator[Item | Stream | Failure]:
    """The items of `source` in order, each under `draw`, with decoding overlapped with the consumer's work.

    Args:
        source: What to read.
        workers: Processes that read; 0 reads in this one, None chooses.
        start: Items to skip.
        indices: Which items, and in which order, instead of all; `start` then skips among these.
        draw: Seeds what is random in all of them.
        streams: Whether the consumer takes a long item as a stream, which is then read by the consumer itself.
    """
    indices = range(len(source))[start:] if indices is None else indices[start:]
    workers = default_workers(len(indices)) if workers is None else workers
    if not workers:
        yield from (read_item(source, index, draw, streams) for index in indices)
        return
    loader = DataLoader(
        _GroupsOfItems(source, draw, streams),
        batch_size=None,
        sampler=[indices[first : first + ITEMS_AT_ONCE] for first in range(0, len(indices), ITEMS_AT_ONCE)],
        num_workers=workers,
        prefetch_factor=GROUPS_AHEAD,
        worker_init_fn=quiet_worker,
        generator=torch.Generator(),  # leaves the global generator, which training depends on, alone
    )
    for groups in loader:
        for group in groups:
            yield from group.items() if isinstance(group, _StackedItems) else [group]


def read_item(source: Source, index: int, draw: int = 0, streams: bool = False) -> Item | Stream | Failure:
    """Item `index`, or why it cannot be read; a stream of it where it is long and `streams` allows."""
    before = Troubles.count
    try:
        return source.load_or_stream(index, draw) if streams else source.load(index, draw)
    except InputError as error:
        try:
            name = source.names[index]
        except InputError:  # its archive is gone
            name = f"item {index}"
        return make_failure(name, error, before)


def make_failure(name: str, error: InputError, troubles: int | None = None) -> Failure:
    """What became of item `name`, by an error that may begin with that name.

    Args:
        name: of the item.
        error: which it met.
        troubles: how many were counted before it was read; None where it does not matter whose fault it was.
    """
    kind = Failure if troubles in (None, Troubles.count) else Unreached
    return kind(name, str(error).removeprefix(f"{name}: "))


def group_alike(things: Iterable[T], size: int, key: Callable[[T], Hashable]) -> Iterator[list[T]]:
    """Neighbours with equal keys as lists of at most `size`, in order."""
    group: list[T] = []
    shared: Hashable = None
    for thing in things:
        own = key(thing)
        if group and (own != shared or len(group) == size):
            yield group
            group = []
        group.append(thing)
        shared = own
    if group:
        yield group


@overload
def group_items(readings: Iterable[Item | Failure], size: int) -> Iterator[list[Item] | Failure]: ...
@overload
def group_items(readings: Iterable[Item | Stream | Failure], size: int) -> Iterator[list[Item] | Stream | Failure]: ...
def group_items(readings: Iterable[Item | Stream | Failure], size: int) -> Iterator[list[Item] | Stream | Failure]:
    """Neighbours of equal signal shape as lists of at most `size`; whatever is no item in its place, order kept."""
    for group in group_alike(readings, size, _shape_of):
        items = [reading for reading in group if isinstance(reading, Item)]
        if items:
            yield items
        else:
            yield from (reading for reading in group if not isinstance(reading, Item))


def require_reached(failures: Iterable[Failure]) -> None:
    """Raises UnreachableError where what holds an item cannot be read now, so that nothing is known of the item."""
    for failure in failures:
        if isinstance(failure, Unreached):
            raise UnreachableError(f"{failure.item}: {failure.reason}")


def list_blocks(total: int, batch_size: int, rank: int, world: int) -> list[int]:
    """The items of one process of several: of blocks of `batch_size` items, every `world`-th from `rank` on."""
    firsts = range(rank * batch_size, total, world * batch_size)
    return [index for first in firsts for index in range(first, min(total, first + batch_size))]


def group_in_blocks(
    readings: Iterable[Item | Stream | Failure], indices: Sequence[int], size: int
) -> Iterator[tuple[list[int], list[Item] | Stream | Failure]]:
    """What was read as groups of one shape, none across blocks of `size` items, with the indices of their items.

    So a batch is the same whatever the number of processes, and nothing computed from it differs in its last bits.
    """
    blocks = group_alike(zip(indices, readings, strict=True), size, lambda pair: pair[0] // size)
    for block in blocks:
        numbers = iter([index for index, _ in block])
        for group in group_items([reading for _, reading in block], size):
            count = len(group) if isinstance(group, list) else 1
            yield list(itertools.islice(numbers, count)), group


def _shape_of(reading: Item | Stream | Failure) -> Hashable:
    """An item's shape; None for what is no item."""
    return reading.signal.shape if isinstance(reading, Item) else None


def default_workers(items: int | None = None, processes: int = 1) -> int:
    """Worker processes to read with: a core each, one left for the consumer; 0 for few items.

    Args:
        items: How many there are; None: many.
        processes: How many consumers share this machine.
    """
    if items is not None and items <= FEW_ITEMS:
        return 0
    return max(0, min(MOST_WORKERS, count_cores() // processes - 1))


def quiet_worker(worker: int) -> None:
    """Leave Ctrl-C to the main process, which stops its workers; else each would print a traceback of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _report_unless_consumer_left


def _report_unless_consumer_left(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A consumer that is interrupted while it takes a tensor breaks the connection; the worker need not tell."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


@dataclass(frozen=True)
class _StackedItems:
    """Items of equal shape on their way between processes, with their signals in one tensor, packed."""

    names: list[str]
    signals: Tensor
    original_sizes: list[tuple[int, ...]]
    abouts: list[Mapping[str, Any]]
    returned: Tensor | None
    lacks: list[Sequence[str]]

    @classmethod
    def stack(cls, items: list[Item]) -> Self:
        signals = pack_levels(torch.stack([item.signal for item in items]))
        names, sizes = [item.name for item in items], [item.original_size for item in items]
        returned = [item.returned for item in items if item.returned is not None]
        stacked = torch.stack(returned) if returned else None
        return cls(names, signals, sizes, [item.about for item in items], stacked, [item.lacks for item in items])

    def items(self) -> Iterator[Item]:
        returned = [None] * len(self.names) if self.returned is None else self.returned
        return map(
            Item, self.names, unpack_levels(self.signals), self.original_sizes, self.abouts, returned, self.lacks
        )


class _GroupsOfItems(Dataset[Any]):
    """Several items of a source at a time, read or failed, ready to cross processes."""

    def __init__(self, source: Source, draw: int, streams: bool) -> None:
        self._source = source
        self._draw = draw
        self._streams = streams

    def __getitem__(self, index: Sequence[int]) -> list[_StackedItems | Stream | Failure]:
        readings = (read_item(self._source, number, self._draw, self._streams) for number in index)
        groups = group_items(readings, len(index))
        return [_StackedItems.stack(group) if isinstance(group, list) else group for group in groups]
