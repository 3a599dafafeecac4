"""The way of a source's items through a candidate, past every metric.

Items of one shape go together, as a batch. A long signal goes in parts, as they are read, so that memory does not grow
with its length; the candidate says what a part is.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tokcli.contracts import Candidate, Item, Metric, RoundTrip, Source, Stream
from tokcli.data.items import Failure, group_in_blocks, make_failure, read_items
from tokcli.errors import InputError
from tokcli.progress import Task

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
        failed: Items that could not be read, by their indices.
        examples: The first items, before and after.
        shown: Their indices.
        digest: Of the names and signals of all items seen.
    """

    def __init__(self, candidate: Candidate, metrics: Mapping[str, Metric], keep: int) -> None:
        self.candidate = candidate
        self.metrics = metrics
        self.keep = keep
        self.seen: list[int] = []
        self.failed: dict[int, Failure] = {}
        self.examples: list[Example] = []
        self.shown: list[int] = []
        self.digest = hashlib.sha256()

    def over(self, source: Source, indices: Sequence[int], batch_size: int, workers: int | None, task: Task) -> None:
        """Take in the items at `indices`, and finish the metrics."""
        readings = read_items(source, workers, indices=indices, streams=True)
        for numbers, group in group_in_blocks(readings, indices, batch_size):
            shown = len(self.examples)
            failure = group if isinstance(group, Failure) else self._take(group)
            self.shown += numbers[: len(self.examples) - shown]
            if failure is not None:
                self.failed[numbers[0]] = failure
            else:
                self.seen += numbers
            task.advance(len(numbers))
        for metric in self.metrics.values():
            metric.finish()

    def take_examples(self, gather: Callable[[Any], Sequence[Any]]) -> None:
        """Take over the first examples of the walks of all processes."""
        parts = gather(list(zip(self.shown, self.examples, strict=True)))
        together = sorted((pair for part in parts for pair in part), key=lambda pair: pair[0])
        self.shown, self.examples = ([pair[place] for pair in together[: self.keep]] for place in range(2))

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
        round_trip = replace(self.candidate.answer(group), about=[item.about for item in group])
        for metric in self.metrics.values():
            metric.update(round_trip)
        for number, item in enumerate(group):
            self.digest.update(item.name.encode() + item.signal.numpy().tobytes())
            if len(self.examples) < self.keep:
                self.examples.append(Example(item.name, item.signal, round_trip.reconstruction[number].cpu()))


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
