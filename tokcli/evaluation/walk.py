"""The way of a source's items through a candidate, past every metric.

Items of one shape go together, as a batch. A long signal goes in parts, as they are read, so that memory does not grow
with its length; the candidate says what a part is.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tokcli.contracts import Candidate, Item, Metric, RoundTrip, Source, Stream
from tokcli.data.items import Failure, group_items, make_failure, read_items
from tokcli.errors import InputError
from tokcli.progress import Reporter

EXAMPLE_SAMPLES = 2**20
"""Of a signal that comes in parts, an example keeps its beginning: so many samples, or the first part; a minute."""


@dataclass(frozen=True)
class Example:
    """A signal and what came back, for people to look at.

    Attributes:
        name: Of the item.
        reference: (channels, *size) on the CPU; of a long signal the beginning.
        reconstruction: Of the same shape.
    """

    name: str
    reference: Tensor
    reconstruction: Tensor


class Walk:
    """One process's way over its part of a source.

    Attributes:
        seen: Indices of the items that it saw, in the order in which it saw them.
        failed: Items that could not be read.
        examples: The first items, before and after.
        digest: Of the names and signals of all items seen.
    """

    def __init__(self, candidate: Candidate, metrics: Mapping[str, Metric], keep: int) -> None:
        self.candidate = candidate
        self.metrics = metrics
        self.keep = keep
        self.seen: list[int] = []
        self.failed: list[Failure] = []
        self.examples: list[Example] = []
        self.digest = hashlib.sha256()

    def over(
        self, source: Source, indices: Sequence[int], batch_size: int, workers: int | None, reporter: Reporter
    ) -> None:
        """Take in the items at `indices`, and finish the metrics."""
        with reporter.task("evaluating", len(indices), "items") as task:
            groups = group_items(read_items(source, workers, indices=indices, streams=True), batch_size)
            for numbers, group in _add_indices(groups, indices):
                failure = group if isinstance(group, Failure) else self._take(group)
                if failure is not None:
                    self.failed.append(failure)
                else:
                    self.seen += numbers
                task.advance(len(numbers))
        for metric in self.metrics.values():
            metric.finish()

    def _take(self, group: Sequence[Item] | Stream) -> Failure | None:
        """Send items through the candidate and show every metric what came back; or why that cannot be done."""
        if isinstance(group, Stream):
            try:
                self._take_stream(group)
            except InputError as error:
                return make_failure(group.name, error)
        else:
            self._take_batch(group)
        return None

    def _take_stream(self, stream: Stream) -> None:
        """Take in one long item. Raises InputError, and leaves no trace, where it cannot be read to its end."""
        digest, beginning = self.digest.copy(), Beginning()
        digest.update(stream.name.encode())
        started = {name: metric.start_item() for name, metric in self.metrics.items()}
        for part in self.candidate.round_trip_parts(stream):
            digest.update(part.reference.cpu().numpy().tobytes())
            beginning.add(part)
            for parts in started.values():
                if parts is not None:
                    parts.add(part)
        for name, parts in started.items():
            if parts is not None:
                parts.finish()
            else:
                self.metrics[name].skip_item()
        self.digest = digest
        if len(self.examples) < self.keep:
            shown = beginning.join()
            self.examples.append(Example(stream.name, shown.reference[0], shown.reconstruction[0]))

    def _take_batch(self, group: Sequence[Item]) -> None:
        """Send items of one shape through the candidate and show every metric what came back."""
        round_trip = self.candidate.answer(group)
        for metric in self.metrics.values():
            metric.update(round_trip)
        for number, item in enumerate(group):
            self.digest.update(item.name.encode() + item.signal.numpy().tobytes())
            if len(self.examples) < self.keep:
                self.examples.append(Example(item.name, item.signal, round_trip.reconstruction[number].cpu()))


def _add_indices(
    groups: Iterator[list[Item] | Stream | Failure], indices: Sequence[int]
) -> Iterator[tuple[list[int], list[Item] | Stream | Failure]]:
    """Each group with the indices of its items in the source, from which groups come in order."""
    first = 0
    for group in groups:
        count = len(group) if isinstance(group, list) else 1
        yield list(indices[first : first + count]), group
        first += count


class Beginning:
    """The first parts of a long item, as they come, until there are `EXAMPLE_SAMPLES`; on the CPU."""

    def __init__(self) -> None:
        self._parts: list[RoundTrip] = []
        self._missing = EXAMPLE_SAMPLES

    @property
    def full(self) -> bool:
        """Whether it takes no more."""
        return self._missing <= 0

    def add(self, part: RoundTrip) -> None:
        """Keep a part where there is not enough yet."""
        if not self.full:
            self._parts.append(part)
            self._missing -= part.reference.shape[-1]

    def join(self) -> RoundTrip:
        """All that is kept, as one round trip."""
        references = torch.cat([part.reference.cpu() for part in self._parts], dim=-1)
        reconstructions = torch.cat([part.reconstruction.cpu() for part in self._parts], dim=-1)
        tokens = [part.tokens.cpu() for part in self._parts if part.tokens is not None]
        joined = torch.cat(tokens, dim=1) if tokens else None
        return replace(self._parts[0], reference=references, reconstruction=reconstructions, tokens=joined)
