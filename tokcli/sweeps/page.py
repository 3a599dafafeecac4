"""The table of a sweep as a page: sortable, with claims, curves over training and the command of every cell."""

import re
from collections.abc import Sequence
from html import escape

from tokcli import __version__
from tokcli.evaluation.compare import choose_arrow, format_name
from tokcli.evaluation.report.charts import draw_curves, draw_swatch
from tokcli.evaluation.report.page import wrap, write_meanings, write_table
from tokcli.sweeps.cells import Cell
from tokcli.sweeps.claims import RULE, Decision
from tokcli.sweeps.outcomes import Outcome
from tokcli.sweeps.plan import Sweep
from tokcli.sweeps.table import Row

LEADING_NUMBER = re.compile(r"[-−+]?\d[\d,]*\.?\d*")


def to_html(
    sweep: Sweep,
    table: Sequence[Row],
    main: tuple[Sequence[str], Sequence[Sequence[str]]],
    legend: str,
    claims: Sequence[Decision],
    outcomes: Sequence[tuple[Cell, Outcome]],
) -> str:
    """The page.

    Args:
        sweep: What was planned.
        table: A row for each method and size.
        main: The headings and the lines of the table.
        legend: What its figures are, in Markdown's lines.
        claims: As they were decided.
        outcomes: Of all cells.
    """
    sections = {
        "table": ("Table", _write_main(sweep, table, main, legend)),
        "claims": ("Claims", _write_claims(claims)),
        "curves": ("Over training", _write_curves(sweep, table)),
        "cells": ("Cells", _write_cells(outcomes)),
    }
    shown = {name: section for name, section in sections.items() if section[1]}
    links = "".join(f'<a href="#{name}">{title}</a>' for name, (title, _) in shown.items())
    summary = f"<p>{escape(sweep.summary)}</p>" if sweep.summary else ""
    head = f'<header><h1>{escape(sweep.name)}</h1>{summary}<nav aria-label="Sections">{links}</nav></header>'
    body = "".join(f'<section id="{name}"><h2>{title}</h2>{part}</section>' for name, (title, part) in shown.items())
    foot = f"<footer>Made by tok {escape(__version__)}. This file holds all it shows.</footer>"
    return wrap(f"tok sweep: {sweep.name}", "sweep", f"{head}<main>{body}</main>{foot}", ["tables.js"])


def _write_main(
    sweep: Sweep, table: Sequence[Row], main: tuple[Sequence[str], Sequence[Sequence[str]]], legend: str
) -> str:
    """The table, what its columns say and what its figures are."""
    header, lines = main
    heads = [_write_head(name, sweep) for name in header[1:]]
    rows = []
    for index, line in enumerate(lines):
        cells = "".join(_write_cell(text) for text in line[1:])
        name = f'<div class="name">{draw_swatch(index)}<span>{escape(line[0])}</span></div>'
        rows.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    notes = "".join(f'<p class="note">{escape(note.strip().replace("`", ""))}</p>' for note in legend.split("  \n"))
    return f"{write_table('Table', heads, rows, 'method')}{notes}{write_meanings(sweep.columns)}"


def _write_head(name: str, sweep: Sweep) -> str:
    """A heading; of a metric with its arrow."""
    metric = name.partition(",")[0]
    arrow = choose_arrow(metric) if metric in sweep.columns else ""
    better = "higher" if arrow == "↑" else "lower"
    shown = f' <span role="img" aria-label="{better} is better">{arrow}</span>' if arrow else ""
    first = "ascending" if arrow in ("↓", "") else "descending"
    return f'<th scope="col" data-first="{first}">{escape(format_name(name))}{shown}</th>'


def _write_cell(text: str) -> str:
    """A cell that sorts by the number that it begins with."""
    number = LEADING_NUMBER.match(text)
    value = number[0].replace(",", "").replace("−", "-") if number else ""
    return f'<td data-value="{value}">{escape(text)}</td>'


def _write_claims(claims: Sequence[Decision]) -> str:
    """Each claim, whether it holds here, and by how much."""
    if not claims:
        return ""
    rows = [
        f'<tr><th scope="row">{escape(decision.claim.claim)}</th><td>{escape(decision.verdict)}</td>'
        f"<td>{escape(str(decision))}</td></tr>"
        for decision in claims
    ]
    heads = ['<th scope="col">here</th>', '<th scope="col">difference</th>']
    return f'<div class="words">{write_table("Claims", heads, rows, "claim")}</div><p class="note">{escape(RULE)}.</p>'


def _write_curves(sweep: Sweep, table: Sequence[Row]) -> str:
    """A chart for each metric that is followed over training, a line for each row that has it."""
    figures = []
    for metric in sweep.curves:
        curves = [(index, row.label, row.curves[metric]) for index, row in enumerate(table) if row.curves.get(metric)]
        if curves:
            chart = draw_curves(metric, curves)
            figures.append(f"<figure>{chart}<figcaption>Mean over the seeds that have the step.</figcaption></figure>")
    if not figures:
        return ""
    legend = "".join(f"<li>{draw_swatch(index)}{escape(row.label)}</li>" for index, row in enumerate(table))
    return f'<ul class="legend">{legend}</ul><div class="charts">{"".join(figures)}</div>'


def _write_cells(outcomes: Sequence[tuple[Cell, Outcome]]) -> str:
    """Every cell with its state, what went wrong, how long it took, and its command."""
    rows = []
    for cell, outcome in outcomes:
        seconds = "" if outcome.seconds is None else f"{outcome.seconds:.0f}"
        rows.append(
            f'<tr><th scope="row">{escape(cell.label)}</th><td>{escape(outcome.state)}</td>'
            f'<td data-value="{seconds}">{seconds or "–"}</td><td>{escape(outcome.reason or "")}</td>'
            f"<td><code>{escape(cell.command)}</code></td></tr>"
        )
    names = ["state", "seconds", "reason", "command"]
    heads = [f'<th scope="col" data-first="ascending">{name}</th>' for name in names]
    return f'<div class="words">{write_table("Cells", heads, rows, "cell")}</div>'
