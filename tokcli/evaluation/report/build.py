"""What a report shows, before it is a page: the scores, and some items with what every candidate made of them."""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tokcli.contracts import Candidate, Item, RoundTrip, Stream
from tokcli.data.modality import MODALITIES, Modality
from tokcli.evaluation.run import Scores, make_json_figures
from tokcli.evaluation.walk import Beginning
from tokcli.files import replacing
from tokcli.metrics import METRICS
from tokcli.progress import Reporter

SPREAD = "one of an even spread"
"""Why an item is shown that is neither among the worst nor among the best."""


@dataclass(frozen=True)
class Returned:
    """What a candidate made of an item.

    Attributes:
        reconstruction: (channels, *size).
        tokens: (*grid, groups); None where it makes none.
        codes: (*grid, dim), the latents that the tokens stand for; None where there are none.
        scores: By each of the report's metrics; None where it could not be scored.
    """

    reconstruction: Tensor
    tokens: Tensor | None
    codes: Tensor | None
    scores: Mapping[str, float | None]


@dataclass(frozen=True)
class ShownItem:
    """An item before and after.

    Attributes:
        name: Of the item.
        ranks: By the metric that items are ranked by (empty: none is): its place among those shown, and why.
        reference: (channels, *size).
        returned: One for each row of the report, in their order.
    """

    name: str
    ranks: Mapping[str, tuple[int, str]]
    reference: Tensor
    returned: Sequence[Returned]


@dataclass(frozen=True)
class Report:
    """All of a page.

    Attributes:
        rows: Scores on the same data, the one that others are compared with first.
        ranking: The metrics that items are ranked by, the usual one first; empty where none scores items.
        shown: Items to look at.
    """

    rows: Sequence[Scores]
    ranking: Sequence[str]
    shown: Sequence[ShownItem]

    @property
    def first(self) -> Scores:
        """The first row, which stands for what all rows have in common."""
        return self.rows[0]

    @property
    def modality(self) -> Modality:
        """Of the data."""
        return MODALITIES[self.first.candidate.modality]

    @property
    def sample_rate(self) -> int | None:
        """Of audio, in Hz."""
        return self.first.candidate.sample_rate

    @property
    def distortions(self) -> list[str]:
        """The metrics that are drawn over the rate: those that judge signals and not tokens."""
        return [name for name in self.first.metrics if not METRICS[name].needs_tokens]


def collect_report(rows: Sequence[Scores], count: int, reporter: Reporter) -> Report:
    """The report about `rows`, all of the same data, with `count` items a metric sent through every candidate again."""
    ranking = [name for name in rows[0].metrics if all(name in row.item_scores for row in rows)]
    chosen = choose_for_each(rows, ranking, count)
    shown = []
    with reporter.task("reporting", len(chosen), "items") as task:
        for name, ranks in chosen.items():
            shown.append(_show_item(name, ranks, rows, ranking))
            task.advance()
    return Report(rows, ranking, shown)


def choose_for_each(
    rows: Sequence[Scores], ranking: Sequence[str], count: int
) -> dict[str, dict[str, tuple[int, str]]]:
    """The items to show: for each metric its worst and its best, and for all of them the same even spread.

    Args:
        rows: Scores of the same items.
        ranking: The metrics; none: an even spread of all.
        count: Items for each metric.

    Returns:
        By name of the item and metric: its place among those shown, and why it is shown.
    """
    chosen: dict[str, dict[str, tuple[int, str]]] = {}
    spread: list[str] = []
    for metric in ranking or [None]:
        reasons = choose_items(rows, metric, count)
        if not chosen:
            spread = [name for name, reason in reasons.items() if reason == SPREAD]
        extreme = {name: reason for name, reason in reasons.items() if reason != SPREAD}
        reasons = extreme | {name: SPREAD for name in spread if name not in extreme}
        for place, (name, reason) in enumerate(reasons.items()):
            chosen.setdefault(name, {})[metric or ""] = (place, reason)
    return chosen


