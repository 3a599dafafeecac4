"""The part of the page that shows items: an original and what each contender made of it, to be compared by eye or ear.

Each card has a stage, where two pictures lie on each other, and a strip of small pictures that says which two. The
stage borrows the strip's pictures, so that each is in the file once.
"""

from collections.abc import Sequence
from html import escape

from tokcli.data.modality import MODALITIES
from tokcli.evaluation.report.charts import swatch
from tokcli.evaluation.report.content import Report, ShownItem
from tokcli.evaluation.report.views import data_address, packed_tokens, picture_address, token_maps

MODES = (
    ("slide", "Slide", "Drag across the picture, or use the slider: the original is on the left."),
    ("flip", "Flip", "Tap the picture, or press space: original and reconstruction take turns."),
    ("difference", "Difference", "What was lost, four times as bright; black is nothing."),
    ("tokens", "Tokens", "Which token is where: alike colours stand for alike codes. Point at one to read it."),
)

Maps = dict[tuple[int, int], tuple[str, str, int, int]]
"""By item and contender: a token map's picture, its packed tokens, its columns and its groups."""


def cards(report: Report) -> str:
    """The section of items."""
    if not report.shown:
        return '<section id="items"><h2>Items</h2><p class="note">No items were asked for.</p></section>'
    maps = _maps(report)
    shown = "".join(_card(report, place, item, maps) for place, item in enumerate(report.shown))
    return (
        f'<section id="items"><h2>Items</h2><p class="note">{len(report.shown)} of {report.items} items. '
        f"{_ranked(report)}{escape(MODALITIES[report.modality].view.limits)}</p>{_toolbar(report)}{shown}</section>"
    )


def _ranked(report: Report) -> str:
    if report.metric is None:
        return ""
    return f"Worst and best are by the models' mean {escape(report.metric)}. "


def _toolbar(report: Report) -> str:
    modes = "".join(
        f'<button type="button" data-mode="{mode}" data-hint="{escape(hint)}" aria-pressed="false">{label}</button>'
        for mode, label, hint in MODES
    )
    choices = "".join(
        f'<option value="{place}">{escape(one.label)}</option>' for place, one in enumerate(report.contenders)
    )
    return (
        f'<div class="toolbar"><div class="modes" role="group" aria-label="How to compare">{modes}</div>'
        f'<label>with <select id="contender">{choices}</select></label>'
        f'<p class="hint" id="hint">{escape(MODES[0][2])}</p></div>'
    )


def _card(report: Report, place: int, item: ShownItem, maps: Maps) -> str:
    view = MODALITIES[report.modality].view
    reconstructions = [returned.reconstruction for returned in item.returned]
    pictures = [picture_address(image) for image in view.draw(item.reference, reconstructions, report.sample_rate)]
    played = view.play([item.reference, *reconstructions], report.sample_rate)
    sounds = [data_address("audio/flac", content) for content in played]
    name = escape(item.name)
    figures = [
        f'<figure class="original"><img class="picture" src="{pictures[0]}" alt="Original of {name}">'
        f"<figcaption>original</figcaption>{_player(sounds, 0, f'original of {name}')}</figure>"
    ]
    for index, (one, returned) in enumerate(zip(report.contenders, item.returned, strict=True)):
        label = escape(one.label)
        score = "" if returned.score is None else f" <span class='score'>{returned.score:.4g}</span>"
        figures.append(
            f'<figure><button type="button" class="pick" data-contender="{index}" aria-pressed="false" '
            f'aria-label="Compare {name} with {label}">'
            f'<img class="picture" src="{pictures[index + 1]}" alt="{name} by {label}">'
            f"{_map(maps, place, index, label)}</button><figcaption>{swatch(index)}{label}{score}</figcaption>"
            f"{_player(sounds, index + 1, f'{name} by {label}')}</figure>"
        )
    *_, height, width = item.reference.shape if not view.wide else (256, 300)
    return (
        f'<article class="item" id="item-{place}"><h3>{name}</h3><p class="reason">{escape(item.reason)}</p>'
        f'<div class="view"><div class="stage" style="aspect-ratio:{width}/{height};--ratio:{width / height:.3f}">'
        '<div class="pictures"></div><div class="rule"></div><span class="side left">original</span>'
        '<span class="side right"></span></div>'
        f'<input type="range" min="0" max="100" value="50" step="1" aria-label="Where original ends, {name}">'
        '<p class="reading" aria-live="off"></p></div>'
        f'<div class="strip">{"".join(figures)}</div></article>'
    )


def _player(sounds: Sequence[str], place: int, label: str) -> str:
    return f'<audio controls preload="metadata" src="{sounds[place]}" aria-label="{label}"></audio>' if sounds else ""


def _map(maps: Maps, place: int, index: int, label: str) -> str:
    if (place, index) not in maps:
        return ""
    picture, tokens, columns, groups = maps[place, index]
    return (
        f'<img class="map" src="{picture}" alt="Token map of {label}" data-tokens="{tokens}" '
        f'data-columns="{columns}" data-groups="{groups}">'
    )


def _maps(report: Report) -> Maps:
    """Token maps of every item, coloured alike over all items of a contender."""
    view, maps = MODALITIES[report.modality].view, {}
    for index in range(len(report.contenders)):
        with_tokens = [
            (place, item) for place, item in enumerate(report.shown) if item.returned[index].tokens is not None
        ]
        if not with_tokens:
            continue
        parts = [
            [
                view.visible_part(grid, item.reference.shape[-1], report.sample_rate)
                for grid in (item.returned[index].codes, item.returned[index].tokens)
            ]
            for _, item in with_tokens
        ]
        pictures = token_maps([codes for codes, _ in parts])
        for (place, _), picture, (_, tokens) in zip(with_tokens, pictures, parts, strict=True):
            maps[place, index] = (picture, packed_tokens(tokens), tokens.shape[1], tokens.shape[2])
    return maps
