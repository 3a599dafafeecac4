"""Rate against distortion at the rate that a language model pays; and how that rate goes with evenly used codes."""

import importlib.util
import io
import math
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from tokcli.files import write_bytes
from tokcli.probing.scores import ProbeScores
from tokcli.progress import Reporter

FEWEST = 4
"""Tokenizers of which a correlation has an interval."""

NORMAL_QUANTILE = 1.959963984540054
"""Of 97.5 %."""


@dataclass(frozen=True)
class Correlation:
    """Pearson's correlation with its 95 % interval by Fisher's transformation.

    Attributes:
        value: r.
        low, high: of the interval.
        count: pairs.
    """

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}], {self.count} tokenizers"


def correlate(first: Sequence[float], second: Sequence[float]) -> Correlation | None:
    """How two figures go together; None for fewer than four pairs, or where one does not vary."""
    count = len(first)
    if count < FEWEST or numpy.ptp(first) == 0 or numpy.ptp(second) == 0:
        return None
    value = float(numpy.clip(numpy.corrcoef(first, second)[0, 1], -1 + 1e-12, 1 - 1e-12))
    middle, margin = math.atanh(value), NORMAL_QUANTILE / math.sqrt(count - 3)
    return Correlation(value, math.tanh(middle - margin), math.tanh(middle + margin), count)


def describe_correlations(rows: Sequence[ProbeScores]) -> list[str]:
    """What CVU says about the bits that a probe needs, as a share of log2 K so that codebooks of any size compare."""
    cvu = [row.cvu for row in rows]
    told = []
    for words, values in (
        ("the probe's bits over log2 K", [row.bits / row.packed_bits for row in rows]),
        ("the first-order bits over log2 K", [row.first_order_bits / row.packed_bits for row in rows]),
        ("the probe's gain over the first order", [row.gains["first_order"] for row in rows]),
    ):
        found = correlate(cvu, values)
        if found is not None:
            told.append(f"correlation of cvu and {words}: {found}")
    return told


def draw_trade(rows: Sequence[ProbeScores], path: pathlib.Path, reporter: Reporter) -> bool:
    """Write a PNG with a panel for each known figure of reconstruction and one for CVU; whether it was drawn.

    A filled mark lies at the rate that the probe pays, an open one at log2 K a token. Rows of different units are not
    drawn together: those of the first row's are.
    """
    if importlib.util.find_spec("matplotlib") is None:
        reporter.note(f"no {path.name}: matplotlib is not installed; run: pip install matplotlib")
        return False
    from matplotlib.figure import Figure

    unit = rows[0].unit
    rows = [row for row in rows if row.unit == unit]
    metrics = list(dict.fromkeys(name for row in rows for name in row.reconstruction))
    figure = Figure(figsize=(5.2 * (len(metrics) + 1), 4), layout="constrained")
    axes = figure.subplots(1, len(metrics) + 1, squeeze=False)[0]
    for axis, name in zip(axes, metrics, strict=False):
        _draw_metric(axis, rows, name, unit.replace("_", " "))
    _draw_cvu(axes[-1], rows)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    write_bytes(path, drawn.getvalue())
    return True


def _draw_metric(axis, rows: Sequence[ProbeScores], name: str, unit: str) -> None:
    for row in rows:
        if name not in row.reconstruction:
            continue
        value = row.reconstruction[name]
        (line,) = axis.plot([row.rates["probe"], row.rates["packed"]], [value, value], linewidth=0.7, alpha=0.6)
        axis.plot(row.rates["probe"], value, "o", color=line.get_color())
        axis.plot(row.rates["packed"], value, "o", color=line.get_color(), fillstyle="none")
        axis.annotate(row.name, (row.rates["probe"], value), fontsize=7, xytext=(3, 4), textcoords="offset points")
    axis.set_xlabel(f"{unit}: filled, by the probe; open, log2 K a token", fontsize=8)
    axis.set_title(name, fontsize=10)
    axis.margins(x=0.15, y=0.1)
    axis.grid(alpha=0.3)


def _draw_cvu(axis, rows: Sequence[ProbeScores]) -> None:
    for row in rows:
        (point,) = axis.plot(row.cvu, row.bits / row.packed_bits, "o")
        axis.plot(row.cvu, row.first_order_bits / row.packed_bits, "o", color=point.get_color(), fillstyle="none")
        axis.annotate(
            row.name, (row.cvu, row.bits / row.packed_bits), fontsize=7, xytext=(3, 4), textcoords="offset points"
        )
    axis.set_xlabel("cvu", fontsize=8)
    axis.set_title("bits over log2 K: filled, the probe; open, first order", fontsize=10)
    axis.margins(x=0.15, y=0.1)
    axis.grid(alpha=0.3)
