"""The table of a sweep as Markdown and a page for people, CSV for spreadsheets and JSON for programs."""

import csv
import io
import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokcli.files import write_text
from tokcli.locking import wait
from tokcli.progress import Reporter
from tokcli.sweeps.cells import Cell
from tokcli.sweeps.claims import RULE, Comparison, Decision, decide
from tokcli.sweeps.outcomes import Outcome, read_outcome
from tokcli.sweeps.page import to_html
from tokcli.sweeps.plan import IN_DOMAIN, Sweep
from tokcli.sweeps.table import Row, tabulate
from tokcli.training.curves import Curve, draw_panels

UNKNOWN = "–"
MOST_STEPS = 12
"""Columns of a table of curves: later ones are thinned out evenly."""


@dataclass(frozen=True)
class RenderedSweep:
    """A rendered sweep.

    Attributes:
        folder: Where it lies.
        markdown: What table.md holds.
        report: What table.json holds.
        unwell: Cells that failed or diverged.
    """

    folder: pathlib.Path
    markdown: str
    report: dict[str, Any]
    unwell: int


def render(
    sweep: Sweep, cells: Sequence[Cell], folder: pathlib.Path, command: str, reporter: Reporter
) -> RenderedSweep:
    """Read what the cells left, and write table.md, table.csv, table.json, report.html and a picture of each curve.

    One process at a time, from reading to writing, so that of two sweeps the later one leaves the later table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with wait(folder / ".table.lock", folder / "table.md", reporter):
        outcomes = [(cell, read_outcome(cell)) for cell in cells]
        markdown, report = _write_tables(sweep, outcomes, folder, command, reporter)
    unwell = sum(outcome.state in ("failed", "diverged") for _, outcome in outcomes)
    return RenderedSweep(folder, markdown, report, unwell)


def _write_tables(
    sweep: Sweep, outcomes: Sequence[tuple[Cell, Outcome]], folder: pathlib.Path, command: str, reporter: Reporter
) -> tuple[str, dict[str, Any]]:
    """Write the files of the table into `folder`; returns what is in table.md and table.json."""
    table = tabulate(sweep, outcomes)
    claims = [decide(claim, table) for claim in sweep.claims]
    markdown = to_markdown(sweep, table, claims, outcomes, command)
    report = to_json(sweep, table, claims, outcomes, command)
    write_text(folder / "table.md", markdown)
    write_text(folder / "table.csv", to_csv(sweep, table))
    main, legend = _render_main_table(sweep, table), _render_legend(sweep, command)
    write_text(folder / "report.html", to_html(sweep, table, main, legend, claims, outcomes))
    write_text(folder / "table.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    for metric in sweep.curves:
        draw_panels(group_curves(metric, table), folder / f"{metric}.png", reporter, f"{metric} over training")
    return markdown, report


def group_curves(metric: str, table: Sequence[Row]) -> dict[str, dict[str, Curve]]:
    """The rows' curves of a metric by method, in a panel for each codebook size."""
    panels: dict[str, dict[str, Curve]] = {}
    for row in table:
        if row.curves.get(metric):
            panel = metric if row.size is None else f"{metric}, K = {row.size}"
            panels.setdefault(panel, {})[row.method] = row.curves[metric]
    return panels


def to_markdown(
    sweep: Sweep,
    table: Sequence[Row],
    claims: Sequence[Decision],
    outcomes: Sequence[tuple[Cell, Outcome]],
    command: str,
) -> str:
    """A page: the table, what its figures are, claims, curves, and every cell that is not in it."""
    parts = [
        f"# {sweep.name}",
        sweep.summary,
        _render_markdown_table(*_render_main_table(sweep, table)),
        _render_legend(sweep, command),
    ]
    if claims:
        decided = [[decision.claim.claim, decision.verdict, str(decision)] for decision in claims]
        parts += ["## Claims", _render_markdown_table(["claim", "here", "difference"], decided), f"Decided by: {RULE}."]
    for metric in sweep.curves:
        parts += [f"## {metric} over training", _render_curve_table(metric, table)]
    absent = [(cell, outcome) for cell, outcome in outcomes if outcome.state != "finished"]
    if absent:
        listed = [[cell.label, outcome.state, outcome.reason or ""] for cell, outcome in absent]
        parts += ["## Cells that are not whole", _render_markdown_table(["cell", "state", "reason"], listed)]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_csv(sweep: Sweep, table: Sequence[Row]) -> str:
    """One line for each row of the table, data and metric."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "size", "codes", "data", "metric", "mean", "deviation", "n", "seeds", "published"])
    for row in table:
        for data in _data(sweep):
            for metric in sweep.columns:
                spread = row.figures.get((data, metric))
                figures = (spread.mean, spread.deviation, spread.count) if spread else (None, None, 0)
                published = _published(sweep, row, data, metric)
                writer.writerow([row.method, row.size, row.codes, data, metric, *figures, row.seeds, published])
    return text.getvalue()


def to_json(
    sweep: Sweep,
    table: Sequence[Row],
    claims: Sequence[Decision],
    outcomes: Sequence[tuple[Cell, Outcome]],
    command: str,
) -> dict[str, Any]:
    """Everything: the table with each seed's figures, claims, and the cells with their commands."""
    return {
        "sweep": sweep.name,
        "command": command,
        "setting": sweep.published.setting if sweep.published else None,
        "rows": [_make_json_row(sweep, row) for row in table],
        "claims": [
            {
                "claim": decision.claim.claim,
                "verdict": decision.verdict,
                "comparisons": [_make_json_comparison(comparison) for comparison in decision.comparisons],
                "together": _make_json_comparison(decision.together) if decision.together is not None else None,
            }
            for decision in claims
        ],
        "cells": [
            {
                "cell": cell.label,
                "folder": str(cell.path),
                "state": outcome.state,
                "reason": outcome.reason,
                "seconds": outcome.seconds,
                "command": cell.command,
            }
            for cell, outcome in outcomes
        ],
    }


