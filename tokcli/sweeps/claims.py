"""Whether a table bears out the claims of a paper: a difference of means against its spread over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from tokcli.sweeps.plan import IN_DOMAIN, Claim
from tokcli.sweeps.table import Row, Spread

Verdict = Literal["holds", "does not hold", "undecided"]

LEVEL = 0.05

RULE = (
    f"one-sided Welch's test over seeds at {LEVEL:.0%}, of the mean difference over all sizes; a claim fails where the "
    "contrary passes there or at one size. Seeds are trainings on the same data: another choice of data is not covered"
)


@dataclass(frozen=True)
class Comparison:
    """One side against the other. What a side has no figure for is None.

    Attributes:
        size: None is over all of them, or where there is one.
        difference: Of the means.
        error: Its standard error; None where a side has a single figure.
        freedom: Degrees of freedom that the error has; None where a side has a single figure.
    """

    size: int | None
    difference: float | None
    error: float | None = None
    freedom: float | None = None

    @property
    def p(self) -> float | None:
        """How often seeds alone would make the difference as large as this or larger; None where there is no error."""
        if self.difference is None or self.error is None or self.freedom is None:
            return None
        if self.error == 0:
            return 0.5 if self.difference == 0 else float(self.difference < 0)
        return float(stats.t.sf(self.difference / self.error, self.freedom))

    @property
    def verdict(self) -> Verdict:
        """What the chance `p` says at the level of 5 %."""
        if self.p is None:
            return "undecided"
        return "holds" if self.p < LEVEL else "does not hold" if self.p > 1 - LEVEL else "undecided"

    def __str__(self) -> str:
        where = f"K = {self.size}: " if self.size is not None else ""
        if self.difference is None:
            return where + "no figures"
        chance = "one seed" if self.p is None else "p < .001" if self.p < 0.001 else f"p = {_short(self.p)}"
        return f"{where}{self.difference:+.3g} ({chance})"


@dataclass(frozen=True)
class Decision:
    """A claim with its verdict.

    Attributes:
        claim: The sentence.
        comparisons: At each size.
        together: Their mean; None for a single size.
    """

    claim: Claim
    comparisons: Sequence[Comparison]
    together: Comparison | None

    @property
    def verdict(self) -> Verdict:
        """Refuted at one size is refuted; else what all sizes together say."""
        if any(each.verdict == "does not hold" for each in self.comparisons):
            return "does not hold"
        decisive = self.together or (self.comparisons[0] if self.comparisons else None)
        return decisive.verdict if decisive is not None else "undecided"

    def __str__(self) -> str:
        if self.together is None:
            return str(self.comparisons[0]) if self.comparisons else "no figures"
        return f"mean {self.together}; {'; '.join(map(str, self.comparisons))}"


def decide(claim: Claim, table: Sequence[Row]) -> Decision:
    """Compare the claim's two sides at every size that the claim is about and the greater one has a row for."""
    comparisons = []
    for row in (row for row in table if row.method == claim.greater and (not claim.sizes or row.size in claim.sizes)):
        other: Spread | float | None
        if isinstance(claim.than, str):
            partner = next(
                (other_row for other_row in table if (other_row.method, other_row.size) == (claim.than, row.size)), None
            )
            other = _quantity(claim, partner) if partner is not None else None
        else:
            other = float(claim.than)
        comparisons.append(_compare(row.size, _quantity(claim, row), other))
    return Decision(claim, comparisons, _together(comparisons) if len(comparisons) > 1 else None)


def _quantity(claim: Claim, row: Row) -> Spread | None:
    """What the claim is about, of one row, over seeds."""
    if claim.what == "fall":
        return row.falls.get(claim.metric)
    spread = row.figures.get((claim.data, claim.metric))
    if claim.what == "value" or spread is None:
        return spread
    within = row.figures.get((IN_DOMAIN, claim.metric))
    if within is None:
        return None
    both = {seed: within.values[seed] - spread.values[seed] for seed in spread.values if seed in within.values}
    return Spread(both) if both else None


def _compare(size: int | None, greater: Spread | None, than: Spread | float | None) -> Comparison:
    if greater is None or than is None:
        return Comparison(size, None)
    difference = greater.mean - (than.mean if isinstance(than, Spread) else than)
    sides = [greater, than] if isinstance(than, Spread) else [greater]
    if any(side.deviation is None for side in sides):
        return Comparison(size, difference)
    parts = [((side.deviation or 0.0) ** 2 / side.count, side.count - 1.0) for side in sides]
    return Comparison(size, difference, *_error(parts))


def _together(comparisons: Sequence[Comparison]) -> Comparison:
    """The mean over sizes, whose trainings are independent of each other; without figure where one lacks its own."""
    differences = [each.difference for each in comparisons if each.difference is not None]
    if len(differences) < len(comparisons):
        return Comparison(None, None)
    difference = math.fsum(differences) / len(comparisons)
    parts = [(each.error**2, each.freedom) for each in comparisons if each.error is not None and each.freedom]
    if len(parts) < len(comparisons):
        return Comparison(None, difference)
    error, freedom = _error(parts)
    return Comparison(None, difference, error / len(comparisons), freedom)


def _error(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(variance, degrees of freedom) of independent terms -> standard error of their sum, and its freedom.

    Of Welch and Satterthwaite.
    """
    total = math.fsum(variance for variance, _ in parts)
    if total == 0:
        return 0.0, math.inf
    return math.sqrt(total), total**2 / math.fsum(variance**2 / freedom for variance, freedom in parts)


def _short(chance: float) -> str:
    return f"{chance:.2f}" if 0.1 <= chance <= 0.995 else f"{chance:.3f}"
