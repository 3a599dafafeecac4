"""`tok eval` over several models: one table, codecs at their rates, a report, and unscored items by name."""

import json
import pathlib
import shutil

import numpy
import pytest
from PIL import Image
from scipy import stats


@pytest.fixture
def two_runs(tok, tiny_run: pathlib.Path) -> list[str]:
    """Two models: the tiny run, and a copy of it with its levels fitted to the data."""
    shutil.copytree(tiny_run, "runs/other")
    assert tok("build-codebook", "runs/other", "--samples", "500", "-q").code == 0
    return ["runs/tiny", "runs/other"]


def test_models_and_codecs_share_a_table_a_list_and_a_report(tok, two_runs: list[str]) -> None:
    options = ["--against", "jpeg,webp", "--report", "out/report.html", "--report-items", "3", "--items", "5"]
    outcome = tok("eval", *two_runs, *options)
    assert outcome.code == 0, outcome.err
    for words in ("│ tiny ", "│ other ", "jpeg q1", "webp", "bits per pixel", "is its lowest rate", "headers are"):
        assert words in outcome.out
    assert "(evaluation data of the recipe), 5 items" in outcome.err
    assert "* the best model of its column" in outcome.out  # where nothing can be bold
    assert "psnr\N{NO-BREAK SPACE}↑" in outcome.out
    html = pathlib.Path("out/report.html").read_text()
    assert html.count('<article class="item"') == 3
    assert "by mean psnr of the models" in html
    assert [path.name for path in pathlib.Path("out").iterdir()] == ["report.html"]
    reports = tok("eval", *two_runs, "--against", "webp", "--json", "-q").json
    assert [report["model"] for report in reports[:2]] == [f"{run}/tokenizer.safetensors" for run in two_runs]
    codec = reports[2]
    assert codec["model"] == "webp"
    assert [report["label"] for report in reports[:2]] == codec["codec"]["matched_to"] == ["tiny", "other"]
    assert codec["codec"]["target"] == pytest.approx(numpy.log2(36) / 16)
    assert 0 < codec["rate"]["bits_per_pixel_without_headers"] < codec["rate"]["bits_per_pixel"]
    assert set(codec["metrics"]) == {"psnr"}
    assert reports[0]["rate"]["bits_per_pixel"] == pytest.approx(numpy.log2(36) / 16)
    assert 0 < reports[0]["rate"]["bits_per_pixel_empirical"] <= reports[0]["rate"]["bits_per_pixel"]


def test_the_others_are_compared_with_the_first_item_by_item(tok, two_runs: list[str]) -> None:
    first, other, codec = tok("eval", *two_runs, "--against", "webp", "--json", "-q").json
    assert "difference" not in first
    for report in (other, codec):
        pairs = zip(report["item_scores"], first["item_scores"], strict=True)
        gaps = numpy.array([own["psnr"] - reference["psnr"] for own, reference in pairs])
        expected = stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
        found = report["difference"]["metrics"]["psnr"]
        assert (report["difference"]["to"], found["items"]) == ("tiny", 6)
        assert found["mean"] - found["margin"] == pytest.approx(expected.low)
        assert found["mean"] + found["margin"] == pytest.approx(expected.high)
        assert set(report["difference"]["metrics"]) == {"psnr"}  # usage and cvu judge no items
    outcome = tok("eval", *two_runs, "--report", "report.html", "--report-items", "1", "-q")
    assert "difference to tiny, paired over 6 items" in outcome.out
    mean, margin = (other["difference"]["metrics"]["psnr"][name] for name in ("mean", "margin"))
    assert f"│ {mean:+.3g} ± {margin:.2g}" in outcome.out
    for text in (outcome.out, pathlib.Path("report.html").read_text()):
        assert "another seed may differ by more, and tok sweep repeats trainings" in text
    assert "Difference to tiny, item by item" in pathlib.Path("report.html").read_text()