def _make_json_comparison(comparison: Comparison) -> dict[str, Any]:
    chance = {"p": comparison.p, "verdict": comparison.verdict}
    return {"size": comparison.size, "difference": comparison.difference, **chance}


def _make_json_row(sweep: Sweep, row: Row) -> dict[str, Any]:
    figures: dict[str, dict[str, Any]] = {}
    for (data, metric), spread in row.figures.items():
        values = {str(seed): value for seed, value in spread.values.items()}
        figures.setdefault(data, {})[metric] = {
            "mean": spread.mean,
            "deviation": spread.deviation,
            "n": spread.count,
            "by_seed": values,
        }
    return {
        "method": row.method,
        "size": row.size,
        "codes": row.codes,
        "n": row.finished,
        "seeds": row.seeds,
        "figures": figures,
        "published": _list_published(sweep, row, IN_DOMAIN),
        "published_out_of_domain": {
            data: _list_published(sweep, row, data)
            for data in (sweep.published.out_of_domain if sweep.published else ())
        },
        "curves": {metric: [list(point) for point in curve] for metric, curve in row.curves.items()},
    }


def _render_main_table(sweep: Sweep, table: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    header = ["method", *(["K", "codes"] if sweep.sizes else []), "n"]
    columns = [(data, metric) for data in _data(sweep) for metric in sweep.columns]
    beside = {column for column in columns if any(_published(sweep, row, *column) is not None for row in table)}
    for data, metric in columns:
        name = metric if data == IN_DOMAIN else f"{metric}, {data}"
        header += [name, f"{name}, published"] if (data, metric) in beside else [name]
    lines = []
    for row in table:
        sizes = [_format(row.size), _format(row.codes)] if sweep.sizes else []
        line = [
            row.method,
            *sizes,
            str(row.finished) if row.finished == row.seeds else f"{row.finished} of {row.seeds}",
        ]
        for column in columns:
            line.append(_format(row.figures.get(column)))
            if column in beside:
                line.append(_format(_published(sweep, row, *column)))
        lines.append(line)
    return header, lines


def _render_legend(sweep: Sweep, command: str) -> str:
    lines = ["Ours: mean ± sample standard deviation over n seeds; a blank is a figure that no seed has."]
    if sweep.overrides:
        lines.append(f"Every cell: `{' '.join(sweep.overrides)}`.")
    if sweep.published:
        lines.append(f"Published, in another setting: {sweep.published.setting}.")
    return "  \n".join([*lines, f"Made by: `{command}`"])


def _render_curve_table(metric: str, table: Sequence[Row]) -> str:
    steps = sorted({step for row in table for step, _ in row.curves.get(metric, [])})
    if not steps:
        return "No cell has one yet."
    stride = -(-len(steps) // MOST_STEPS)
    thinned = steps[::-1][::stride][::-1]
    lines = []
    for row in table:
        curve = dict(row.curves.get(metric, []))
        lines.append([row.label, *(f"{curve[step]:.3g}" if step in curve else UNKNOWN for step in thinned)])
    return _render_markdown_table(["step", *map(str, thinned)], lines)


def _render_markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    cells = [[text.replace("|", "\\|").replace("\n", " ") for text in line] for line in [header, *lines]]
    widths = [max(3, *(len(line[column]) for line in cells)) for column in range(len(header))]
    rows = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    return "\n".join([rows[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *rows[1:]])


def _published(sweep: Sweep, row: Row, data: str, metric: str) -> float | str | None:
    return sweep.published.figure(row.method, row.size, data, metric) if sweep.published else None


def _list_published(sweep: Sweep, row: Row, data: str) -> dict[str, float | str]:
    figures = {
        metric: _published(sweep, row, data, metric) for metric in (sweep.published.metrics if sweep.published else ())
    }
    return {metric: figure for metric, figure in figures.items() if figure is not None}


def _data(sweep: Sweep) -> list[str]:
    return [IN_DOMAIN, *sweep.evaluate]


def _format(value: Any) -> str:
    return UNKNOWN if value is None else str(value)
