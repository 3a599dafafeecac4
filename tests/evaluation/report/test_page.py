"""The report page: it stands alone, everything in it is named, escaped and reachable, and its charts say what is so."""

import base64
import dataclasses
import io
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy
import pytest
import soundfile
import torch
from PIL import Image

from tokcli.contracts import Candidate, RoundTrip
from tokcli.evaluation.compare import COVERS, Comparison, Difference
from tokcli.evaluation.report.build import Report, Returned, ShownItem
from tokcli.evaluation.report.charts import Axis, draw_usage
from tokcli.evaluation.report.page import render
from tokcli.evaluation.report.views import draw_token_maps, pack_tokens
from tokcli.evaluation.run import Scores, Title

HOSTILE = '<script>alert("x")</script>&\'.png'


class Nothing(Candidate):
    """A candidate that has been evaluated already."""

    codebook_size = 16
    device = torch.device("cpu")

    def __init__(self, modality: str, sample_rate: int | None, competes: bool) -> None:
        self.kind = modality
        self.hertz = sample_rate
        self.competes = competes

    @property
    def modality(self) -> str:
        return self.kind

    @property
    def sample_rate(self) -> int | None:
        return self.hertz

    def round_trip(self, signals: torch.Tensor) -> RoundTrip:
        raise NotImplementedError


def scored(label: str, psnr: float, *, is_model: bool = True) -> Scores:
    generator = torch.Generator().manual_seed(len(label))
    return Scores(
        candidate=Nothing("image", None, is_model),
        source=SimpleNamespace(),
        names=["a", "b"],
        failed=[],
        metrics={"psnr": psnr, "usage": 0.5} if is_model else {"psnr": psnr},
        rates={"bits_per_pixel": 0.25, "bits_per_pixel_empirical": 0.2},
        item_scores={},
        unscored={},
        counts=torch.randint(0, 50, (1, 16), generator=generator) if is_model else None,
        protocol={"data": HOSTILE, "items": 2},
        remarks=[f"{HOSTILE} was left out"],
        title=Title(label, label, "fsq, 16 codes", HOSTILE, "given"),
    )


def returned(signal: torch.Tensor, tokens: torch.Tensor | None, score: float | None) -> Returned:
    codes = None if tokens is None else tokens.float().expand(*tokens.shape[:-1], 4) * torch.arange(4)
    return Returned(signal, tokens, codes, score)


def pictures() -> Report:
    """Two models and a codec over two pictures, everything that can be hostile being hostile."""
    reference = torch.linspace(-1, 1, 3 * 16 * 24).reshape(3, 16, 24)
    tokens = torch.arange(24).reshape(4, 6, 1) % 16
    made = [*(returned(0.9 * reference, tokens, 20.5),) * 2, returned(reference, None, None)]
    shown = [ShownItem(name, f"worst {HOSTILE}", reference, made) for name in (HOSTILE, "plain.png")]
    rows = [scored("a", 21.0), scored(HOSTILE, 22.5), scored("jpeg 7", 30.0, is_model=False)]
    return Report(rows, "psnr", shown)


def sounds() -> Report:
    """One model over one sound of ten seconds."""
    times = torch.arange(80_000) / 8000
    reference = 0.5 * torch.sin(2000 * times)[None]
    tokens = torch.arange(1000).reshape(1000, 1) % 16
    shown = [ShownItem("a.wav", "the worst", reference, [returned(0.5 * reference, tokens, 1.25)])]
    only = dataclasses.replace(
        scored("a", 3.0),
        candidate=Nothing("audio", 8000, True),
        metrics={"pesq": 1.25},
        rates={"kbps": 0.4, "kbps_empirical": 0.3},
    )
    return Report([only], "pesq", shown)


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
    assert wanted <= set(ids)


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
    assert len(page.all("script")) == 1
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
    assert "<td><b>+1.5</b> ± 0.25<small>40 items</small></td>" in html
    assert "<td>+9<small>1 item</small></td>" in html
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


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine to open the page with")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.slow
def test_a_browser_shows_the_page_without_a_complaint_or_a_request(html: str, tmp_path, width: int) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    heard, asked = [], []
    with sync_api.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": width, "height": 800})
        tab.on("console", lambda message: heard.append(message.text))
        tab.on("pageerror", lambda error: heard.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto((tmp_path / "report.html").as_uri())
        stage, reading = tab.locator(".stage").first, tab.locator(".reading").first
        for mode in ("flip", "difference", "tokens", "slide"):
            tab.click(f"[data-mode={mode}]")
            assert stage.get_attribute("data-mode") == mode
        tab.locator("input[type=range]").first.fill("20")
        assert stage.evaluate("stage => stage.style.getPropertyValue('--wipe')") == "20%"
        stage.focus()
        tab.keyboard.press("ArrowRight")
        assert tab.locator("input[type=range]").first.input_value() == "22"
        tab.click("[data-mode=flip]")
        tab.locator(".stage").first.focus()
        tab.keyboard.press(" ")
        assert "flipped" in stage.get_attribute("class")
        tab.click("[data-mode=tokens]")
        stage.hover(position={"x": 200, "y": 100})
        row, column, token = map(int, re.findall(r"\d+", reading.inner_text()))
        columns = int(tab.locator(".map").first.get_attribute("data-columns"))
        assert column > 0
        assert token == (row * columns + column) % 16
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        broken = "[...document.images].filter(image => image.complete && !image.naturalWidth).length"
        assert tab.evaluate(broken) == 0
        browser.close()
    assert heard == []
    assert [address for address in asked if not address.startswith(("data:", "file:"))] == []
