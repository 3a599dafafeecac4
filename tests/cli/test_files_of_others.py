"""`tok eval --reference A --reconstruction B`: what other programs made, matched by name, judged as models are."""

import pathlib

import numpy
import pytest
import soundfile
from PIL import Image

RNG = numpy.random.default_rng(0)


def save(folder: pathlib.Path, name: str, pixels: numpy.ndarray, **options: object) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name, **options)


@pytest.fixture
def folders(tmp_path: pathlib.Path) -> pathlib.Path:
    """Four originals of two sizes in `original`, with what a good and a bad codec made of them."""
    for index in range(4):
        height, width = (24, 32) if index % 2 else (40, 24)
        pixels = RNG.integers(0, 256, (height, width, 3), dtype=numpy.uint8)
        inner = "cat/" if index > 1 else ""
        save(tmp_path / "original", f"{inner}{index}.png", pixels)
        save(tmp_path / "good", f"{inner}{index}.png", numpy.minimum(pixels, 253))
        save(tmp_path / "bad", f"{inner}{index}.jpg", pixels, quality=5)
    return tmp_path


def test_two_folders_are_judged_and_compared(tok, folders: pathlib.Path) -> None:
    outcome = tok(
        *("eval", "--reference", "original", "--reconstruction", "good", "--reconstruction", "bad"),
        *("--json", "--report", "page.html", "--sheet", "sheet.png"),
    )
    assert outcome.code == 0, outcome.err
    good, bad = outcome.json
    assert (good["label"], bad["label"], good["items"]) == ("good", "bad", 4)
    assert list(good["metrics"]) == ["psnr", "ssim"]
    assert good["metrics"]["psnr"] > 40 > 20 > bad["metrics"]["psnr"]
    difference = bad["difference"]["metrics"]["psnr"]
    assert difference["items"] == 4
    assert difference["mean"] == pytest.approx(bad["metrics"]["psnr"] - good["metrics"]["psnr"])
    assert [row["item"] for row in bad["item_scores"]] == ["0.png", "1.png", "cat/2.png", "cat/3.png"]
    assert good["rate"] == {}
    assert good["protocol"]["reconstruction"] == "good"
    assert "<h2>Charts" not in (folders / "page.html").read_text()
    assert Image.open(folders / "sheet.png").width > 24


def test_the_figures_and_the_data_are_those_of_a_model_on_the_same_files(tok, folders, tiny_run) -> None:
    assert tok("encode", "original", "-o", "t", "-m", tiny_run, "--size", "native").code == 0
    assert tok("decode", "t", "-o", "decoded", "-m", tiny_run).code == 0
    files = tok("eval", "--reference", "original", "--reconstruction", "decoded", "--json", "--metrics", "psnr").json
    sized = tok(
        *("eval", "--reference", "original", "--reconstruction", "original", "--size", 16, "--json"),
    ).json
    model = tok("eval", tiny_run, "--data", "original", "--size", 16, "--metrics", "psnr", "--json").json
    assert files["items"] == 4
    assert files["metrics"]["psnr"] > 5
    assert sized["metrics"]["psnr"] == 100
    assert sized["protocol"]["dataset_sha256"] == model["protocol"]["dataset_sha256"]


def test_originals_without_a_counterpart_are_listed(tok, folders: pathlib.Path) -> None:
    (folders / "bad/1.jpg").unlink()
    save(folders / "good", "more.png", numpy.zeros((8, 8, 3), numpy.uint8))
    outcome = tok("eval", "--reference", "original", "--reconstruction", "good", "--reconstruction", "bad")
    assert outcome.code == 5
    assert "1.png was left out: no file of this name in bad" in outcome.out
    assert "1 file of good without an original (left out): more" in outcome.out
    assert "paired over 3 items" in outcome.out


def test_a_reconstruction_of_another_size_is_left_out_for_all_and_the_flag_that_helps_is_named(tok, folders) -> None:
    save(folders / "bad", "1.jpg", numpy.zeros((16, 16, 3), numpy.uint8))
    asked = ("eval", "--reference", "original", "--reconstruction", "good", "--reconstruction", "bad")
    outcome = tok(*asked, "--json")
    assert outcome.code == 5
    assert [row["items"] for row in outcome.json] == [3, 3]
    assert outcome.json[0]["failed"][0]["reason"] == (
        "the original has 24x32 pixels, the reconstruction 16x16 pixels; --size N brings both to one size"
    )
    assert tok(*asked, "--size", 16, "--quiet").code == 0


def test_sounds_are_judged_at_the_rate_of_the_originals(tok, tmp_path: pathlib.Path) -> None:
    for folder, noise in (("original", 0.0), ("made", 0.01)):
        (tmp_path / folder).mkdir()
        for index in range(2):
            clip = 0.3 * numpy.sin(numpy.arange(4000) / (5 + index)) + noise * RNG.standard_normal(4000)
            soundfile.write(tmp_path / folder / f"{index}.wav", clip, 8000)
    outcome = tok("eval", "--reference", "original", "--reconstruction", "made", "--json")
    assert outcome.code == 0, outcome.err
    assert list(outcome.json["metrics"]) == ["si-sdr", "mel-distance"]
    assert outcome.json["metrics"]["si-sdr"] > 20
    assert outcome.json["protocol"]["data"]["sample_rate"] == 8000


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--reference", "original"], 2, "--reference ORIGINALS and --reconstruction FOLDER go together"),
        (["--reconstruction", "bad"], 2, "go together"),
        (["--reference", "original", "--reconstruction", "bad", "--metrics", "psnr,cvu"], 2, "cvu counts tokens, and"),
        (["--reference", "original", "--reconstruction", "bad", "-m", "x"], 2, "a model has no place there"),
        (["--reference", "original", "--reconstruction", "nowhere"], 3, "nowhere"),
        (["--reference", "original", "--reconstruction", "other"], 3, r"has its name, but for the suffix, in other"),
    ],
)
def test_what_cannot_be_judged_is_said_in_a_sentence(tok, folders, arguments, code, words) -> None:
    save(folders / "other", "else.png", numpy.zeros((8, 8, 3), numpy.uint8))
    outcome = tok("eval", *arguments)
    assert outcome.code == code
    assert words in outcome.err
    assert "Traceback" not in outcome.err
