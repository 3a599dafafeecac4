"""The page: one HTML file that opens from disk, asks nobody for anything, and reads on a phone, by day and by night.

Style and script are files beside this one. Every name that comes from outside is escaped; a policy in the page's head
forbids the browser whatever is not in the file itself.
"""

import json
import pathlib
from collections.abc import Sequence
from html import escape
from importlib import resources

from tokcli import __version__
from tokcli.evaluation.compare import (
    CONFIDENCE,
    COVERS,
    UNKNOWN,
    Difference,
    choose_arrow,
    find_best_rows,
    format_difference,
    format_name,
    format_number,
    list_compared,
    list_metrics,
)
from tokcli.evaluation.report.build import Report, collect_report
from tokcli.evaluation.report.charts import draw_rates, draw_swatch, draw_usage
from tokcli.evaluation.report.gallery import write_cards
from tokcli.evaluation.run import Scores
from tokcli.files import write_text
from tokcli.progress import Reporter

POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)


def save_report(path: pathlib.Path, rows: Sequence[Scores], count: int, reporter: Reporter) -> None:
    """Write one HTML file about `rows`, all of the same data, with `count` items of it."""
    write_text(path, render(collect_report(rows, count, reporter)))
    reporter.note(f"report {path}, {path.stat().st_size / 1e6:.1f} MB")


def render(report: Report) -> str:
    """The whole page as HTML."""
    title = f"tok report: {len(report.rows)} on {report.first.title.data}"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>",
            f"<style>{_read('page.css')}</style></head>",
            f'<body class="{report.modality.name}">',
            _head(report),
            "<main>",
            _figures(report),
            _charts(report),
            write_cards(report),
            _protocols(report),
            f"</main><footer>Made by tok {escape(__version__)}. This file holds all it shows.</footer>",
            f"<script>{_read('page.js')}</script></body></html>",
        ]
    )


def _read(name: str) -> str:
    return resources.files("tokcli.evaluation.report").joinpath(name).read_text(encoding="utf-8")


def _head(report: Report) -> str:
    models = sum(row.candidate.competes for row in report.rows)
    codecs = len(report.rows) - models
    counted = f"{models} tokenizer{'s' * (models != 1)}" + (f" and {codecs} codec rows" if codecs else "")
    title = report.first.title
    return (
        f"<header><h1>Tokenizer report</h1><p>{counted}, judged on <b>{report.first.items}</b> items of "
        f"<code>{escape(title.data)}</code> ({escape(title.split)}).</p>"
        '<nav aria-label="Sections"><a href="#figures">Figures</a><a href="#charts">Charts</a>'
        '<a href="#items">Items</a><a href="#protocol">Protocol</a></nav></header>'
    )


def _figures(report: Report) -> str:
    """One table row for each candidate, one column for each figure; the best model of each column is marked."""
    metrics = list_metrics(report.rows)
    best = {name: find_best_rows(report.rows, name) for name in metrics}
    units = [format_name(name) for name in list(report.first.rates)[:1]]
    heads = [*map(_metric_head, metrics), *(f'<th scope="col">{escape(unit)}</th>' for unit in units)]
    rows = [_row(index, row, metrics, best) for index, row in enumerate(report.rows)]
    remarks = "".join(
        f"<li><b>{escape(row.title.label)}</b>: {escape(remark)}</li>" for row in report.rows for remark in row.remarks
    )
    notes = f'<h3>Worth knowing</h3><ul class="remarks">{remarks}</ul>' if remarks else ""
    return (
        f'<section id="figures"><h2>Figures</h2>{_table("Figures", heads, rows)}'
        '<p class="note">The best model of a column is bold. Arrows say which way is better.</p>'
        f"{_differences(report)}{notes}</section>"
    )


