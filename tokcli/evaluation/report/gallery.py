"""The part of the page that shows items: an original and what each candidate made of it, to be compared by eye or ear.

Each card has a stage, where two pictures lie on each other, and a strip of small pictures that says which two. The
stage borrows the strip's pictures, so that each is in the file once.
"""

import json
from collections.abc import Sequence
from html import escape

from torch import Tensor

from tokcli.evaluation.compare import format_name, format_number
from tokcli.evaluation.report.build import Report, Returned, ShownItem
from tokcli.evaluation.report.charts import draw_swatch
from tokcli.evaluation.report.views import Storage, draw_token_maps, pack_tokens
from tokcli.metrics import METRICS

MODES = (
    ("slide", "Slide", "Drag across the picture, or use the slider: what you chose first is on the left."),
    ("flip", "Flip", "Tap the picture, or press space: the two take turns."),
    ("difference", "Difference", "How far the two are apart, four times as bright; black is nothing."),
    ("tokens", "Tokens", "Which token is where: alike colours stand for alike codes. Point at one to read it."),
)

Maps = dict[tuple[int, int], tuple[str, str, int, int]]
"""By item and row: a token map's picture, its packed tokens, its columns and its groups."""


def write_cards(report: Report, storage: Storage) -> str:
    """The section of items, with pictures and audio where `storage` puts them."""
    if not report.shown:
        return '<section id="items"><h2>Items</h2><p class="note">No items were asked for.</p></section>'
    maps = _draw_maps(report)
    shown = "".join(_card(report, storage, number, item, maps) for number, item in enumerate(report.shown))
    return (
        f'<section id="items"><h2>Items</h2><p class="note">{len(report.shown)} of {report.first.items} items. '
        f"{_ranked(report)}{escape(_limits(report, storage))}</p>{_toolbar(report, storage)}"
        f'<div class="cards">{shown}</div></section>'
    )


def _ranked(report: Report) -> str:
    return "Worst and best are by the models' mean. " if report.ranking else ""


def _limits(report: Report, storage: Storage) -> str:
    """What of an item the page shows."""
    if storage.folder is None:
        return report.modality.view.limits
    return (
        f"Small pictures are thumbnails, lossy, of at most {storage.side} pixels. What is compared is read from the "
        f"folder {storage.folder} beside this page, without loss."
    )


def _toolbar(report: Report, storage: Storage) -> str:
    modes = "".join(
        f'<button type="button" data-mode="{mode}" data-hint="{escape(hint)}" aria-pressed="false">{label}</button>'
        for mode, label, hint in MODES
    )
    choices = "".join(
        f'<option value="{index}">{escape(row.title.label)}</option>' for index, row in enumerate(report.rows)
    )
    return (
        f'<div class="toolbar"><div class="modes" role="group" aria-label="How to compare">{modes}</div>'
        f'<label>left <select id="left"><option value="-1">original</option>{choices}</select></label>'
        f'<label>right <select id="contender">{choices}</select></label>{_ranking_choice(report)}'
        f'<p class="hint" id="hint">{escape(MODES[0][2])}</p>{_absence(storage)}</div>'
    )


def _ranking_choice(report: Report) -> str:
    """By which metric worst and best are chosen; nothing where there is no choice."""
    if len(report.ranking) < 2:
        return ""
    options = "".join(
        f'<option value="{escape(metric)}">{escape(format_name(metric))}</option>' for metric in report.ranking
    )
    return f'<label>worst and best by <select id="ranking">{options}</select></label>'


def _absence(storage: Storage) -> str:
    """What is shown where the folder of whole pictures is not beside the page."""
    told = "" if storage.folder is None else f"{storage.folder} is not beside this page: these are thumbnails."
    return f'<p class="absent" id="absent" role="status" hidden>{escape(told)}</p>'


