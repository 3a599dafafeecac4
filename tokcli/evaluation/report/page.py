"""The page: one HTML file that opens from disk, asks nobody for anything, and reads on a phone, by day and by night.

Style and script are files beside this one. Every name that comes from outside is escaped; a policy in the page's head
forbids the browser whatever is not in the file itself.
"""

import json
from collections.abc import Sequence
from html import escape
from importlib import resources

from tokcli.evaluation.report.charts import rate_chart, swatch, usage_chart
from tokcli.evaluation.report.content import Contender, Report, best_of
from tokcli.evaluation.report.gallery import cards
from tokcli.evaluation.run import CONFIDENCE, COVERS, Difference

POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)


def render(report: Report) -> str:
    """The whole page as HTML."""
    title = f"tok report: {len(report.contenders)} on {report.data}"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>",
            f"<style>{_file('page.css')}</style></head>",
            f'<body class="{report.modality}">',
            _head(report),
            "<main>",
            _figures(report),
            _charts(report),
            cards(report),
            _protocols(report),
            f"</main><footer>Made by tok {escape(report.version)}. This file holds all it shows.</footer>",
            f"<script>{_file('page.js')}</script></body></html>",
        ]
    )


def _file(name: str) -> str:
    return resources.files("tokcli.evaluation.report").joinpath(name).read_text(encoding="utf-8")


def _head(report: Report) -> str:
    models = sum(one.is_model for one in report.contenders)
    codecs = len(report.contenders) - models
    counted = f"{models} tokenizer{'s' * (models != 1)}" + (f" and {codecs} codec rows" if codecs else "")
    return (
        f"<header><h1>Tokenizer report</h1><p>{counted}, judged on <b>{report.items}</b> items of "
        f"<code>{escape(report.data)}</code> ({escape(report.split)}).</p>"
        '<nav aria-label="Sections"><a href="#figures">Figures</a><a href="#charts">Charts</a>'
        '<a href="#items">Items</a><a href="#protocol">Protocol</a></nav></header>'
    )


def _figures(report: Report) -> str:
    """One row for each contender, one column for each figure; the best model of each column is marked."""
    metrics = list(dict.fromkeys(name for one in report.contenders for name in one.figures))
    unit = next(iter(report.contenders[0].rate))
    models = [one.figures for one in report.contenders if one.is_model]
    directed = [name for name in metrics if name in report.higher_is_better]
    best = {name: best_of(models, name, report.higher_is_better[name]) for name in directed}
    head = "".join(f'<th scope="col">{escape(_words(name))}{_arrow(report, name)}</th>' for name in metrics)
    head += f'<th scope="col">{escape(_words(unit))}</th>'
    rows = "".join(_row(place, one, metrics, best) for place, one in enumerate(report.contenders))
    remarks = "".join(
        f"<li><b>{escape(one.label)}</b>: {escape(remark)}</li>" for one in report.contenders for remark in one.remarks
    )
    notes = f'<h3>Worth knowing</h3><ul class="remarks">{remarks}</ul>' if remarks else ""
    return (
        '<section id="figures"><h2>Figures</h2><div class="scroll" tabindex="0" role="region" aria-label="Figures">'
        f'<table><thead><tr><th scope="col">model</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        '<p class="note">The best model of a column is bold. Arrows say which way is better.</p>'
        f"{_differences(report)}{notes}</section>"
    )


def _differences(report: Report) -> str:
    """How the others differ from the first on the same items; nothing where no metric can say."""
    first, *others = report.contenders
    metrics = list(dict.fromkeys(name for one in others for name in one.differences))
    if not metrics:
        return ""
    head = "".join(f'<th scope="col">{escape(_words(name))}{_arrow(report, name)}</th>' for name in metrics)
    rows = "".join(
        f'<tr class="{"model" if one.is_model else "codec"}"><th scope="row"><div class="name">{swatch(place)}'
        f"<span>{escape(one.label)}</span></div></th>"
        + "".join(f"<td>{_difference(one.differences.get(name))}</td>" for name in metrics)
        + "</tr>"
        for place, one in enumerate(others, start=1)
        if one.differences
    )
    title = f"Difference to {escape(first.label)}, item by item"
    return (
        f'<h3>{title}</h3><div class="scroll" tabindex="0" role="region" aria-label="{title}">'
        f'<table><thead><tr><th scope="col">model</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="note">Mean difference of the same items, and the half-width of its {CONFIDENCE:.0%} interval '
        f"(paired t). Bold: the interval leaves out zero. {escape(COVERS)}</p>"
    )


