"""From the outcomes of cells to a table: mean and sample standard deviation over seeds, published figures beside it."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokcli.sweeps.cells import Cell, list_rows
from tokcli.sweeps.outcomes import Outcome
from tokcli.sweeps.plan import IN_DOMAIN, Sweep
from tokcli.training.curves import Curve


@dataclass(frozen=True)
class Spread:
    """A figure over seeds, by seed."""

    values: Mapping[int, float]

    @property
    def count(self) -> int:
        """Of the seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.values.values())

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation; None for a single seed."""
        return statistics.stdev(self.values.values()) if self.count > 1 else None

    def __str__(self) -> str:
        decimals = 2 if abs(self.mean) >= 1 else 3 if abs(self.mean) >= 0.01 or self.mean == 0 else 4
        spread = f" ± {self.deviation:.{decimals}f}" if self.deviation is not None else ""
        return f"{self.mean:.{decimals}f}{spread}"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        method: By name.
        size: K, the one that was asked for.
        codes: In the codebook in use, which the product of levels makes another number than K.
        finished: Seeds with figures, of `seeds`.
        seeds: Trainings in all.
        figures: By data and metric; absent where no seed has one.
        curves: By metric, the mean over the seeds at steps where all of them have a figure.
        falls: By metric, how far the end lies under the highest point.
    """

    method: str
    size: int | None
    codes: int | None
    finished: int
    seeds: int
    figures: Mapping[tuple[str, str], Spread]
    curves: Mapping[str, Curve]
    falls: Mapping[str, Spread]

    @property
    def label(self) -> str:
        """How tables call it."""
        return self.method if self.size is None else f"{self.method}, K = {self.size}"


def tabulate(sweep: Sweep, outcomes: Sequence[tuple[Cell, Outcome]]) -> list[Row]:
    """The rows of the table, in the order of the sweep file, of the outcomes of every cell."""
    return [_make_row(sweep, method, size, outcomes) for method, size in list_rows(sweep)]


def _make_row(sweep: Sweep, method: str, size: int | None, outcomes: Sequence[tuple[Cell, Outcome]]) -> Row:
    codebooks = bool(sweep.methods[method].codebooks)
    codebook = size if codebooks else None
    mine = [(cell, outcome) for cell, outcome in outcomes if cell.method == method and (codebooks or cell.size == size)]
    by_seed: dict[tuple[str, str], dict[int, float]] = {}
    curves: dict[str, dict[int, Curve]] = {}
    codes = None
    finished = 0
    for cell, outcome in mine:
        by_data = {data: figures for (data, built), figures in outcome.figures.items() if built == codebook}
        finished += IN_DOMAIN in by_data
        for data, figures in by_data.items():
            codes = figures.codes
            for metric, value in figures.metrics.items():
                if value is not None and math.isfinite(value):
                    by_seed.setdefault((data, metric), {})[cell.seed] = value
        for metric in {*sweep.curves, *_falling(sweep)}:
            if metric in outcome.curves and IN_DOMAIN in by_data and _evaluated_in_training(outcome, size, codebooks):
                curves.setdefault(metric, {})[cell.seed] = outcome.curves[metric]
    return Row(
        method=method,
        size=size,
        codes=codes,
        finished=finished,
        seeds=len(mine),
        figures={key: Spread(values) for key, values in by_seed.items()},
        curves={metric: _average_curve(list(curves[metric].values())) for metric in sweep.curves if metric in curves},
        falls={
            metric: Spread({seed: max(value for _, value in curve) - curve[-1][1] for seed, curve in of_seeds.items()})
            for metric, of_seeds in curves.items()
        },
    )


def _evaluated_in_training(outcome: Outcome, size: int | None, codebooks: bool) -> bool:
    """Whether a training with several codebooks was evaluated with this row's; its curves belong to no other row."""
    return not codebooks or outcome.figures[IN_DOMAIN, None].codes == size


def _falling(sweep: Sweep) -> list[str]:
    return [claim.metric for claim in sweep.claims if claim.what == "fall"]


def _average_curve(curves: Sequence[Curve]) -> Curve:
    by_step = [dict(curve) for curve in curves]
    shared = [step for step in by_step[0] if all(step in curve for curve in by_step)]
    return [(step, statistics.fmean(curve[step] for curve in by_step)) for step in shared]