def _table(name: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">'
        f'<table><thead><tr><th scope="col">model</th>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _metric_head(metric: str) -> str:
    arrow = choose_arrow(metric)
    better = "higher" if arrow == "↑" else "lower"
    shown = f' <span aria-label="{better} is better">{arrow}</span>' if arrow else ""
    return f'<th scope="col">{escape(format_name(metric))}{shown}</th>'


def _row_head(index: int, row: Scores, summary: str = "") -> str:
    kind = "model" if row.candidate.competes else "codec"
    name = f"{draw_swatch(index)}<span>{escape(row.title.label)}{summary}</span>"
    return f'<tr class="{kind}"><th scope="row"><div class="name">{name}</div></th>'


def _row(index: int, row: Scores, metrics: Sequence[str], best: dict[str, set[int]]) -> str:
    figures, cells = row.figures, []
    for name in metrics:
        shown = format_number(figures.get(name))
        cells.append(f"<td>{f'<b>{shown}</b>' if index in best[name] else shown}</td>")
    summary = f"<small>{escape(row.title.summary)}</small>"
    rate = f"<td>{_rate(row)}</td>" if row.rates else ""
    return f"{_row_head(index, row, summary)}{''.join(cells)}{rate}</tr>"


def _rate(row: Scores) -> str:
    """The rate, and under it what it would be without waste."""
    spent, least = [*row.rate_figures.values(), None][:2]
    if least is None:
        return format_number(spent)
    waste = "entropy coded" if row.candidate.competes else "without headers"
    return f"{format_number(spent)}<small>{format_number(least)} {waste}</small>"


def _differences(report: Report) -> str:
    """How the others differ from the first on the same items; nothing where no metric can say."""
    metrics = list_compared(report.rows)
    if not metrics:
        return ""
    rows = [
        _row_head(index, row)
        + "".join(f"<td>{_difference(row.comparison.differences.get(name))}</td>" for name in metrics)
        + "</tr>"
        for index, row in enumerate(report.rows)
        if row.comparison is not None and row.comparison.differences
    ]
    title = f"Difference to {escape(report.first.title.label)}, item by item"
    return (
        f"<h3>{title}</h3>{_table(title, [_metric_head(name) for name in metrics], rows)}"
        f'<p class="note">Mean difference of the same items, and the half-width of its {CONFIDENCE:.0%} interval '
        f"(paired t). Bold: the interval leaves out zero. {escape(COVERS)}</p>"
    )


def _difference(difference: Difference | None) -> str:
    if difference is None or difference.mean is None:
        return UNKNOWN
    mean, margin = format_difference(difference)
    shown = f"<b>{mean}</b>{margin}" if difference.clear else f"{mean}{margin}"
    return f"{shown}<small>{difference.items} item{'s' * (difference.items != 1)}</small>"


def _charts(report: Report) -> str:
    """Rate against each metric of items, and how the codes are used."""
    has_codecs = not all(row.candidate.competes for row in report.rows)
    codecs = " Codecs: filled for whole files, open without headers." if has_codecs else ""
    drawn = [chart for name in report.distortions if (chart := draw_rates(report, name))]
    figures = [
        f"<figure>{chart}<figcaption>Filled marks: packed rate. Open marks: what an ideal entropy coder would "
        f"spend.{codecs}</figcaption>"
        "</figure>"
        for chart in drawn
    ]
    if any(row.counts is not None for row in report.rows):
        figures.append(
            f"<figure>{draw_usage(report.rows)}<figcaption>How often each code occurs, most frequent first. "
            "The level line is even use; a curve that ends early leaves its other codes unused.</figcaption></figure>"
        )
    if not figures:
        return ""
    legend = "".join(f"<li>{draw_swatch(index)}{escape(row.title.label)}</li>" for index, row in enumerate(report.rows))
    return (
        f'<section id="charts"><h2>Charts</h2><ul class="legend">{legend}</ul>'
        f'<div class="charts">{"".join(figures)}</div></section>'
    )


def _protocols(report: Report) -> str:
    """What the figures depend on, for each row."""
    parts = []
    for row in report.rows:
        protocol = row.protocol | {"model": row.title.model, "unscored": row.json_unscored()}
        record = escape(json.dumps(protocol, indent=2, ensure_ascii=False))
        parts.append(
            f"<details><summary>{escape(row.title.label)} <small>{escape(row.title.summary)}</small></summary>"
            f'<pre tabindex="0">{record}</pre></details>'
        )
    return f'<section id="protocol"><h2>Protocol</h2>{"".join(parts)}</section>'
