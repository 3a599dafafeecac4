"""Whether a table bears out the claims of a paper: at each size a difference of means against its spread over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from tokcli.sweeps.sweep import IN_DOMAIN, Claim
from tokcli.sweeps.table import Row, Spread

Verdict = Literal["holds", "does not hold", "undecided"]

LEVEL = 0.05
"""One-sided, of Welch's test: with two seeds a difference has to be several times the spread."""

RULE = (
    f"one-sided Welch's test over seeds at {LEVEL:.0%}, at every size; a claim fails where the contrary passes the test"
)


@dataclass(frozen=True)
class Comparison:
    """One side against the other at one size. difference: of the means; None where a side has no figure."""

    size: int | None
    difference: float | None
    verdict: Verdict

    def __str__(self) -> str:
        where = f"K = {self.size}: " if self.size is not None else ""
        return where + ("no figures" if self.difference is None else f"{self.difference:+.3g} ({self.verdict})")


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict: it holds where it holds at every size, and fails where it fails at one."""

    claim: Claim
    verdict: Verdict
    comparisons: Sequence[Comparison]


def judge_claim(claim: Claim, table: Sequence[Row]) -> Judged:
    """Compare the claim's two sides at every size that the claim is about and the greater one has a row for."""
    comparisons = []
    for row in (row for row in table if row.method == claim.greater and (not claim.sizes or row.size in claim.sizes)):
        other: Spread | float | None
        if isinstance(claim.than, str):
            partner = next((each for each in table if (each.method, each.size) == (claim.than, row.size)), None)
            other = _quantity(claim, partner) if partner is not None else None
        else:
            other = float(claim.than)
        comparisons.append(_compare(row.size, _quantity(claim, row), other))
    verdicts = {comparison.verdict for comparison in comparisons}
    if "does not hold" in verdicts:
        return Judged(claim, "does not hold", comparisons)
    return Judged(claim, "holds" if verdicts == {"holds"} else "undecided", comparisons)


def _quantity(claim: Claim, row: Row) -> Spread | None:
    """What the claim is about, of one row, over seeds."""
    if claim.what == "fall":
        return row.falls.get(claim.metric)
    judged = row.figures.get((claim.data, claim.metric))
    if claim.what == "value" or judged is None:
        return judged
    within = row.figures.get((IN_DOMAIN, claim.metric))
    if within is None:
        return None
    both = {seed: within.values[seed] - judged.values[seed] for seed in judged.values if seed in within.values}
    return Spread(both) if both else None


def _compare(size: int | None, greater: Spread | None, than: Spread | float | None) -> Comparison:
    if greater is None or than is None:
        return Comparison(size, None, "undecided")
    difference = greater.mean - (than if isinstance(than, float) else than.mean)
    threshold = _threshold([greater] if isinstance(than, float) else [greater, than])
    if abs(difference) <= threshold:
        return Comparison(size, difference, "undecided")
    return Comparison(size, difference, "holds" if difference > 0 else "does not hold")


def _threshold(sides: Sequence[Spread]) -> float:
    """The difference that seeds alone would exceed in one of twenty tables; infinite where a side has a single seed."""
    if any(side.deviation is None for side in sides):
        return math.inf
    variances = [(side.deviation or 0.0) ** 2 / side.count for side in sides]
    if sum(variances) == 0:
        return 0.0
    freedom = sum(variances) ** 2 / sum(
        variance**2 / (side.count - 1) for variance, side in zip(variances, sides, strict=True)
    )
    return float(stats.t.ppf(1 - LEVEL, freedom)) * math.sqrt(sum(variances))