def _difference(difference: Difference | None) -> str:
    if difference is None or difference.mean is None:
        return "–"
    mean = f"{difference.mean:+.3g}"
    margin = "" if difference.margin is None else f" ± {difference.margin:.2g}"
    shown = f"<b>{mean}</b>{margin}" if difference.clear else f"{mean}{margin}"
    return f"{shown}<small>{difference.items} item{'s' * (difference.items != 1)}</small>"


def _row(place: int, one: Contender, metrics: Sequence[str], best: dict[str, float | None]) -> str:
    cells = []
    for name in metrics:
        value = one.figures.get(name)
        mark = one.is_model and value is not None and value == best.get(name)
        cells.append(f"<td>{f'<b>{_number(value)}</b>' if mark else _number(value)}</td>")
    cells.append(f"<td>{_rate(one)}</td>")
    name = f"{swatch(place)}<span>{escape(one.label)}<small>{escape(one.summary)}</small></span>"
    kind = "model" if one.is_model else "codec"
    return f'<tr class="{kind}"><th scope="row"><div class="name">{name}</div></th>{"".join(cells)}</tr>'


def _rate(one: Contender) -> str:
    """The rate, and under it what it would be without waste."""
    spent, least = [*one.rate.values(), None][:2]
    if least is None:
        return _number(spent)
    return f"{_number(spent)}<small>{_number(least)} {'entropy coded' if one.is_model else 'without headers'}</small>"


def _charts(report: Report) -> str:
    """Rate against each metric of items, and how the codes are used."""
    has_codecs = any(not one.is_model for one in report.contenders)
    codecs = " Codecs: filled for whole files, open without headers." if has_codecs else ""
    drawn = [chart for name in report.distortions if (chart := rate_chart(report, name))]
    figures = [
        f"<figure>{chart}<figcaption>Filled marks: packed rate. Open marks: what an ideal entropy coder would "
        f"spend.{codecs}</figcaption>"
        "</figure>"
        for chart in drawn
    ]
    if any(one.counts is not None for one in report.contenders):
        figures.append(
            f"<figure>{usage_chart(report.contenders)}<figcaption>How often each code occurs, most frequent first. "
            "The level line is even use; a curve that ends early leaves its other codes unused.</figcaption></figure>"
        )
    legend = "".join(f"<li>{swatch(place)}{escape(one.label)}</li>" for place, one in enumerate(report.contenders))
    return (
        f'<section id="charts"><h2>Charts</h2><ul class="legend">{legend}</ul>'
        f'<div class="charts">{"".join(figures)}</div></section>'
    )


def _protocols(report: Report) -> str:
    """What the figures depend on, for each contender."""
    parts = []
    for one in report.contenders:
        record = escape(json.dumps(one.protocol, indent=2, ensure_ascii=False))
        parts.append(
            f"<details><summary>{escape(one.label)} <small>{escape(one.summary)}</small></summary>"
            f'<pre tabindex="0">{record}</pre></details>'
        )
    return f'<section id="protocol"><h2>Protocol</h2>{"".join(parts)}</section>'


def _words(name: str) -> str:
    return name.replace("_", " ")


def _arrow(report: Report, name: str) -> str:
    if name not in report.higher_is_better:
        return ""
    higher = report.higher_is_better[name]
    return f' <span aria-label="{"higher" if higher else "lower"} is better">{"↑" if higher else "↓"}</span>'


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
