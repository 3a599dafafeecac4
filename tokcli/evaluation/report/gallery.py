"""The part of the page that shows items: an original and what each candidate made of it, to be compared by eye or ear.

Each card has a stage, where two pictures lie on each other, and a strip of small pictures that says which two. The
stage borrows the strip's pictures, so that each is in the file once.
"""

from collections.abc import Sequence
from html import escape

from torch import Tensor

from tokcli.evaluation.report.build import Report, Returned, ShownItem
from tokcli.evaluation.report.charts import draw_swatch
from tokcli.evaluation.report.views import draw_token_maps, make_address, make_image_address, pack_tokens

MODES = (
    ("slide", "Slide", "Drag across the picture, or use the slider: the original is on the left."),
    ("flip", "Flip", "Tap the picture, or press space: original and reconstruction take turns."),
    ("difference", "Difference", "What was lost, four times as bright; black is nothing."),
    ("tokens", "Tokens", "Which token is where: alike colours stand for alike codes. Point at one to read it."),
)

Maps = dict[tuple[int, int], tuple[str, str, int, int]]
"""By item and row: a token map's picture, its packed tokens, its columns and its groups."""


def write_cards(report: Report) -> str:
    """The section of items."""
    if not report.shown:
        return '<section id="items"><h2>Items</h2><p class="note">No items were asked for.</p></section>'
    maps = _draw_maps(report)
    shown = "".join(_card(report, number, item, maps) for number, item in enumerate(report.shown))
    return (
        f'<section id="items"><h2>Items</h2><p class="note">{len(report.shown)} of {report.first.items} items. '
        f"{_ranked(report)}{escape(report.modality.view.limits)}</p>{_toolbar(report)}{shown}</section>"
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
        f'<option value="{index}">{escape(row.title.label)}</option>' for index, row in enumerate(report.rows)
    )
    return (
        f'<div class="toolbar"><div class="modes" role="group" aria-label="How to compare">{modes}</div>'
        f'<label>with <select id="contender">{choices}</select></label>'
        f'<p class="hint" id="hint">{escape(MODES[0][2])}</p></div>'
    )


def _card(report: Report, number: int, item: ShownItem, maps: Maps) -> str:
    view = report.modality.view
    reconstructions = [returned.reconstruction for returned in item.returned]
    images = [make_image_address(image) for image in view.draw(item.reference, reconstructions, report.sample_rate)]
    played = view.play([item.reference, *reconstructions], report.sample_rate)
    audio = [make_address("audio/flac", content) for content in played]
    name = escape(item.name)
    figures = [
        f'<figure class="original"><img class="picture" src="{images[0]}" alt="Original of {name}">'
        f"<figcaption>original</figcaption>{_player(audio, 0, f'original of {name}')}</figure>"
    ]
    for index, (row, returned) in enumerate(zip(report.rows, item.returned, strict=True)):
        label = escape(row.title.label)
        score = "" if returned.score is None else f" <span class='score'>{returned.score:.4g}</span>"
        figures.append(
            f'<figure><button type="button" class="pick" data-contender="{index}" aria-pressed="false" '
            f'aria-label="Compare {name} with {label}">'
            f'<img class="picture" src="{images[index + 1]}" alt="{name} by {label}">'
            f"{_map(maps, number, index, label)}</button><figcaption>{draw_swatch(index)}{label}{score}</figcaption>"
            f"{_player(audio, index + 1, f'{name} by {label}')}</figure>"
        )
    *_, height, width = item.reference.shape if not view.wide else (256, 300)
    return (
        f'<article class="item" id="item-{number}"><h3>{name}</h3><p class="reason">{escape(item.reason)}</p>'
        f'<div class="view"><div class="stage" style="aspect-ratio:{width}/{height};--ratio:{width / height:.3f}">'
        '<div class="pictures"></div><div class="rule"></div><span class="side left">original</span>'
        '<span class="side right"></span></div>'
        f'<input type="range" min="0" max="100" value="50" step="1" aria-label="Where original ends, {name}">'
        '<p class="reading" aria-live="off"></p></div>'
        f'<div class="strip">{"".join(figures)}</div></article>'
    )


def _player(audio: Sequence[str], index: int, label: str) -> str:
    return f'<audio controls preload="metadata" src="{audio[index]}" aria-label="{label}"></audio>' if audio else ""


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
