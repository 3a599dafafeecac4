"""The report page: it stands alone, everything in it is named, escaped and reachable, and its charts say what is so."""

import base64
import dataclasses
import io
import json
import re
from collections import Counter
from html.parser import HTMLParser

import numpy
import pytest
import soundfile
import torch
from PIL import Image
from report_pages import HOSTILE, pictures, scored, sounds

from tokcli.evaluation.compare import COVERS, Comparison, Difference
from tokcli.evaluation.report.build import Report
from tokcli.evaluation.report.charts import Axis, draw_usage
from tokcli.evaluation.report.page import fit, render
from tokcli.evaluation.report.views import draw_token_maps, pack_tokens


class Page(HTMLParser):
    """Tags with their attributes, and the text outside style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "input", "br", "path", "line", "polyline", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "line", "polyline", "rect"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module", params=[pictures, sounds], ids=["pictures", "sounds"])
def html(request: pytest.FixtureRequest) -> str:
    return render(request.param())


def test_the_page_asks_for_nothing_outside_itself(html: str) -> None:
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", html)
    page = Page(html)
    for tag, attributes in page.tags:
        for name in ("src", "href", "data", "action", "srcset", "poster"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#")), (tag, name)
    policy = next(each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert not page.open


def test_every_reference_within_the_page_has_one_target(html: str) -> None:
    page = Page(html)
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert set(ids.values()) == {1}
    wanted = {each["href"][1:] for each in page.all("a")}
    wanted |= set(re.findall(r'getElementById\("([^"]+)"\)', html))
    assert wanted
    assert wanted - {"ranking"} <= set(ids)  # a page with one metric has nothing to choose


def test_everything_that_is_seen_or_used_has_a_name(html: str) -> None:
    page = Page(html)
    assert all(each.get("alt") for each in page.all("img"))
    assert all(each.get("aria-label") for tag in ("audio", "input") for each in page.all(tag))
    drawn = [each for each in page.all("svg") if each.get("aria-hidden") != "true"]
    assert drawn
    assert all(each.get("role") == "img" and each.get("aria-label") for each in drawn)
    assert page.all("html")[0]["lang"] == "en"


def test_names_from_outside_are_shown_and_never_run() -> None:
    page = Page(render(pictures()))
    assert len(page.all("script")) == 2
    assert sum(HOSTILE in words for words in page.words) >= 5
    assert any(each["alt"] == f"Original of {HOSTILE}" for each in page.all("img"))


def test_pictures_come_back_without_loss() -> None:
    page = Page(render(pictures()))
    originals = [each["src"] for each in page.all("img") if each["alt"] == "Original of plain.png"]
    assert len(originals) == 1
    picture = Image.open(io.BytesIO(base64.b64decode(originals[0].partition(",")[2])))
    reference = torch.linspace(-1, 1, 3 * 16 * 24).reshape(3, 16, 24)
    expected = ((reference + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert numpy.array_equal(numpy.asarray(picture.convert("RGB")), expected)


def test_sounds_are_cut_and_keep_their_samples_and_their_token_map_is_cut_alike() -> None:
    page = Page(render(sounds()))
    first, second = (each["src"] for each in page.all("audio"))
    played, rate = soundfile.read(io.BytesIO(base64.b64decode(first.partition(",")[2])))
    assert (len(played), rate) == (48_000, 8000)
    numpy.testing.assert_allclose(played, sounds().shown[0].reference[0, :48_000].numpy(), atol=1 / 32768)
    assert first != second
    (tokens,) = (each for each in page.all("img") if each.get("class") == "map")
    shown = numpy.frombuffer(base64.b64decode(tokens["data-tokens"]), "<u4")
    assert shown.tolist() == [place % 16 for place in range(600)]
    assert tokens["data-columns"] == "600"


def test_the_best_model_is_bold_and_a_codec_never_is() -> None:
    html = render(pictures())
    rows = re.findall(r"<tr class=.*?</tr>", html)
    assert ["<b>" in row for row in rows] == [True, True, False]  # usage is a tie
    assert "<b>22.5</b>" in rows[1]
    assert "<b>21</b>" not in rows[0]


def test_differences_to_the_first_are_a_table_with_what_the_interval_covers() -> None:
    report = pictures()
    first, other, codec = report.rows
    other = dataclasses.replace(other, comparison=Comparison("a", {"psnr": Difference(40, 1.5, 0.25)}))
    codec = dataclasses.replace(codec, comparison=Comparison("a", {"psnr": Difference(1, 9.0, None)}))
    html = render(dataclasses.replace(report, rows=[first, other, codec]))
    assert "Difference to a, item by item" in html
    assert "<td data-value=\"1.5\" class='better'><b>+1.5</b> ± 0.25<small>▲ better, 40 items</small></td>" in html
    assert '<td data-value="9">+9<small>1 item</small></td>' in html
    assert COVERS in html
    assert HOSTILE not in html
    assert not Page(html).open
    assert "Difference to" not in render(report)


def test_what_is_neither_better_high_nor_low_has_no_arrow_and_no_best() -> None:
    report = pictures()
    rates = [
        dataclasses.replace(row, metrics={"bits_per_pixel": 0.25 + index}) for index, row in enumerate(report.rows)
    ]
    html = render(dataclasses.replace(report, rows=rates))
    rows = re.findall(r"<tr class=.*?</tr>", html)
    assert not any("<b>" in row for row in rows)
    assert "is better" not in html.replace("which way is better", "")


def test_alike_codes_get_alike_colours_over_all_grids() -> None:
    codes = torch.tensor([[[0.0, 0.0], [9.0, 0.0]]]), torch.tensor([[[9.0, 0.0], [0.1, 0.0]]])
    contents = [base64.b64decode(address.partition(",")[2]) for address in draw_token_maps(codes)]
    maps = [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]
    (low, high), (same, near) = ([picture.getpixel((x, 0)) for x in (0, 1)] for picture in maps)
    assert high == same
    assert max(abs(a - b) for a, b in zip(low, near, strict=True)) < 10
    assert max(abs(a - b) for a, b in zip(low, high, strict=True)) > 150


def test_tokens_are_packed_row_by_row() -> None:
    tokens = torch.tensor([[[1, 2], [3, 70_000]]])
    assert numpy.frombuffer(base64.b64decode(pack_tokens(tokens)), "<u4").tolist() == [1, 2, 3, 70_000]


def test_a_codebook_used_evenly_is_a_level_line_and_unused_codes_are_not_drawn() -> None:
    even = dataclasses.replace(scored("a", 1.0), counts=torch.full((1, 10), 7))
    half = dataclasses.replace(scored("b", 1.0), counts=torch.tensor([[4] * 5 + [0] * 5]))
    lines = re.findall(r'class="line " points="([^"]+)"', draw_usage([even, half]))
    first, second = ([tuple(map(float, point.split(","))) for point in line.split()] for line in lines)
    assert len({y for _, y in first}) == 1
    assert len(first) == 10
    assert len(second) == 5
    assert second[0][1] < first[0][1]  # twice the even use lies higher


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (Axis("", 20.3, 25.1), [21, 22, 23, 24, 25]),
        (Axis("", 0.0, 1.0), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Axis("", 0.3, 2.5, True), [0.5, 1, 2]),
        (Axis("", 0.29, 0.72, True), [0.3, 0.4, 0.5, 0.6, 0.7]),
        (Axis("", 0.001, 100, True), [0.001, 0.01, 0.1, 1, 10, 100]),
    ],
)
def test_axes_have_round_ticks(axis: Axis, expected: list[float]) -> None:
    assert axis.ticks() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metric", "mean", "words"),
    [("psnr", 1.5, "▲ better"), ("psnr", -1.5, "▼ worse"), ("lpips", 0.5, "▼ worse"), ("lpips", -0.5, "▲ better")],
)
def test_a_clear_difference_says_whether_it_is_for_the_better(metric: str, mean: float, words: str) -> None:
    report = pictures()
    first, other, _ = report.rows
    other = dataclasses.replace(other, comparison=Comparison("a", {metric: Difference(40, mean, 0.1)}))
    html = render(dataclasses.replace(report, rows=[first, other], shown=[]))
    assert f"<small>{words}, 40 items" in html
    assert f"class='{words[2:]}'" in html


def test_columns_have_units_and_their_meaning_and_can_be_sorted() -> None:
    html = render(pictures())
    assert '<th scope="col" data-first="descending">psnr <small>dB</small>' in html
    assert "<dt>usage</dt><dd>share of the K codes that occur at all</dd>" in html
    assert '<table class="sortable">' in html
    assert '<td data-value="22.5"><b>22.5</b></td>' in html


def test_each_item_knows_its_place_by_every_metric() -> None:
    page = Page(render(pictures()))
    ranks = [json.loads(each["data-ranks"] or "") for each in page.all("article")]
    assert [sorted(each) for each in ranks] == [["psnr", "ssim"], ["psnr", "ssim"], ["ssim"]]
    scores = [json.loads(each["data-scores"] or "") for each in page.all("span") if each.get("class") == "score"]
    assert scores[:3] == [{"psnr": "20.5 dB", "ssim": "0.5"}, {"psnr": "18.25 dB", "ssim": "0.25"}, {}]
    assert [each["value"] for each in page.all("option")].count("psnr") == 1


def noise() -> Report:
    """A page whose pictures do not shrink without loss."""
    report = pictures()
    signal = torch.rand(3, 200, 300, generator=torch.Generator().manual_seed(0)) * 2 - 1
    made = [dataclasses.replace(each, reconstruction=signal) for each in report.shown[0].returned]
    shown = [dataclasses.replace(each, reference=signal, returned=made) for each in report.shown]
    return dataclasses.replace(report, shown=shown)


def test_a_page_within_its_budget_keeps_everything_in_it() -> None:
    page, storage = fit(pictures(), "page.files", 5_000_000)
    assert storage.folder is None
    assert page == render(pictures())


def test_a_page_over_its_budget_has_thumbnails_and_whole_pictures_beside_it() -> None:
    report = noise()
    page, storage = fit(report, "the page.files", 500_000)
    assert len(render(report)) > 1_500_000
    assert 100_000 < len(page.encode()) <= 500_000
    assert sorted(storage.files)[:2] == ["0-0.webp", "0-1.webp"]
    assert len(storage.files) == 3 * 4
    whole = Image.open(io.BytesIO(storage.files["0-0.webp"])).convert("RGB")
    expected = ((report.shown[0].reference + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert numpy.array_equal(numpy.asarray(whole), expected)
    images = [each for each in Page(page).all("img") if each.get("class") == "picture"]
    assert images[0]["data-full"] == "the%20page.files/0-0.webp"
    assert "img-src data: 'self' file:;" in page
    assert "lossy" in page


def test_a_budget_that_no_thumbnail_meets_gives_the_smallest_page() -> None:
    page, storage = fit(noise(), "page.files", 1000)
    assert storage.side == 64
    assert len(page) < 200_000


def test_sounds_lie_beside_a_page_that_is_too_large() -> None:
    page, storage = fit(sounds(), "page.files", 1000)
    assert {name for name in storage.files if name.endswith(".flac")} == {"0-0.flac", "0-1.flac"}
    assert [each["src"] for each in Page(page).all("audio")] == ["page.files/0-0.flac", "page.files/0-1.flac"]
