"""Charts as inline SVG, drawn with the page's own colours so that they follow a dark or a light screen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import torch

from tokcli.evaluation.compare import format_name, higher_is_better
from tokcli.evaluation.report.build import Report
from tokcli.evaluation.run import Scores
from tokcli.metrics import METRICS

WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 14, 52
COLOURS = 8
"""How many colours the page's style defines for rows, `--c0` onwards."""

MARKS = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0",
    "M-4.5 -4.5h9v9h-9z",
    "M0 -6l5.5 10h-11z",
    "M0 -6.5l5 6.5l-5 6.5l-5 -6.5z",
    "M0 6l5.5 -10h-11z",
)
"""Shapes about the origin, so that rows differ by more than colour."""

POINTS = 240
"""On a curve of sorted codes."""


@dataclass(frozen=True)
class Axis:
    """One axis of a chart: what it shows, from where to where, on a logarithmic scale or not."""

    label: str
    low: float
    high: float
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where `value` lies, 0 at the low end and 1 at the high end."""
        low, high, value = (math.log(x) if self.logarithmic else x for x in (self.low, self.high, value))
        return (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round numbers along the axis."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            for steps in ((1,), (1, 2, 5), tuple(range(1, 10))):
                ticks = [step * 10.0**power for power in powers for step in steps]
                ticks = [tick for tick in ticks if self.low <= tick <= self.high]
                if len(ticks) > 2:
                    break
            return ticks
        rough = (self.high - self.low) / 5
        power = 10 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        first = math.ceil(self.low / step)
        return [step * index for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


def draw_usage(rows: Sequence[Scores]) -> str:
    """How often each code occurs, most frequent first, relative to all being equally frequent; one curve a model."""
    curves = [(index, _sort_usage(row.counts.cpu())) for index, row in enumerate(rows) if row.counts is not None]
    values = [value for _, points in curves for _, value in points]
    low = 10 ** math.floor(math.log10(min([*values, 0.1])))
    high = 10 ** math.ceil(math.log10(max([*values, 10])))
    across, up = (
        Axis("codes, most frequent first (share of the codebook)", 0, 1),
        Axis("times even use", low, high, True),
    )
    marks = [_line(points, across, up, index, "") for index, points in curves]
    even = _y(up, 1)
    marks.append(f'<line class="even" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{even:.1f}" y2="{even:.1f}"/>')
    names = ", ".join(rows[index].title.label for index, _ in curves)
    return _chart(across, up, marks, f"How often each code occurs, sorted, on a logarithmic scale, for {names}")


def draw_curves(metric: str, curves: Sequence[tuple[int, str, Sequence[tuple[float, float]]]]) -> str:
    """A metric over the steps of training: of each row its number, its label and its (step, value)."""
    steps, values = zip(*(point for _, _, curve in curves for point in curve), strict=True)
    margin = 0.08 * (max(values) - min(values)) or 0.05 * abs(values[0]) or 1.0
    across = Axis("step", min(steps) - (min(steps) == max(steps)), max(steps))
    up = Axis(_name_with_unit(metric), min(values) - margin, max(values) + margin)
    marks = []
    for index, label, curve in curves:
        marks.append(_line(curve, across, up, index, ""))
        marks += [
            _mark(step, value, across, up, index, "filled", f"{label}: {metric} {value:.4g} at step {step:.0f}")
            for step, value in curve
        ]
    return _chart(across, up, marks, f"{metric} over training of {', '.join(label for _, label, _ in curves)}")


def _name_with_unit(metric: str) -> str:
    """`psnr, dB`."""
    unit = METRICS[metric].unit
    return format_name(metric) + (f", {unit}" if unit else "")


@dataclass(frozen=True)
class _Spot:
    """Where a row lies in the plot of rate and distortion: at its packed rate, and at its empirical one if known."""

    index: int
    model: str
    label: str
    rates: Sequence[float]
    figure: float


def draw_rates(report: Report, metric: str) -> str:
    """A metric over the rate: a filled mark at the packed rate, an open one at the empirical rate."""
    spots = []
    for index, row in enumerate(report.rows):
        figure, rates = row.figures.get(metric), [rate for rate in row.rate_figures.values() if rate]
        if figure is not None and rates:
            spots.append(_Spot(index, row.title.model, row.title.label, rates, figure))
    if not spots:
        return ""
    rates, figures = [rate for spot in spots for rate in spot.rates], [spot.figure for spot in spots]
    margin = 0.08 * (max(figures) - min(figures)) or 0.05 * abs(figures[0]) or 1.0
    unit = format_name(next(iter(report.first.rates)))
    across = Axis(unit, min(rates) / 1.15, max(rates) * 1.15, True)
    better = "lower is better" if higher_is_better(metric) is False else "higher is better"
    up = Axis(f"{_name_with_unit(metric)} ({better})", min(figures) - margin, max(figures) + margin)
    marks = []
    for model in dict.fromkeys(spot.model for spot in spots):
        members = sorted((spot for spot in spots if spot.model == model), key=lambda spot: spot.rates[0])
        if len(members) > 1:
            points = [(spot.rates[0], spot.figure) for spot in members]
            marks.append(_line(points, across, up, members[0].index, "family"))
    marks += [mark for spot in spots for mark in _draw_spot(spot, across, up, metric, unit)]
    return _chart(across, up, marks, f"{metric} over {unit} of {', '.join(spot.label for spot in spots)}")


def _draw_spot(spot: _Spot, across: Axis, up: Axis, metric: str, unit: str) -> list[str]:
    """The filled mark of a row, and where there are two rates the line to the open one."""
    packed, *empirical = spot.rates
    title = f"{spot.label}: {metric} {spot.figure:.4g} at {packed:.4g} {unit}"
    marks = []
    for least in empirical[:1]:
        marks.append(_line([(packed, spot.figure), (least, spot.figure)], across, up, spot.index, "reach"))
        marks.append(_mark(least, spot.figure, across, up, spot.index, "open", f"{title}, empirical {least:.4g}"))
    return [*marks, _mark(packed, spot.figure, across, up, spot.index, "filled", title)]


def draw_swatch(index: int) -> str:
    """The mark of row `index`, for a legend or a table."""
    shape = MARKS[index % len(MARKS)]
    return (
        f'<svg class="swatch" viewBox="-8 -8 16 16" aria-hidden="true"><path d="{shape}" {_colour(index)}'
        ' class="filled"/></svg>'
    )


def _sort_usage(counts: torch.Tensor) -> list[tuple[float, float]]:
    """(share of the codebook, frequency over even frequency) of the codes that occur, thinned to a few points."""
    values = counts.coalesce().values() if counts.is_sparse else counts.flatten()
    codes = counts.shape[0] * counts.shape[1]
    ordered = values[values > 0].double().sort(descending=True).values
    relative = ordered / ordered.sum() * codes
    picked = sorted({round(index) for index in torch.linspace(0, len(ordered) - 1, POINTS).tolist()})
    return [((index + 0.5) / codes, float(relative[index])) for index in picked]


def _colour(index: int) -> str:
    return f'style="--c:var(--c{index % COLOURS})"'


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM)


def _line(points: Sequence[tuple[float, float]], across: Axis, up: Axis, index: int, kind: str) -> str:
    path = " ".join(f"{_x(across, x):.1f},{_y(up, y):.1f}" for x, y in points)
    dashes = "" if kind or index < COLOURS else ' stroke-dasharray="6 3"'
    return f'<polyline class="line {kind}" points="{path}" {_colour(index)}{dashes}/>'


def _mark(x: float, y: float, across: Axis, up: Axis, index: int, kind: str, title: str) -> str:
    where = f"translate({_x(across, x):.1f} {_y(up, y):.1f})"
    shape = MARKS[index % len(MARKS)]
    return (
        f'<path class="{kind}" d="{shape}" transform="{where}" {_colour(index)}><title>{escape(title)}</title></path>'
    )


def _chart(across: Axis, up: Axis, marks: Sequence[str], label: str) -> str:
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    for tick in across.ticks():
        x = _x(across, tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{tick:.4g}</text>')
    for tick in up.ticks():
        y = _y(up, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    middle = (HEIGHT - BOTTOM + TOP) / 2
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across.label)}</text>'
    )
    parts.append(f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(up.label)}</text>')
    return "".join([*parts, *marks, "</svg>"])