def test_one_model_and_models_of_other_data_are_compared_with_nothing(tok, tiny: str, tiny_run: pathlib.Path) -> None:
    assert "difference" not in tok("eval", "-q").out
    pathlib.Path("other.yaml").write_text(tiny.replace("seed: 1}", "seed: 2}"))
    assert tok("train", "other.yaml", "--out", "runs/other", "-q").code == 0
    assert "paired over" not in tok("eval", "runs/tiny", "runs/other", "-q").out


def test_every_built_codebook_can_be_a_row(tok, two_runs: list[str]) -> None:
    outcome = tok("eval", *two_runs, "--codebook", "all", "--metrics", "psnr", "--json", "-q")
    assert [report["protocol"]["weights"] for report in outcome.json] == ["ema", "ema"]
    assert "other · 36" in tok("eval", *two_runs, "--codebook", "all", "-q").out
    refused = tok("eval", "--codebook", "36,x")
    assert refused.code == 2
    assert "--codebook: expected sizes separated by commas, such as 256,1024, or all; got '36,x'" in refused.err


def test_items_that_cannot_be_scored_are_listed_by_name(tok, tiny_run: pathlib.Path) -> None:
    pathlib.Path("mixed").mkdir()
    pixels = numpy.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=numpy.uint8)
    for name, side in (("large.png", 24), ("small.png", 8), ("tiny.png", 6)):
        Image.fromarray(pixels[:side, :side]).save(f"mixed/{name}")
    pathlib.Path("list.txt").write_text("mixed/small.png\nmixed/tiny.png\n")
    report = tok("eval", "--data", "list.txt", "--size", "8", "--metrics", "psnr,ssim", "--json", "-q").json
    assert report["unscored"] == {"ssim": {"count": 2, "items": ["mixed/small.png", "mixed/tiny.png"]}}
    assert report["metrics"]["ssim"] is None
    assert [score["item"] for score in report["item_scores"]] == ["mixed/small.png", "mixed/tiny.png"]
    assert [score["ssim"] for score in report["item_scores"]] == [None, None]
    assert numpy.mean([score["psnr"] for score in report["item_scores"]]) == pytest.approx(report["metrics"]["psnr"])
    printed = tok("eval", "--data", "list.txt", "--size", "8", "--metrics", "psnr,ssim", "-q").out
    assert "ssim: 2 items could not be scored and left out of the mean (mixed/small.png, mixed/tiny.png)" in printed


def test_a_hostile_file_name_is_text_in_the_report(tok, tiny_run: pathlib.Path) -> None:
    pathlib.Path("hostile").mkdir()
    name = "<script>alert(1)<script>.png"
    Image.new("RGB", (16, 16), "red").save(pathlib.Path("hostile") / name)
    assert tok("eval", "--data", "hostile", "--report", "report.html", "-q").code == 0
    html = pathlib.Path("report.html").read_text()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;script&gt;.png" in html


def test_models_that_would_see_different_data_share_no_report(tok, tiny: str, tiny_run: pathlib.Path) -> None:
    pathlib.Path("other.yaml").write_text(tiny.replace("items: 6", "items: 5"))
    assert tok("train", "other.yaml", "--out", "runs/other", "-q").code == 0
    refused = tok("eval", "runs/tiny", "runs/other", "--report", "report.html")
    assert refused.code == 2
    assert "name what all of them are judged on: --data FOLDER --size N" in refused.err
    assert "evaluating" not in refused.err
    assert tok("eval", "runs/tiny", "runs/other", "--sheet", "sheet.png").code == 2
    together = tok("eval", "runs/tiny", "runs/other")
    assert together.code == 0
    assert "so their figures do not compare" in together.out


def test_codecs_of_another_modality_and_unknown_ones_are_refused_at_once(tok, tiny_run: pathlib.Path) -> None:
    outcome = tok("eval", "--against", "opus,jpg", "--json")
    assert outcome.code == 2
    message = json.loads(outcome.out)["error"]["message"]
    assert "the codec 'opus' is for audio, not image" in message
    assert "did you mean 'jpeg'?" in message
