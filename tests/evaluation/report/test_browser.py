"""The pages in a real browser: on a screen and on a phone, by day and by night, by mouse and by keyboard.

They need Chromium and playwright. axe-core, which looks for what keeps people out, is not shipped: the tests look for
`axe.min.js` where TOK_AXE says, or in `node_modules/axe-core` here (npm install axe-core).
"""

import dataclasses
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from report_pages import pictures, sounds

from tokcli.evaluation.compare import Comparison, Difference
from tokcli.evaluation.report.page import fit, render, wrap
from tokcli.sweeps.page import to_html

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
AXE = pathlib.Path(os.environ.get("TOK_AXE", "node_modules/axe-core/axe.min.js"))
SCREENSHOTS = os.environ.get("TOK_SCREENSHOTS")
"""A folder to keep pictures of the pages in."""

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine to open the page with"),
    pytest.mark.slow,
]


def whole() -> str:
    """A report with every part: differences for better and worse, remarks, charts, items."""
    report = pictures()
    first, other, codec = report.rows
    better, worse = Difference(40, 1.5, 0.25), Difference(40, -7.0, 0.5)
    other = dataclasses.replace(other, comparison=Comparison("a", {"psnr": better, "ssim": worse}))
    codec = dataclasses.replace(codec, comparison=Comparison("a", {"psnr": Difference(1, 9.0, None)}))
    return render(dataclasses.replace(report, rows=[first, other, codec]))


def sweep() -> str:
    """The page of a sweep with curves, claims and a cell that failed."""
    from types import SimpleNamespace as Some

    plan: Any = Some(name="compare", summary="FSP against VQ.", columns=["psnr", "cvu"], curves=["psnr"])
    curves = [{"psnr": [(step, value + step / 200) for step in (100, 200, 300)]} for value in (20, 21)]
    table: Any = [Some(label=name, curves=curve) for name, curve in zip(("fsp", "vq"), curves, strict=True)]
    main = (["method", "n", "psnr", "cvu"], [["fsp", "3", "24.1 ± .05", ".61"], ["vq", "2 of 3", "23.95", "–"]])

    class Claim(Some):
        def __str__(self) -> str:
            return "+.15 (p = .02)"

    claims: Any = [Claim(claim=Some(claim="FSP is better"), verdict="holds")]
    cells: Any = [
        (Some(label=f"fsp, seed {seed}", command="tok train x.yaml seed=1"), Some(state=state, seconds=2.0, reason=why))
        for seed, state, why in ((0, "finished", None), (1, "failed", "out of memory"))
    ]
    return to_html(plan, table, main, "Ours: mean.  \nMade by: `tok sweep`", claims, cells)


PAGES = {"report": whole, "sounds": lambda: render(sounds()), "sweep": sweep}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    player = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with player.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


class Tab:
    """A page in the browser, with what it complained of and what it asked for."""

    def __init__(self, browser: Any, path: pathlib.Path, width: int = 1280, scheme: str = "light") -> None:
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())


@pytest.fixture
def save(tmp_path: pathlib.Path):
    def put(html: str, name: str = "report.html") -> pathlib.Path:
        (tmp_path / name).write_text(html, encoding="utf-8")
        return tmp_path / name

    return put


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_keeps_nobody_out(browser, save, name: str, width: int, scheme: str) -> None:
    tab = Tab(browser, save(PAGES[name]()), width, scheme)
    page = tab.page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("[...document.images].filter(image => image.complete && !image.naturalWidth).length") == 0
    if SCREENSHOTS:
        page.screenshot(path=f"{SCREENSHOTS}/{name}-{width}-{scheme}.png", full_page=True)
    assert tab.complaints == []
    assert [address for address in tab.asked if not address.startswith(("data:", "file:"))] == []
    if not AXE.is_file():
        pytest.skip(f"no axe-core at {AXE}: npm install axe-core, or TOK_AXE=FILE")
    # The page's own policy forbids foreign scripts in it, so the checker is evaluated beside it.
    page.evaluate(AXE.read_text(encoding="utf-8"))
    violations = page.evaluate("axe.run().then(result => result.violations.map(v => [v.id, v.nodes.map(n => n.html)]))")
    assert violations == []


def test_the_modes_the_slider_and_the_tokens_work_by_mouse_and_keyboard(browser, save) -> None:
    tab = Tab(browser, save(whole()))
    page = tab.page
    stage, reading = page.locator(".stage").first, page.locator(".reading").first
    for mode in ("flip", "difference", "tokens", "slide"):
        page.click(f"[data-mode={mode}]")
        assert stage.get_attribute("data-mode") == mode
    page.locator("input[type=range]").first.fill("20")
    assert stage.evaluate("stage => stage.style.getPropertyValue('--wipe')") == "20%"
    stage.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("input[type=range]").first.input_value() == "22"
    page.click("[data-mode=flip]")
    stage.focus()
    page.keyboard.press(" ")
    assert "flipped" in stage.get_attribute("class")
    page.click("[data-mode=tokens]")
    stage.hover(position={"x": 200, "y": 100})
    row, column, token = map(int, re.findall(r"\d+", reading.inner_text()))
    columns = int(page.locator(".map").first.get_attribute("data-columns"))
    assert column > 0
    assert token == (row * columns + column) % 16
    assert tab.complaints == []


