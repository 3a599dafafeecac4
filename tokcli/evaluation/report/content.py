"""What a report shows, before it is a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from tokcli.contracts import ModalityName
from tokcli.evaluation.run import Difference


@dataclass(frozen=True)
class Contender:
    """A row of the report: a model with one of its codebooks, or a codec at one setting.

    label: unique. summary: what it is, in a few words. family: contenders of one family are joined by a line in the
        plot of rate and distortion. is_model: false for a codec.
    figures: by metric; None where unknown. rate: packed first, then empirical where there are tokens.
    counts: of every code, (groups, codes); None for a codec. remarks: for a careful reader. protocol: JSON values.
    differences: to the first contender over the same items, by metric.
    """

    label: str
    summary: str
    family: str
    is_model: bool
    figures: Mapping[str, float | None]
    rate: Mapping[str, float | None]
    counts: Tensor | None
    remarks: Sequence[str]
    protocol: Mapping[str, Any]
    differences: Mapping[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True)
class Returned:
    """What a contender made of an item.

    reconstruction: (channels, *size). tokens: (*grid, groups), codes: (*grid, dim), the latents that they stand for;
    None for a codec. score: by the report's metric; None where it could not be judged.
    """

    reconstruction: Tensor
    tokens: Tensor | None
    codes: Tensor | None
    score: float | None


@dataclass(frozen=True)
class ShownItem:
    """An item before and after: one `Returned` for each contender, in their order. reason: why it is shown."""

    name: str
    reason: str
    reference: Tensor
    returned: Sequence[Returned]


@dataclass(frozen=True)
class Report:
    """All of a page.

    data: what was judged on. split: where that came from. metric: the one that items were ranked by; None where no
    metric judges items. distortions: metrics that are drawn over the rate: those that judge signals and not tokens.
    higher_is_better: by metric; absent where neither is better by itself. version: of the program.
    """

    modality: ModalityName
    data: str
    split: str
    items: int
    metric: str | None
    distortions: Sequence[str]
    higher_is_better: Mapping[str, bool]
    contenders: Sequence[Contender]
    shown: Sequence[ShownItem]
    sample_rate: int | None
    version: str


def best_of(report_figures: Sequence[Mapping[str, float | None]], metric: str, higher: bool) -> float | None:
    """The best figure of several contenders; None where there are not at least two to choose from."""
    known = [value for figures in report_figures if (value := figures.get(metric)) is not None]
    if len(known) < 2:
        return None
    return max(known) if higher else min(known)
