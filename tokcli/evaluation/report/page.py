"""The page: one HTML file that opens from disk, asks nobody for anything, and reads on a phone, by day and by night.

Style and script are files beside this one. Every name that comes from outside is escaped; a policy in the page's head
forbids the browser whatever is not in the file itself.
"""

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
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
    higher_is_better,
    list_compared,
    list_metrics,
)
from tokcli.evaluation.report.build import Report, collect_report
from tokcli.evaluation.report.charts import draw_rates, draw_swatch, draw_usage
from tokcli.evaluation.report.gallery import write_cards
from tokcli.evaluation.report.views import Storage
from tokcli.evaluation.run import Scores, select_grouped
from tokcli.files import write_bytes, write_text
from tokcli.metrics import METRICS
from tokcli.progress import Reporter

POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)


POLICY_BESIDE = POLICY.replace("-src data:", "-src data: 'self' file:")
"""Where pictures and audio lie in a folder beside the page, on a disk or a server."""

THUMBNAILS = ((640, 90), (480, 80), (360, 75), (256, 70), (192, 60), (128, 50), (96, 40), (64, 30))
"""The longest side in pixels and the quality, tried one after the other until the page is small enough."""

FILE = re.compile(r"\d+-\d+\.(webp|flac)")
"""What a page keeps in its folder."""


def save_report(
    path: pathlib.Path, rows: Sequence[Scores], count: int, reporter: Reporter, budget: int | None = None
) -> None:
    """Write an HTML file about `rows`, all of the same data, with `count` items for each metric.

    Args:
        path: Of the page.
        rows: Scores of the same items.
        count: Items for each metric that scores items.
        reporter: Is told how far it is.
        budget: Bytes of the page. Where it takes more, thumbnails stand in it, and what they are of lies without loss
            in the folder `NAME.files` beside it. None: everything is in the page.
    """
    report = collect_report(rows, count, reporter)
    page, storage = fit(report, f"{path.stem}.files", budget)
    if storage.folder is not None:
        _save_files(path.with_name(storage.folder), storage.files)
        reporter.note(f"whole pictures: {path.with_name(storage.folder)}")
    write_text(path, page)
    size = path.stat().st_size
    reporter.note(f"report {path}, {size / 1e6:.1f} MB")
    if budget is not None and size > budget:
        reporter.note(f"that is over {budget / 1e6:.3g} MB with the smallest thumbnails; lower --report-items")


def fit(report: Report, folder: str, budget: int | None) -> tuple[str, Storage]:
    """The page within so many bytes, or the smallest there is, and where its pictures lie."""
    storage = Storage()
    page = render(report, storage)
    if budget is None or len(page.encode()) <= budget:
        return page, storage
    files: dict[str, bytes] = {}
    for side, quality in THUMBNAILS:
        storage = Storage(folder, side, quality, files)
        page = render(report, storage)
        if len(page.encode()) <= budget:
            break
    return page, storage


def _save_files(folder: pathlib.Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a page into its folder, in the place of those of an earlier page."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if FILE.fullmatch(path.name) and path.name not in files:
            path.unlink()
    for name, content in files.items():
        write_bytes(folder / name, content)


def render(report: Report, storage: Storage | None = None) -> str:
    """The whole page as HTML, with pictures where `storage` puts them; None: in the page."""
    storage = storage or Storage()
    title = f"tok report: {len(report.rows)} on {report.first.title.data}"
    held = "This file holds all it shows." if storage.folder is None else f"Its pictures lie in {storage.folder}."
    parts = [_head(report), "<main>", _figures(report), _charts(report), write_cards(report, storage)]
    parts += [_protocols(report), "</main>", _foot(held)]
    return wrap(title, report.modality.name, "".join(parts), ["tables.js", "page.js"], storage.folder is not None)


def _foot(held: str) -> str:
    return f"<footer>Made by tok {escape(__version__)}. {escape(held)}</footer>"


def wrap(title: str, kind: str, body: str, scripts: Sequence[str], beside: bool = False) -> str:
    """A whole HTML page.

    Args:
        title: Of the window.
        kind: The class of its body.
        body: Its content.
        scripts: Files of this folder.
        beside: Whether it shows files that lie beside it.
    """
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY_BESIDE if beside else POLICY}">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>",
            f"<style>{_read('page.css')}</style></head>",
            f'<body class="{kind}">',
            body,
            *(f"<script>{_read(name)}</script>" for name in scripts),
            "</body></html>",
        ]
    )


def _read(name: str) -> str:
    return resources.files("tokcli.evaluation.report").joinpath(name).read_text(encoding="utf-8")


