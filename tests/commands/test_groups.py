"""Several tokens at a position: encoded, decoded and judged from the first of them, by one model."""

import pathlib

import numpy
import pytest
import torch
from PIL import Image

import tokcli
from tokcli.artifacts import Artifact, save_artifact
from tokcli.metrics.tokens import count_tokens, describe_groups
from tokcli.recipe.build import build_tokenizer
from tokcli.recipe.recipe import from_text


@pytest.fixture
def model(tiny: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An untrained artifact of three stages, and two photographs beside it."""
    monkeypatch.chdir(tmp_path)
    recipe = from_text(tiny, "tiny", ["quantizer={kind: residual, of: {kind: fsp, levels: [4, 3, 3]}, depth: 3}"])
    torch.manual_seed(0)
    save_artifact(tmp_path / "m.safetensors", Artifact(build_tokenizer(recipe).eval(), recipe, "raw"))
    (tmp_path / "photos").mkdir()
    for number in range(2):
        pixels = numpy.random.default_rng(number).integers(0, 256, (16, 16, 3), numpy.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "m.safetensors"


def test_the_first_groups_are_those_of_all_and_decode_alike(tok, model: pathlib.Path) -> None:
    assert tok("encode", "photos", "-o", "all.npy", "-m", model).code == 0
    assert tok("encode", "photos", "-o", "two.npy", "-m", model, "--groups", "2").code == 0
    whole, two = numpy.load("all.npy"), numpy.load("two.npy")
    assert whole.shape == (2, 4, 4, 3)
    assert (two == whole[..., :2]).all()
    assert tok("info", "two.npy", "--json").json["groups"] == 2
    assert tok("decode", "two.npy", "-o", "a", "-m", model).code == 0
    assert tok("decode", "all.npy", "-o", "b", "-m", model, "--groups", "2").code == 0
    assert tok("decode", "all.npy", "-o", "c", "-m", model).code == 0
    read = {name: (pathlib.Path(name) / "0.png").read_bytes() for name in "abc"}
    assert read["a"] == read["b"] != read["c"]
    loaded = tokcli.load(model)
    assert torch.equal(loaded.decode(torch.from_numpy(whole[..., :2])), loaded.decode(torch.from_numpy(two)))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["encode", "photos", "-o", "t.npy", "--groups", "4"], "has tokens of 1, 2, 3 groups at a position, got 4"),
        (["eval", "--data", "photos", "--groups", "1,9"], "has tokens of 1, 2, 3 groups at a position, got 9"),
        (["eval", "--data", "photos", "--groups", "none"], "expected numbers separated by commas, such as 1,2,4"),
        (["decode", "two.npy", "-o", "d", "--groups", "3"], "can be decoded from the first 1, 2 groups, got 3"),
    ],
)
def test_groups_that_are_not_there_are_refused(tok, model: pathlib.Path, line: list[str], words: str) -> None:
    if "two.npy" in line:
        tok("encode", "photos", "-o", "two.npy", "-m", model, "--groups", "2")
    outcome = tok(*line, "-m", model)
    assert outcome.code == 2
    assert words in " ".join(outcome.err.split())


def test_a_model_gives_a_curve_of_rate_and_distortion(tok, model: pathlib.Path) -> None:
    line = ["eval", model, "--data", "photos", "--metrics", "psnr,cvu", "--groups", "all"]
    rows = tok(*line, "--json", "--report", "r.html").json
    assert [row["label"].rpartition(" · ")[2] for row in rows] == ["1 group", "2 groups", "3 groups"]
    rates = [row["rate"]["bits_per_pixel"] for row in rows]
    assert rates == pytest.approx([rates[0], 2 * rates[0], 3 * rates[0]])
    assert len({row["metrics"]["psnr"] for row in rows}) == 3
    assert "by_group" not in rows[0]
    by_group = rows[2]["by_group"]["cvu"]
    assert len(by_group) == 3
    assert rows[2]["metrics"]["cvu"] == pytest.approx(sum(by_group) / 3)
    assert rows[1]["by_group"]["cvu"] == by_group[:2]
    page = pathlib.Path("r.html").read_text()
    assert all(f"{number} groups" in page for number in (2, 3))
    table = tok(*line[:-1], "1,3").out
    assert "3 groups, by group" in table
    assert "mean" in table


def test_how_groups_use_their_codes_by_hand() -> None:
    # The first group has two codes equally often of four, the second always the same.
    counts = count_tokens(torch.tensor([[[0, 3], [1, 3]]]), 4)
    told = describe_groups(counts)
    assert told["usage"] == [0.5, 0.25]
    assert told["perplexity"] == pytest.approx([2, 1])
    assert told["cvu"] == pytest.approx([0.5, 0.25])
    assert told["entropy_bits_per_token"] == pytest.approx([1, 0])


def test_a_page_shows_each_group(tok, model: pathlib.Path) -> None:
    outcome = tok("eval", model, "--data", "photos", "--metrics", "psnr,cvu", "--report", "page.html", "--json")
    assert outcome.code == 0, outcome.err
    page = pathlib.Path("page.html").read_text()
    assert page.count(", by group</h3>") == 1
    table = page.partition(", by group</h3>")[2].partition("</table>")[0]
    assert [f'<th scope="row">{number}</th>' in table for number in range(1, 5)] == [True, True, True, False]
    assert all(f'data-value="{value:.9g}"' in table for value in outcome.json["by_group"]["perplexity"])