def test_a_model_slides_against_a_model(browser, save) -> None:
    page = Tab(browser, save(whole())).page
    reference, other = (page.locator(f".stage .{kind}").first for kind in ("reference", "other"))
    assert reference.get_attribute("alt").startswith("Original of")
    page.select_option("#left", "1")
    page.select_option("#contender", "0")
    assert "by <script>" in reference.get_attribute("alt")
    assert other.get_attribute("alt").endswith(" by a")
    assert page.locator(".stage .left").first.inner_text().startswith("<script>")
    assert page.locator(".stage .right").first.inner_text() == "a"


def test_another_metric_shows_other_items_in_its_order(browser, save) -> None:
    page = Tab(browser, save(whole())).page

    def shown() -> list[str]:
        return page.locator(".item:visible h3").all_inner_texts()[1:]

    assert shown() == ["plain.png"]
    score = page.locator(".item:visible .score").first
    assert score.inner_text() == "20.5 dB"
    page.locator("#ranking").focus()
    page.select_option("#ranking", "ssim")
    assert shown() == ["third.png", "plain.png"]
    assert score.inner_text() == "0.5"
    assert page.locator(".item:visible .reason").all_inner_texts()[1] == "the best by ssim"


def test_a_table_sorts_by_mouse_and_keyboard_and_back(browser, save) -> None:
    page = Tab(browser, save(whole())).page

    def column() -> list[str]:
        return [
            text.split()[0]
            for text in page.locator("#figures table").first.locator("td:nth-child(2)").all_inner_texts()
        ]

    head = page.locator("#figures table").first.locator("th", has_text="psnr")
    head.locator("button").click()
    assert column() == ["30", "22.5", "21"]
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert column() == ["21", "22.5", "30"]
    page.keyboard.press("Enter")
    assert column() == ["21", "22.5", "30"]
    assert head.get_attribute("aria-sort") is None


def test_worse_is_shown_in_another_colour_than_better(browser, save) -> None:
    page = Tab(browser, save(whole())).page
    colours = [
        page.locator(f"td.{kind} b").first.evaluate("cell => getComputedStyle(cell).color")
        for kind in ("better", "worse")
    ]
    assert colours[0] != colours[1]


def test_everything_can_be_reached_by_tabs(browser, save) -> None:
    page = Tab(browser, save(whole())).page
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"left", "contender", "ranking", "sort", "stage", "pick", "scroll"} <= reached


def test_whole_pictures_are_read_when_they_are_looked_at_and_thumbnails_stand_in(browser, save, tmp_path) -> None:
    report = pictures()
    signal = torch.rand(3, 200, 300, generator=torch.Generator().manual_seed(0)) * 2 - 1
    made = [dataclasses.replace(each, reconstruction=signal) for each in report.shown[0].returned]
    items = [dataclasses.replace(report.shown[0], reference=signal, returned=made) for _ in range(12)]
    html, storage = fit(dataclasses.replace(report, shown=items), "report.files", 1_000_000)
    tab = Tab(browser, save(html))
    tab.page.wait_for_function("!document.getElementById('absent').hidden")  # the folder is not there
    assert "report.files is not beside this page" in tab.page.locator("#absent").inner_text()
    (tmp_path / "report.files").mkdir()
    for name, content in storage.files.items():
        (tmp_path / "report.files" / name).write_bytes(content)
    tab = Tab(browser, tmp_path / "report.html")
    tab.page.locator("#items").scroll_into_view_if_needed()
    tab.page.wait_for_function("document.querySelector('.stage .reference').complete")
    assert tab.page.evaluate("document.querySelector('.stage .reference').naturalWidth") == 300
    assert tab.page.evaluate("document.querySelector('.strip img').naturalWidth") < 300
    asked = {address.rpartition("/")[2] for address in tab.asked if address.endswith(".webp")}
    assert "0-0.webp" in asked
    assert "11-0.webp" not in asked
    assert tab.page.locator("#absent").is_hidden()
    assert tab.complaints == []


def test_a_page_runs_nothing_that_is_not_its_own(browser, save) -> None:
    html = wrap("x", "image", "<p>x</p><img src='http://127.0.0.1:9/x.png' alt='x'>", [])
    tab = Tab(browser, save(html))
    tab.page.wait_for_timeout(200)
    assert any("Content Security Policy" in complaint for complaint in tab.complaints)
