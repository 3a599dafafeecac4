"""Comparing scores: paired differences, the best of a column, and how numbers and headings are written.

The console and the report page both write with these. Importing this module does not import torch: the command line
formats numbers without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from tokcli.evaluation.run import Scores

CONFIDENCE = 0.95
"""Of the interval about a paired difference."""

COVERS = (
    "The interval covers chance in the choice of items, for these very weights, and none in training: "
    "another seed may differ by more, and tok sweep repeats trainings."
)
"""For whoever reads that interval."""

UNKNOWN = "–"


@dataclass(frozen=True)
class Difference:
    """By how much one scores above another on the same items.

    Attributes:
        items: That both have a score for.
        mean: Over them; None where there are none.
        margin: The interval about the mean reaches this far to either side; None below two items.
    """

    items: int
    mean: float | None
    margin: float | None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.mean is not None and self.margin is not None and abs(self.mean) > self.margin


@dataclass(frozen=True)
class Comparison:
    """How scores differ from those of the first of several.

    Attributes:
        to: The label of the first.
        differences: By metric, over the same items.
    """

    to: str
    differences: Mapping[str, Difference]

    def to_json(self) -> dict[str, Any]:
        """The object that stands under `difference`."""
        metrics = {name: asdict(difference) for name, difference in self.differences.items()}
        return {"to": self.to, "confidence": CONFIDENCE, "covers": COVERS, "metrics": metrics}


def paired_difference(scores: Tensor, reference: Tensor) -> Difference:
    """`scores` less `reference`, item by item.

    The interval is Student's for the mean of the differences: what items have in common with themselves cancels.

    Args:
        scores: (items,), NaN where there is no score.
        reference: (items,), of the same items in the same order.
    """
    import torch
    from scipy.special import stdtrit

    differences = scores.double() - reference.double()
    differences = differences[torch.isfinite(differences)]
    count = len(differences)
    if count < 2:
        return Difference(count, float(differences[0]) if count else None, None)
    spread = float(differences.std()) / math.sqrt(count)
    return Difference(count, float(differences.mean()), float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * spread)


def compare_with(scores: Scores, first: Scores) -> Comparison | None:
    """How `scores` differ from `first`; None where they are not of the very same signals."""
    if scores.protocol["dataset_sha256"] != first.protocol["dataset_sha256"]:
        return None
    both = [name for name in scores.metrics if name in scores.item_scores and name in first.item_scores]
    return Comparison(
        first.title.label,
        {name: paired_difference(scores.item_scores[name], first.item_scores[name]) for name in both},
    )


def compare_all(rows: Sequence[Scores]) -> list[Scores]:
    """The same, those after the first with how they differ from it."""
    return [rows[0], *(replace(row, comparison=compare_with(row, rows[0])) for row in rows[1:])]


def find_best_rows(rows: Sequence[Scores], metric: str) -> set[int]:
    """The numbers of the rows with the best figure of `metric`, among those that compete.

    Empty where neither direction is better, or where there are not at least two to choose from.
    """
    higher = higher_is_better(metric)
    known = {
        number: value
        for number, row in enumerate(rows)
        if row.candidate.competes and (value := row.figures.get(metric)) is not None
    }
    if higher is None or len(known) < 2:
        return set()
    best = max(known.values()) if higher else min(known.values())
    return {number for number, value in known.items() if value == best}


def higher_is_better(metric: str) -> bool | None:
    """Whether more of `metric` is better; None where neither is."""
    from tokcli.metrics import METRICS

    return METRICS[metric].higher_is_better


def choose_arrow(metric: str) -> str:
    """↑ where more of `metric` is better, ↓ where less is, nothing where neither is."""
    return {True: "↑", False: "↓", None: ""}[higher_is_better(metric)]


def list_metrics(rows: Sequence[Scores]) -> list[str]:
    """The metrics that any of the rows has, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row.metrics))


def list_compared(rows: Sequence[Scores]) -> list[str]:
    """The metrics by which any of the rows is compared with the first, in the order in which they come."""
    compared = [row.comparison for row in rows if row.comparison is not None]
    return list(dict.fromkeys(name for comparison in compared for name in comparison.differences))


def format_name(name: str) -> str:
    """A metric or a unit, as people read it."""
    return name.replace("_", " ")


def format_number(value: float | None) -> str:
    """A figure to four digits; a dash where it is unknown."""
    if value is None:
        return UNKNOWN
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def format_difference(difference: Difference) -> tuple[str, str]:
    """The mean with its sign, and behind it the margin; a dash where there is no mean."""
    if difference.mean is None:
        return UNKNOWN, ""
    return f"{difference.mean:+.3g}", "" if difference.margin is None else f" ± {difference.margin:.2g}"