def _head(report: Report) -> str:
    models = sum(row.candidate.competes for row in report.rows)
    codecs = len(report.rows) - models
    thing = "tokenizer" if report.first.rates else "folder"
    counted = f"{models} {thing}{'s' * (models != 1)}" + (f" and {codecs} codec rows" if codecs else "")
    title = report.first.title
    charts = '<a href="#charts">Charts</a>' if _charts(report) else ""
    return (
        f"<header><h1>Tokenizer report</h1><p>{counted}, judged on <b>{report.first.items}</b> items of "
        f"<code>{escape(title.data)}</code> ({escape(title.split)}).</p>"
        f'<nav aria-label="Sections"><a href="#figures">Figures</a>{charts}'
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
        f'<section id="figures"><h2>Figures</h2>{write_table("Figures", heads, rows)}'
        '<p class="note">The best model of a column is bold. Arrows say which way is better. A press on a heading '
        f"sorts.</p>{write_meanings(metrics)}{_differences(report)}{_groups(report)}{notes}</section>"
    )


def _groups(report: Report) -> str:
    """How each group of tokens uses its codes, a table for each model with several at a position."""
    tables = []
    for row in select_grouped(report.rows):
        title = f"{escape(row.title.label)}, by group"
        heads = [f'<th scope="col">{escape(format_name(name))}</th>' for name in row.by_group]
        lines = [
            f'<tr><th scope="row">{number}</th>'
            + "".join(f'<td data-value="{value:.9g}">{format_number(value)}</td>' for value in figures)
            + "</tr>"
            for number, figures in enumerate(zip(*row.by_group.values(), strict=True), 1)
        ]
        tables.append(f"<h3>{title}</h3>{write_table(title, heads, lines, first='group')}")
    return "".join(tables)


def write_meanings(metrics: Sequence[str]) -> str:
    """What each column says."""
    told = "".join(
        f"<div><dt>{escape(format_name(name))}</dt><dd>{escape(METRICS[name].meaning)}</dd></div>"
        for name in metrics
        if METRICS[name].meaning
    )
    return f'<dl class="meanings">{told}</dl>' if told else ""


def write_table(name: str, heads: Sequence[str], rows: Sequence[str], first: str = "model") -> str:
    """A table that sorts by any column.

    Args:
        name: What it is called.
        heads: The headings but the first, as HTML.
        rows: As HTML; a cell's `data-value` is what it is sorted by.
        first: The heading of the first column.
    """
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">'
        f'<table class="sortable"><thead><tr><th scope="col">{escape(first)}</th>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _metric_head(metric: str) -> str:
    arrow = choose_arrow(metric)
    better = "higher" if arrow == "↑" else "lower"
    shown = f' <span role="img" aria-label="{better} is better">{arrow}</span>' if arrow else ""
    unit = f" <small>{escape(METRICS[metric].unit)}</small>" if METRICS[metric].unit else ""
    first = "ascending" if arrow == "↓" else "descending"
    return f'<th scope="col" data-first="{first}">{escape(format_name(metric))}{unit}{shown}</th>'


def _row_head(index: int, row: Scores, summary: str = "") -> str:
    kind = "model" if row.candidate.competes else "codec"
    name = f"{draw_swatch(index)}<span>{escape(row.title.label)}{summary}</span>"
    return f'<tr class="{kind}"><th scope="row"><div class="name">{name}</div></th>'


def _row(index: int, row: Scores, metrics: Sequence[str], best: dict[str, set[int]]) -> str:
    figures, cells = row.figures, []
    for name in metrics:
        shown = format_number(figures.get(name))
        value = "" if figures.get(name) is None else f"{figures[name]:.9g}"
        cells.append(f'<td data-value="{value}">{f"<b>{shown}</b>" if index in best[name] else shown}</td>')
    summary = f"<small>{escape(row.title.summary)}</small>"
    spent = next((value for value in row.rate_figures.values() if value is not None), None)
    value = "" if spent is None else f"{spent:.9g}"
    rate = f'<td data-value="{value}">{_rate(row)}</td>' if row.rates else ""
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
        + "".join(_difference(name, row.comparison.differences.get(name)) for name in metrics)
        + "</tr>"
        for index, row in enumerate(report.rows)
        if row.comparison is not None and row.comparison.differences
    ]
    title = f"Difference to {escape(report.first.title.label)}, item by item"
    return (
        f"<h3>{title}</h3>{write_table(title, [_metric_head(name) for name in metrics], rows)}"
        f'<p class="note">Mean difference of the same items, and the half-width of its {CONFIDENCE:.0%} interval '
        f"(paired t). Bold, with the word better or worse: the interval leaves out zero. {escape(COVERS)}</p>"
    )


def _difference(metric: str, difference: Difference | None) -> str:
    """A cell: a clear difference says in a word, and shows by its colour, whether it is for the better."""
    if difference is None or difference.mean is None:
        return f'<td data-value="">{UNKNOWN}</td>'
    mean, margin = format_difference(difference)
    items = f"{difference.items} item{'s' * (difference.items != 1)}"
    higher, kind = higher_is_better(metric), ""
    if difference.clear and higher is not None:
        kind = "better" if (difference.mean > 0) == higher else "worse"
    shown = f"<b>{mean}</b>{margin}" if difference.clear else f"{mean}{margin}"
    verdict = f"{'▲' if kind == 'better' else '▼'} {kind}, " if kind else ""
    return (
        f'<td data-value="{difference.mean:.9g}"{f" class={kind!r}" if kind else ""}>{shown}'
        f"<small>{verdict}{items}</small></td>"
    )


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