def choose_items(rows: Sequence[Scores], metric: str | None, count: int) -> dict[str, str]:
    """The names of the items to show, and why: a third the worst, a third the best, the rest evenly spread.

    Worst and best are by the mean score of the models, codecs left out, over items that all models could be scored on.
    """
    names, models = rows[0].names, [row for row in rows if row.candidate.competes]
    count = min(count, len(names))
    if metric is None:
        return dict.fromkeys((names[step * len(names) // count] for step in range(count)), SPREAD)
    means = torch.stack([model.item_scores[metric] for model in models]).mean(0)
    sign = 1 if METRICS[metric].higher_is_better else -1
    ranked = [index for index in (sign * means).argsort().tolist() if torch.isfinite(means[index])]
    third = min(count // 3, len(ranked) // 2)
    chosen: dict[int, str] = {}
    for extreme, indices in (("worst", ranked[:third]), ("best", ranked[::-1][:third])):
        for rank, index in enumerate(indices, start=1):
            nth = f"{extreme} {rank} of {len(ranked)}" if rank > 1 else f"the {extreme} of {len(ranked)}"
            chosen[index] = f"{nth} by mean {metric} of the models ({float(means[index]):.4g})"
    rest = [index for index in range(len(names)) if index not in chosen]
    missing = count - len(chosen)
    chosen |= {rest[step * len(rest) // missing]: SPREAD for step in range(missing)}
    return {names[index]: reason for index, reason in chosen.items()}


def _show_item(
    name: str, ranks: Mapping[str, tuple[int, str]], rows: Sequence[Scores], ranking: Sequence[str]
) -> ShownItem:
    """Load the item and send it through every candidate; of a long one the beginning, all that a page shows."""
    items = [row.source.load_or_stream(list(row.source.names).index(name)) for row in rows]
    sent = [_send(row.candidate, item) for row, item in zip(rows, items, strict=True)]
    returned = [
        Returned(trip.reconstruction, trip.tokens, _embed(row.candidate, trip.tokens), _list_scores(row, name, ranking))
        for row, trip in zip(rows, sent, strict=True)
    ]
    return ShownItem(name, ranks, sent[0].reference, returned)


def _list_scores(row: Scores, name: str, ranking: Sequence[str]) -> dict[str, float | None]:
    """The item's score by each metric; None where it could not be scored."""
    index = list(row.names).index(name)
    return make_json_figures({metric: float(row.item_scores[metric][index]) for metric in ranking})


@torch.no_grad()
def _send(candidate: Candidate, item: Item | Stream) -> RoundTrip:
    """One item's way through a candidate, without the batch's axis, on the CPU."""
    if isinstance(item, Item):
        trip = candidate.answer([item])
    else:
        beginning, parts = Beginning(), candidate.round_trip_parts(item)
        while not beginning.full and (part := next(parts, None)) is not None:
            beginning.add(part)
        trip = beginning.join()
    tokens = None if trip.tokens is None else trip.tokens[0].cpu()
    return replace(trip, reference=trip.reference[0].cpu(), reconstruction=trip.reconstruction[0].cpu(), tokens=tokens)


@torch.no_grad()
def _embed(candidate: Candidate, tokens: Tensor | None) -> Tensor | None:
    """The latents (*grid, dim) that tokens (*grid, groups) stand for, on the CPU; None where there are none."""
    if tokens is None or (embedded := candidate.embed(tokens[None].to(candidate.device))) is None:
        return None
    return embedded[0].cpu()


def save_sheet(path: pathlib.Path, rows: Sequence[Scores]) -> None:
    """Write the examples that `rows` kept, all of the same items, as one PNG with a labelled row for each."""
    first = rows[0]
    images = [[example.reference for example in first.examples]]
    images += [[example.reconstruction for example in row.examples] for row in rows]
    view = MODALITIES[first.candidate.modality].view
    original = f"original{view.describe_axes(images[0], first.candidate.sample_rate)}"
    sheet = view.sheet(*images, labels=[original, *(row.title.label for row in rows)])
    with replacing(path) as unfinished:
        sheet.save(unfinished, format="PNG")
