"""How many processes read ahead of a consumer, found out by its first batches.

Those are read by the consumer itself: how long an item takes to read, over how long it takes to compute, is how many
readers keep the consumer busy. More would take cores from it. Items and their order are the same by any number.
"""

import math
import time
from collections.abc import Iterator, Sequence

from tokcli.contracts import Item, Source, Stream
from tokcli.data.items import FEW_ITEMS, Failure, group_items, read_items
from tokcli.distributed import count_cores

FIRST_BATCHES = 3
"""The first warms up, and the last is measured: its time is that of a batch where batches are sent ahead, too."""

MARGIN = 1.25
"""Items differ in size, and handing one over takes time as well."""


class Readers:
    """Reads groups of items for one consumer; what it has found out stays from call to call.

    Args:
        processes: consumers that share this machine.
        cores: of this machine; None counts them.

    Attributes:
        most: readers, with a core each and one left for the consumer.
        chosen: readers that are needed; None before that is known.
    """

    def __init__(self, processes: int = 1, cores: int | None = None) -> None:
        self.most = max(0, (count_cores() if cores is None else cores) // processes - 1)
        self.chosen: int | None = None if self.most else 0

    def read(
        self, source: Source, indices: Sequence[int], size: int, streams: bool
    ) -> Iterator[list[Item] | Stream | Failure]:
        """Some items of a source, in order, as groups of one shape of at most `size`; whatever is no item in its place.

        Args:
            source: of the items.
            indices: which.
            size: of a group.
            streams: whether long items may come as streams.
        """
        if len(indices) <= FEW_ITEMS:
            yield from group_items(read_items(source, 0, indices=indices, streams=streams), size)
            return
        if self.chosen is None:
            first, indices = indices[: FIRST_BATCHES * size], indices[FIRST_BATCHES * size :]
            yield from self._measure(group_items(read_items(source, 0, indices=first, streams=streams), size))
        if len(indices):
            yield from group_items(read_items(source, self.chosen, indices=indices, streams=streams), size)

    def _measure(self, groups: Iterator[list[Item] | Stream | Failure]) -> Iterator[list[Item] | Stream | Failure]:
        """The groups as they are, and how many readers would keep up with who takes them."""
        reading, computing, items = 0.0, math.inf, 0
        while True:
            started = time.perf_counter()
            group = next(groups, None)
            read = time.perf_counter()
            reading += read - started
            if group is None:
                break
            yield group
            count = len(group) if isinstance(group, list) else 1
            items += count
            computing = (time.perf_counter() - read) / count
        self.chosen = choose_readers(reading / max(items, 1), computing, self.most)


def choose_readers(reading: float, computing: float, most: int) -> int:
    """The readers that keep a consumer busy, 1 at least, by the seconds that an item takes to read and to compute."""
    return max(1, min(most, math.ceil(MARGIN * reading / max(computing, 1e-9))))
