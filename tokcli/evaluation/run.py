"""Evaluating a candidate over a source: every item goes through it as a user's would, and every metric sees every item.

Training evaluates itself with this, and so does `tok evaluate`, so their figures agree.

    source -> items -> candidate -> round trips -> metrics -> scores
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from tokcli.contracts import Candidate, Metric, Source
from tokcli.data.items import Failure, list_blocks
from tokcli.data.modality import MODALITIES
from tokcli.distributed import gather_objects
from tokcli.errors import InputError
from tokcli.evaluation.compare import Comparison
from tokcli.evaluation.seen import Seen, add_up, take_seen
from tokcli.evaluation.walk import Example, Walk
from tokcli.metrics import Weights, build_metrics
from tokcli.metrics.tokens import describe_groups, is_undersampled
from tokcli.progress import SILENT, Reporter, Task

Gather = Callable[[Any], Sequence[Any]]
"""Collects a value from every process, and every process gets all of them; shapes and names of tensors may differ."""

EARLY = 200
"""A run of fewer steps is a trial, whose codebook says little."""

NAMED = 5
"""Unscored items that a remark names; the JSON names all."""


@dataclass(frozen=True)
class Title:
    """What a table or a page calls scores.

    Attributes:
        model: The artifact, or the codec's name. Rows of one are joined by a line in a plot.
        label: Of the row; unique among those compared.
        summary: What the candidate is, in a few words.
        data: What it was evaluated on.
        split: Where that came from.
    """

    model: str = ""
    label: str = ""
    summary: str = ""
    data: str = ""
    split: str = ""


@dataclass(frozen=True)
class Scores:
    """How good a candidate is on a set of data, with what that depends on.

    Attributes:
        candidate: What was evaluated.
        source: What it was evaluated on; the items are its first.
        names: Of the items evaluated, in the order of the source.
        failed: Items that could not be read.
        metrics: The figures asked for, by name; NaN where nothing could be scored.
        rates: What the signal costs, by name: for tokens packed and then for an ideal entropy coder, for files whole
            and then without headers. Empty where nobody asked.
        item_scores: By metric the score of each of `names`, (items,), NaN where it could not be scored; only of
            metrics that score items one by one.
        unscored: By metric the number of items that it could not score; absent where it scored all.
        too_long: By metric how many of those came in parts, because they are long, and it scores whole items only.
        counts: How often each code occurred, (groups, codes); None where no tokens were counted.
        protocol: The choices that the figures depend on; plain JSON values.
        remarks: What a careful reader should be told.
        examples: The first items, before and after.
        title: What to call all this beside others.
        comparison: How it differs from the first of several; None for the first.
    """

    candidate: Candidate
    source: Source
    names: list[str]
    failed: Sequence[Failure]
    metrics: dict[str, float]
    rates: dict[str, float]
    item_scores: dict[str, Tensor]
    unscored: dict[str, int]
    counts: Tensor | None
    protocol: dict[str, Any]
    remarks: Sequence[str] = ()
    examples: Sequence[Example] = ()
    title: Title = field(default_factory=Title)
    too_long: Mapping[str, int] = field(default_factory=dict)
    comparison: Comparison | None = None

    @property
    def items(self) -> int:
        """Signals evaluated."""
        return len(self.names)

    @property
    def asked(self) -> int:
        """Signals that were to be evaluated: those that were, and those that could not be read."""
        return len(self.names) + len(self.failed)

    @property
    def figures(self) -> dict[str, float | None]:
        """The metrics as JSON can hold them."""
        return make_json_figures(self.metrics)

    @property
    def rate_figures(self) -> dict[str, float | None]:
        """The rates as JSON can hold them."""
        return make_json_figures(self.rates)

    @property
    def by_group(self) -> dict[str, list[float]]:
        """How each group of tokens uses its codes, by name; empty where there is one group, or none was counted."""
        return describe_groups(self.counts) if self.counts is not None and self.counts.shape[0] > 1 else {}

    def unscored_items(self, metric: str) -> list[str]:
        """The names of the items that `metric` could not score; empty where it does not score items one by one."""
        if metric not in self.item_scores:
            return []
        return [self.names[index] for index in torch.isnan(self.item_scores[metric]).nonzero().flatten().tolist()]

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        plain: dict[str, Any] = {
            "model": self.title.model,
            "label": self.title.label,
            "data": self.title.data,
            "split": self.title.split,
            "items": self.items,
            "failed": [asdict(failure) for failure in self.failed],
            "metrics": self.figures,
            "rate": self.rate_figures,
            "unscored": self.json_unscored(),
            "protocol": self.protocol,
            "item_scores": self._json_item_scores(),
        }
        if self.by_group:
            plain["by_group"] = self.by_group
        if self.comparison is not None:
            plain["difference"] = self.comparison.to_json()
        codec = self.candidate.codec_record()
        return plain if codec is None else plain | {"codec": codec | {"rate": self.rates}}

    def json_unscored(self) -> dict[str, dict[str, Any]]:
        """By metric: how many items it could not score, and their names where it scores them one by one."""
        return {
            name: {"count": count, "items": self.unscored_items(name)}
            for name, count in self.unscored.items()
            if name in self.metrics
        }

    def _json_item_scores(self) -> list[dict[str, Any]]:
        """Every item with its score by each metric that scores items; None where there is none."""
        scores = {name: self.item_scores[name].tolist() for name in self.metrics if name in self.item_scores}
        rows = zip(*scores.values(), strict=True) if scores else [()] * self.items
        return [
            {"item": item, **make_json_figures(dict(zip(scores, row, strict=True)))}
            for item, row in zip(self.names, rows, strict=True)
        ]


def evaluate(
    candidate: Candidate,
    source: Source,
    metrics: Mapping[str, Metric] | Sequence[str],
    *,
    rates: bool = False,
    items: int | None = None,
    batch_size: int = 8,
    workers: int | None = None,
    examples: int = 0,
    shard: tuple[int, int] = (0, 1),
    gather: Gather = gather_objects,
    weights: Weights | None = None,
    reporter: Reporter = SILENT,
) -> Scores:
    """Send the items of `source` through `candidate` and score what comes back.

    Args:
        candidate: A tokenizer, or anything else that loses something on the way.
        source: What to send through it.
        metrics: What scores it: their names, or the metrics by name.
        rates: Whether to count what its tokens cost as well; a candidate that makes files tells what they cost.
        items: The first so many; None takes all.
        batch_size: Items of one shape that go through together.
        workers: Processes that read; 0 reads in this one, None chooses.
        examples: The first so many items are kept, before and after.
        shard: This process and how many there are; each takes every so many batches.
        gather: Brings the states of all processes together, where there are several.
        weights: Local files of weights, for metrics given by their names.
        reporter: Is told how far it is.

    Raises:
        InputError: Not one item could be read.
        UsageError: A name among `metrics` is unknown, or judges another modality.
    """
    evaluation = Evaluation(candidate, source, metrics, rates=rates, weights=weights)
    rank, world = shard
    total = len(source) if items is None else min(items, len(source))
    own = list_blocks(total, batch_size, rank, world)
    with reporter.task("evaluating", len(own), "items") as task:
        walk = evaluation.walk(own, batch_size, workers, task, examples)
    seen = take_seen(walk)
    if world > 1:
        walk.take_examples(gather)
        seen = add_up(gather(seen.cpu()))
    return evaluation.score(seen, walk.examples, walk.digest.hexdigest() if world == 1 else None)


class Evaluation:
    """A candidate, a source and metrics: walks over some of the items, and the scores of what all walks have seen.

    Args:
        candidate: A tokenizer, or anything else that loses something on the way.
        source: What to send through it.
        metrics: What scores it: their names, or the metrics by name.
        rates: Whether to count what its tokens cost as well.
        weights: Local files of weights, for metrics given by their names.

    Attributes:
        metrics: All that a walk updates, by name.

    Raises:
        UsageError: A name among `metrics` is unknown, or judges another modality.
    """

    def __init__(
        self,
        candidate: Candidate,
        source: Source,
        metrics: Mapping[str, Metric] | Sequence[str],
        *,
        rates: bool = False,
        weights: Weights | None = None,
    ) -> None:
        given = isinstance(metrics, Mapping)
        self.candidate = candidate
        self.source = source
        self._asked = dict(metrics) if given else build_metrics(metrics, candidate.modality, weights)
        self._counting = MODALITIES[candidate.modality].rate_metrics if rates else ()
        more = [name for name in self._counting if name not in self._asked]
        self.metrics = self._asked | build_metrics(more, candidate.modality)
        self._nothing = {name: dict(metric.state) for name, metric in self.metrics.items()}

    def walk(self, indices: Sequence[int], batch_size: int, workers: int | None, task: Task, examples: int = 0) -> Walk:
        """Send some items through the candidate, past metrics that have seen nothing before."""
        for name, metric in self.metrics.items():
            metric.restart(self._nothing[name])
        walk = Walk(self.candidate, self.metrics, examples)
        walk.over(self.source, indices, batch_size, workers, task)
        return walk

    def score(self, seen: Seen, examples: Sequence[Example] = (), digest: str | None = None) -> Scores:
        """The scores of what walks have seen.

        Args:
            seen: Added up.
            examples: Items before and after.
            digest: Of the names and signals of all items; None where no walk saw all.

        Raises:
            InputError: Not one item could be read.
        """
        seen = add_up([seen])
        names = [self.source.names[int(index)] for index in seen.indices.tolist()]
        failed = seen.list_failed()
        if not names:
            reason = f"; the first: {failed[0].item}: {failed[0].reason}" if failed else ""
            raise InputError(f"none of the {len(failed)} items could be read{reason}")
        for name, metric in self.metrics.items():
            metric.restart(seen.states[name])
        figures = {name: metric.compute() for name, metric in self.metrics.items()}
        scores = Scores(
            candidate=self.candidate,
            source=self.source,
            names=names,
            failed=failed,
            metrics={name: figures[name] for name in self._asked},
            rates={name: figures[name] for name in self._counting} | self.candidate.file_rates(),
            item_scores=dict(seen.scores),
            unscored={name: metric.unscored for name, metric in self.metrics.items() if metric.unscored},
            counts=next((metric.counts for metric in self.metrics.values() if metric.counts is not None), None),
            too_long={name: metric.too_long for name, metric in self.metrics.items() if metric.too_long},
            protocol=_protocol(self.source, self.metrics, len(names), digest),
            examples=list(examples),
        )
        return replace(scores, remarks=_remarks(scores, self._asked))


def _protocol(source: Source, metrics: Mapping[str, Metric], items: int, digest: str | None) -> dict[str, Any]:
    """The choices that figures depend on; `digest` is of all signals and their names, None where nobody saw all."""
    return {
        "data": dict(source.protocol()),
        "items": items,
        "dataset_sha256": digest,
        "weights_precision": "float32",
        "metrics": {name: metric.protocol() for name, metric in metrics.items()},
    }


def _remarks(scores: Scores, asked: Mapping[str, Metric]) -> list[str]:
    """What a careful reader of the metrics asked for should be told."""
    remarks = [_remark_on_unscored(scores, name) for name in scores.unscored if name in asked]
    told = [remark for metric in asked.values() if (remark := metric.remark()) is not None]
    return remarks + list(dict.fromkeys(told))


def _remark_on_unscored(scores: Scores, name: str) -> str:
    items = scores.unscored_items(name)
    shown = ", ".join(items[:NAMED]) + (", …" if len(items) > NAMED else "")
    listed = f" ({shown})" if items else ""
    count, too_long = scores.unscored[name], scores.too_long.get(name, 0)
    reason = f"; {too_long} of them because it scores whole items, and long ones come in parts" if too_long else ""
    return f"{name}: {count} item{'s' * (count != 1)} could not be scored and left out of the mean{listed}{reason}"


def remark_on_use(scores: Scores, advice: str, steps: int | None) -> str | None:
    """What to know and to do where few of a codebook's codes do the work; None where enough of them do.

    Args:
        scores: With `cvu` and counts of codes, else there is nothing to say.
        advice: What helps this quantizer.
        steps: That were trained; None where unknown.
    """
    cvu, counts = scores.metrics.get("cvu"), scores.counts
    if cvu is None or counts is None or is_undersampled(counts) or (steps is not None and steps < EARLY):
        return None
    if not cvu < MODALITIES[scores.candidate.modality].low_cvu:
        return None
    codes = counts.shape[1]
    return (
        f"cvu, perplexity as a share of the codes, is {cvu:.3g}: used evenly, {cvu * codes:.0f} of the {codes} codes "
        f"would do the same work; {advice}"
    )


def make_json_figures(figures: Mapping[str, float | None]) -> dict[str, float | None]:
    """Figures as JSON can hold them: what is unknown is null."""
    return {name: value if value is not None and math.isfinite(value) else None for name, value in figures.items()}


def select_grouped(rows: Sequence[Scores]) -> list[Scores]:
    """Of each model with several tokens at a position the row with most of them: what it says holds for fewer too."""
    counted = [row for row in rows if row.by_group]
    most = {row.title.model: row for row in sorted(counted, key=lambda row: len(row.by_group["cvu"]))}
    return [row for row in counted if most[row.title.model] is row]