def _card(report: Report, storage: Storage, number: int, item: ShownItem, maps: Maps) -> str:
    view = report.modality.view
    reconstructions = [returned.reconstruction for returned in item.returned]
    drawn = view.draw(item.reference, reconstructions, report.sample_rate)
    images = [storage.place_image(f"{number}-{place}", image) for place, image in enumerate(drawn)]
    played = view.play([item.reference, *reconstructions], report.sample_rate)
    audio = [storage.place_audio(f"{number}-{place}", content) for place, content in enumerate(played)]
    name = escape(item.name)
    figures = [
        f'<figure class="original"><img class="picture" {images[0]} alt="Original of {name}">'
        f"<figcaption>original</figcaption>{_player(audio, 0, f'original of {name}')}</figure>"
    ]
    for index, (row, returned) in enumerate(zip(report.rows, item.returned, strict=True)):
        label = escape(row.title.label)
        score = _score(returned, next(iter(item.ranks)))
        figures.append(
            f'<figure><button type="button" class="pick" data-contender="{index}" aria-pressed="false" '
            f'aria-label="Compare {name} with {label}">'
            f'<img class="picture" {images[index + 1]} alt="{name} by {label}">'
            f"{_map(maps, number, index, label)}</button><figcaption>{draw_swatch(index)}{label}{score}</figcaption>"
            f"{_player(audio, index + 1, f'{name} by {label}')}</figure>"
        )
    *_, height, width = item.reference.shape if not view.wide else (256, 300)
    return (
        f'<article class="item" id="item-{number}" data-ranks="{escape(json.dumps(item.ranks))}"><h3>{name}</h3>'
        f'<p class="reason">{escape(next(iter(item.ranks.values()))[1])}</p>'
        f'<div class="view"><div class="stage" style="aspect-ratio:{width}/{height};--ratio:{width / height:.3f}">'
        '<div class="pictures"></div><div class="rule"></div><span class="side left">original</span>'
        '<span class="side right"></span></div>'
        f'<input type="range" min="0" max="100" value="50" step="1" aria-label="Where the left one ends, {name}">'
        '<p class="reading" aria-live="off"></p></div>'
        f'<div class="strip">{"".join(figures)}</div></article>'
    )


def _player(audio: Sequence[str], index: int, label: str) -> str:
    return f'<audio controls {audio[index]} aria-label="{label}"></audio>' if audio else ""


def _score(returned: Returned, metric: str) -> str:
    """The score by one metric, and by all of them for the script."""
    shown = {
        name: f"{format_number(score)} {METRICS[name].unit}".rstrip()
        for name, score in returned.scores.items()
        if score is not None
    }
    return f' <span class="score" data-scores="{escape(json.dumps(shown))}">{escape(shown.get(metric, ""))}</span>'


def _map(maps: Maps, number: int, index: int, label: str) -> str:
    if (number, index) not in maps:
        return ""
    image, tokens, columns, groups = maps[number, index]
    return (
        f'<img class="map" src="{image}" alt="Token map of {label}" data-tokens="{tokens}" '
        f'data-columns="{columns}" data-groups="{groups}">'
    )


def _draw_maps(report: Report) -> Maps:
    """Token maps of every item, coloured alike over all items of a row."""
    maps: Maps = {}
    for index in range(len(report.rows)):
        grids = {
            number: (_cut(report, returned, returned.codes), _cut(report, returned, returned.tokens))
            for number, item in enumerate(report.shown)
            if (returned := item.returned[index]).codes is not None and returned.tokens is not None
        }
        if grids:
            images = draw_token_maps([codes for codes, _ in grids.values()])
            for (number, (_, tokens)), image in zip(grids.items(), images, strict=True):
                maps[number, index] = (image, pack_tokens(tokens), tokens.shape[1], tokens.shape[2])
    return maps


def _cut(report: Report, returned: Returned, grid: Tensor) -> Tensor:
    """The part of `grid` (*positions, width) that the page shows of what came back: (rows, columns, width)."""
    return report.modality.view.visible_part(grid, returned.reconstruction.shape[-1], report.sample_rate)
