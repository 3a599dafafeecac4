"""What the documentation shows works: every block of Python in README, every example in a docstring."""

import doctest
import importlib
import pathlib
import re
import runpy

import numpy
import pytest
from PIL import Image

import tokcli

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "tokcli"
SMALL = [
    "training.steps=2",
    "autoencoder.width=8",
    "evaluation.metrics=[psnr]",
    "data.eval.items=4",
    "data.train.items=8",
]
SHOWN = sorted(path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What readers have after the first commands of README: a run, photographs, their tokens."""
    from tokcli.commands.encode import encode

    place = tmp_path_factory.mktemp("documentation")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        tokcli.train("quickstart", SMALL)
        (place / "photos").mkdir()
        generator = numpy.random.default_rng(0)
        for index in range(3):
            coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=numpy.uint8))
            coarse.resize((64, 64), Image.Resampling.BICUBIC).save(place / f"photos/{index:03}.png")
        encode(["photos"], "tokens.npy", model="runs/quickstart")
    return place


def blocks_of(path: pathlib.Path) -> list[str]:
    """The fenced blocks of Python in a page, in order."""
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def test_the_python_of_the_readme_runs(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names: dict = {}
    blocks = blocks_of(ROOT / "README.md")
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert (folder / "first.png").is_file()
    assert names["scores"].metrics["psnr"] > 0


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_examples_of_a_docstring_run(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, path) -> None:
    monkeypatch.chdir(folder)
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    outcome = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert outcome.attempted
    assert not outcome.failed


def test_the_tokenizer_trained_by_hand_is_saved_evaluated_and_opens(tmp_path: pathlib.Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = runpy.run_path(str(ROOT / "recipes" / "train_by_hand.py"))
    untrained, trained = script["main"](1, "runs/short"), script["main"](60)
    assert trained["psnr"] > untrained["psnr"] + 2
    assert tokcli.load("runs/by-hand").codebook_size == 1000


def test_the_front_door_has_an_example_for_everything() -> None:
    for name in tokcli.__all__:
        thing = getattr(tokcli, name)
        members = [thing] if not isinstance(thing, type) else [thing.encode, thing.decode] if name != "TokError" else []
        for member in members:
            assert "\nExample:\n" in (member.__doc__ or "").replace("    ", ""), f"{name}: {member}"
