"""Curves of a run as a picture: one small panel for each loss and each evaluation metric over the steps.

matplotlib draws, an extra; a run without it says so once and goes on.
"""

import importlib.util
import io
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from tokcli.files import write_bytes
from tokcli.progress import Reporter
from tokcli.training.run_folder import RunFolder, parse_entry

Curve = Sequence[tuple[float, float]]
"""(step, value), in the order of the steps."""

COLUMNS = 3
COLOURS, DASHES = 10, ("-", "--", ":")
"""What tells curves apart: each colour with a full line first, then dashed, then dotted."""

NOT_DRAWN = ("step", "evaluation", "learning_rate", "items_per_second", "unreadable")
SMOOTHED_FROM = 40
"""Points from which a moving mean is drawn over the raw line."""


def draw_curves(run: RunFolder, reporter: Reporter) -> None:
    """Write `curves.png` of a run from its metrics.jsonl; a note where matplotlib is absent."""
    training, evaluation = read_curves(run.metrics)
    panels = {name: {"training": curve} for name, curve in training.items()}
    panels |= {f"{name} (evaluation)": {"evaluation": curve} for name, curve in evaluation.items()}
    if draw_panels(panels, run.curves, reporter, title=run.path.name):
        reporter.note(f"curves: {run.curves}")


def read_curves(metrics: pathlib.Path) -> tuple[Mapping[str, Curve], Mapping[str, Curve]]:
    """The curves of the training figures and of the evaluations in a metrics.jsonl, by name; unknowns left out."""
    training: dict[str, list[tuple[float, float]]] = {}
    evaluation: dict[str, list[tuple[float, float]]] = {}
    for line in metrics.read_bytes().splitlines():
        entry = parse_entry(line)
        if entry is None:
            continue  # cut short by a kill, still being written, or damaged
        for name, value in entry.items():
            if name not in NOT_DRAWN and is_figure(value):
                training.setdefault(name, []).append((entry["step"], value))
        for name, value in entry.get("evaluation", {}).items():
            if is_figure(value):
                evaluation.setdefault(name, []).append((entry["step"], value))
    return training, evaluation


def is_figure(value: object) -> bool:
    """Whether a value of a line can be drawn: a damaged file may hold anything."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def draw_panels(panels: Mapping[str, Mapping[str, Curve]], path: pathlib.Path, reporter: Reporter, title: str) -> bool:
    """Draw a panel for each name, a line for each curve in it, and write a PNG; whether it was drawn.

    A label has one colour in all panels; where a panel has several curves, a legend beside the panels says which.
    Nothing is drawn, and a note says how to, where matplotlib is absent.
    """
    if not panels:
        return False
    if importlib.util.find_spec("matplotlib") is None:
        reporter.note(f"no {path.name}: matplotlib is not installed; run: pip install matplotlib")
        return False
    from matplotlib.figure import Figure

    compared = max(map(len, panels.values())) > 1
    columns = min(2 if compared else COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    width, height = (columns * 6.0, rows * 4.6) if compared or len(panels) == 1 else (columns * 4.0, rows * 2.6)
    beside = 1.8 if compared else 0.0  # inches, for the legend, so that it hides no curve
    figure = Figure(figsize=(width + beside, height))
    figure.suptitle(title, y=1 - 0.1 / height)
    styles = choose_styles(label for curves in panels.values() for label in curves)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, (name, curves) in zip(axes, panels.items(), strict=False):
        _draw_panel(axis, name, curves, styles)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    if compared:
        lines = {line.get_label(): line for axis in axes for line in axis.get_lines()}
        figure.legend([lines[label] for label in styles], list(styles), loc="center right", fontsize=8, frameon=False)
    figure.subplots_adjust(
        left=0.07 * width / (width + beside),
        right=0.98 * width / (width + beside),
        top=1 - 0.75 / height,
        bottom=0.5 / height,
        hspace=0.5,
        wspace=0.25,
    )
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    write_bytes(path, drawn.getvalue())
    return True


def choose_styles(labels: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A colour of matplotlib and a kind of line for each label, in the order of their first appearance."""
    return {
        label: (f"C{index % COLOURS}", DASHES[index // COLOURS % len(DASHES)])
        for index, label in enumerate(dict.fromkeys(labels))
    }


def _draw_panel(axis, name: str, curves: Mapping[str, Curve], styles: Mapping[str, tuple[str, str]]) -> None:
    for label, curve in curves.items():
        steps, values = zip(*curve, strict=True)
        colour, dashes = styles[label]
        if len(curve) >= SMOOTHED_FROM:
            axis.plot(steps, values, linewidth=0.6, alpha=0.4, color=colour)
            axis.plot(steps, moving_mean(values), dashes, linewidth=1.4, color=colour, label=label)
        else:
            axis.plot(steps, values, dashes, linewidth=1.4, marker="o", markersize=3, color=colour, label=label)
    axis.set_title(name, fontsize=10)
    axis.set_xlabel("step", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)


def moving_mean(values: Sequence[float]) -> list[float]:
    """The mean of each value's neighbourhood of a twentieth of all values to either side; shorter at the ends."""
    reach = max(1, len(values) // 20)
    means = []
    for index in range(len(values)):
        near = values[max(0, index - reach) : index + reach + 1]
        means.append(sum(near) / len(near))
    return means
