"""The shipped files themselves: small, credited, whole, and with tokens that are pinned."""

import importlib.resources
import json
import pathlib
import zipfile

import hatchling.builders.wheel
import pytest
import torch
from made_up import PINNED, digest_tokens, encode_all

import tokcli
from tokcli import shipped
from tokcli.artifacts import load_artifact
from tokcli.artifacts.tensors import read_metadata

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "tokcli" / "shipped"
LABELS = ["photo@1", "speech@1", "speech@2"]
LARGEST = 8_000_000
"""Bytes of one file."""

CARD = {"trained_on", "trained_for", "figures_of", "figures", "fails"}
"""What every card says."""


@pytest.fixture(params=LABELS)
def label(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tokenizer that is to be in the package."""
    monkeypatch.setattr("tokcli.shipped.FOLDER", FOLDER)
    return request.param


def test_its_tokens_are_pinned(label: str) -> None:
    pinned = json.loads(PINNED.read_text())
    assert label in pinned, "pin them: python tests/shipped/made_up.py"
    assert digest_tokens(label) == pinned[label]


def test_its_tokens_are_the_same_on_one_thread_and_on_two(label: str) -> None:
    before = torch.get_num_threads()
    tokenizer, found = tokcli.load(label), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(encode_all(tokenizer))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)


def test_its_file_is_small_and_says_whose_work_it_is_and_nothing_of_a_machine(label: str) -> None:
    path = shipped.find_tokenizer(label).path
    assert path.stat().st_size <= LARGEST
    metadata = read_metadata(path)
    assert json.loads(metadata["licence"]) != "unspecified"
    assert len(json.loads(metadata["credits"])) > 20
    assert not [key for key, text in metadata.items() if '"/' in text], "it names a path of the machine it was made on"


def test_its_card_has_a_row_for_every_codebook(label: str, tok) -> None:
    card = shipped.find_tokenizer(label).read_card()
    assert card.keys() >= CARD
    rows = {row["codebook"] for row in card["figures"] if "codebook" in row}
    sizes = tokcli.load(label).module.quantizer.codebooks
    assert rows >= set(sizes)
    told = tok("info", label)
    assert told.code == 0
    assert "figures" in told.out


def test_the_package_holds_them_as_data() -> None:
    folder = importlib.resources.files("tokcli.shipped")
    assert {path.name for path in FOLDER.glob("*.safetensors")} == {
        entry.name for entry in folder.iterdir() if entry.name.endswith(".safetensors")
    }


def test_a_wheel_takes_them_along(tmp_path: pathlib.Path) -> None:
    """Of a project in small that has this one's build settings and its list of what git ignores."""
    for name in ("pyproject.toml", ".gitignore", "README.md", "LICENSE", "tokcli/__init__.py"):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    for name in ("tokcli/shipped/photo-1.safetensors", "tokcli/shipped/photo-1.json", "recipes/photo.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("stands for it")
    (wheel,) = hatchling.builders.wheel.WheelBuilder(str(tmp_path)).build(versions=["standard"])
    held = zipfile.ZipFile(wheel).namelist()
    wanted = {"tokcli/shipped/photo-1.safetensors", "tokcli/shipped/photo-1.json", "tokcli/recipes/photo.yaml"}
    assert wanted <= set(held)


def test_weights_lie_in_memory_as_they_were_trained() -> None:
    artifact = load_artifact(FOLDER / "photo-1.safetensors")
    assert artifact.recipe.training.channels_last
    kernels = [weight for weight in artifact.tokenizer.parameters() if weight.dim() == 4 and min(weight.shape) > 1]
    assert kernels
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)
