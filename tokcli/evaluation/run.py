"""Judging a tokenizer over a source: every item goes through it as a user's would, and every metric sees every item.

Training judges itself with this, and so does `tok evaluate`, so their figures agree.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from scipy.special import stdtrit
from torch import Tensor

from tokcli.contracts import Item, Metric, RoundTrip, Source
from tokcli.data.items import Failure, group_items, read_items
from tokcli.errors import InputError
from tokcli.metrics import merge_states
from tokcli.progress import SILENT, Reporter

Gather = Callable[[dict[str, Tensor]], Sequence[dict[str, Tensor]]]
"""Collects tensors by name from every process, and every process gets all of them; shapes and names may differ."""


CONFIDENCE = 0.95
"""Of the interval about a paired difference."""

COVERS = (
    "The interval covers chance in the choice of items, for these very weights, and none in training: "
    "another seed may differ by more, and tok sweep repeats trainings."
)
"""For whoever reads that interval."""


class Judged(Protocol):
    """What can be judged: a tokenizer, or anything else that loses something on the way."""

    @property
    def device(self) -> torch.device:
        """Where it wants its signals."""

    def round_trip(self, signals: Tensor) -> RoundTrip:
        """signals: (batch, channels, *size) in [-1, 1] -> what came back."""


@dataclass(frozen=True)
class Example:
    """A signal and what came back, (channels, *size) on the CPU, for people to look at."""

    name: str
    reference: Tensor
    reconstruction: Tensor


@dataclass(frozen=True)
class Judgement:
    """Figures over a set, with what they depend on.

    metrics: by name; NaN where nothing could be scored. items: signals judged. failed: those that could not be read.
    unscored: by metric, the number of items it could not judge; absent where it judged all.
    names: of the items judged, in the order of the source. scores: by metric, the score of each of `names`, (items,),
        NaN where it could not be judged; only of metrics that judge items one by one.
    protocol: plain JSON values.
    """

    metrics: dict[str, float]
    items: int
    failed: Sequence[Failure]
    unscored: dict[str, int]
    protocol: dict[str, Any]
    examples: Sequence[Example]
    names: Sequence[str] = ()
    scores: dict[str, Tensor] = field(default_factory=dict)

    def unscored_items(self, metric: str) -> list[str]:
        """The names of the items that `metric` could not judge; empty where it does not judge items one by one."""
        if metric not in self.scores:
            return []
        return [self.names[place] for place in torch.isnan(self.scores[metric]).nonzero().flatten().tolist()]


@dataclass(frozen=True)
class Difference:
    """By how much one scores above another on the same items.

    items: that both have a score for. mean: over them; None where there are none.
    margin: the interval about the mean reaches this far to either side; None below two items.
    """

    items: int
    mean: float | None
    margin: float | None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.mean is not None and self.margin is not None and abs(self.mean) > self.margin


def paired_difference(scores: Tensor, reference: Tensor) -> Difference:
    """Both (items,), of the same items in one order, NaN where there is no score -> `scores` less `reference`.

    The interval is Student's for the mean of the differences: what items have in common with themselves cancels.
    """
    differences = scores.double() - reference.double()
    differences = differences[torch.isfinite(differences)]
    count = len(differences)
    if count < 2:
        return Difference(count, float(differences[0]) if count else None, None)
    spread = float(differences.std()) / math.sqrt(count)
    return Difference(count, float(differences.mean()), float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * spread)


def judge(
    tokenizer: Judged,
    source: Source,
    metrics: Mapping[str, Metric],
    *,
    items: int | None = None,
    batch_size: int = 8,
    workers: int | None = None,
    examples: int = 0,
    shard: tuple[int, int] = (0, 1),
    gather: Gather | None = None,
    reporter: Reporter = SILENT,
) -> Judgement:
    """Send the first `items` of `source` (None: all) through `tokenizer` and compute `metrics`.

    shard: this process and how many there are; each takes every so-manieth item, and `gather` brings states together.
    Raises InputError where not one item could be read.
    """
    rank, world = shard
    total = len(source) if items is None else min(items, len(source))
    indices = range(rank, total, world)
    failed: list[Failure] = []
    kept: list[Example] = []
    judged: list[int] = []
    digest = hashlib.sha256()
    with reporter.task("evaluating", len(indices), "items") as task:
        for places, group in _placed(group_items(read_items(source, workers, indices=indices), batch_size), indices):
            if isinstance(group, Failure):
                failed.append(group)
                task.advance()
                continue
            signals = torch.stack([item.signal for item in group]).to(tokenizer.device)
            round_trip = tokenizer.round_trip(signals)
            for metric in metrics.values():
                metric.update(round_trip)
            for place, item in enumerate(group):
                digest.update(item.name.encode() + item.signal.numpy().tobytes())
                if len(kept) < examples:
                    kept.append(Example(item.name, item.signal, round_trip.reconstruction[place].cpu()))
            judged += places
            task.advance(len(group))
    for metric in metrics.values():
        metric.finish()
    merged = _scores_in_order(judged, metrics, gather)
    _merge(metrics, gather)
    places = merged.pop("places").tolist()
    if not places:
        reason = f"; the first: {failed[0].item}: {failed[0].reason}" if failed else ""
        raise InputError(f"none of the {total} items could be read{reason}")
    protocol = {
        "data": dict(source.protocol()),
        "items": len(places),
        "dataset_sha256": digest.hexdigest() if world == 1 else None,
        "weights_precision": "float32",
        "metrics": {name: metric.protocol() for name, metric in metrics.items()},
    }
    return Judgement(
        metrics={name: metric.compute() for name, metric in metrics.items()},
        items=len(places),
        failed=failed,
        unscored={name: count for name, metric in metrics.items() if (count := metric.unscored)},
        protocol=protocol,
        examples=kept,
        names=[source.names[place] for place in places],
        scores=merged,
    )


def _placed(
    groups: Iterator[list[Item] | Failure], indices: Sequence[int]
) -> Iterator[tuple[list[int], list[Item] | Failure]]:
    """Each group with the indices of its items in the source, from which groups come in order."""
    first = 0
    for group in groups:
        count = 1 if isinstance(group, Failure) else len(group)
        yield list(indices[first : first + count]), group
        first += count


def _merge(metrics: Mapping[str, Metric], gather: Gather | None) -> None:
    """Give every metric the state over all processes."""
    if gather is not None:
        for metric in metrics.values():
            metric.state = merge_states(gather(metric.state))


def _scores_in_order(judged: Sequence[int], metrics: Mapping[str, Metric], gather: Gather | None) -> dict[str, Tensor]:
    """The scores that metrics gave to items, of all processes, in the order of the source; and `places`, their indices.

    judged: indices of the items that this process saw, in the order in which it saw them.
    """
    own = {"places": torch.tensor(judged, dtype=torch.int64)}
    own |= {name: scores for name, metric in metrics.items() if (scores := metric.item_scores()) is not None}
    parts = [own] if gather is None else gather(own)
    together = {name: torch.cat([part[name] for part in parts]) for name in own}
    order = together["places"].argsort()
    return {name: values[order] for name, values in together.items()}


def json_figures(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Figures as JSON can hold them: what is unknown is null."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}
