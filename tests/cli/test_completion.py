"""Tab completes commands, recipes, runs and keys, by typer's own machinery, and never waits for torch."""

import os
import pathlib
import subprocess
import sys

import pytest

from tokcli.recipe.explanation import PARTS, explain
from tokcli.recipe.keys import list_keys, list_kinds
from tokcli.recipe.recipe import from_text
from tokcli.recipe.shipped import list_shipped, read_shipped
from tokcli.recipe.text import parse

SCRIPT = "import sys; sys.argv=['tok']; from tokcli.__main__ import main; main()"


def complete(line: str, folder: pathlib.Path) -> list[str]:
    """What bash would offer at the end of the line; fails where torch or pydantic was imported for it."""
    words = line.split(" ")
    guard = "import sys; sys.modules['torch'] = sys.modules['pydantic'] = None; " + SCRIPT
    environment = {
        **os.environ,
        "_TOK_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", guard], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_recipes_runs_keys_and_files_are_offered(tmp_path: pathlib.Path) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "own.yaml").write_text("quantizer: {kind: fsq}\n")
    assert complete("tok bu", tmp_path) == ["build-codebook"]
    assert complete("tok train o", tmp_path) == ["own.yaml"]
    assert "image-small-vpvae" in complete("tok train image-small-v", tmp_path)
    assert complete("tok train quickstart quantizer.l", tmp_path) == ["quantizer.levels="]
    assert complete("tok train own.yaml quantizer.n", tmp_path) == ["quantizer.noise="]
    assert complete("tok pu", tmp_path) == ["push", "pull"]
    assert complete("tok push ru", tmp_path) == ["runs/mine", "runs/"]
    assert complete("tok encode x -m ru", tmp_path) == ["runs/mine", "runs/"]
    assert complete("tok recipes explain quantizer v", tmp_path) == ["vq", "vaevq", "vpvae"]


@pytest.mark.parametrize("name", list_shipped())
def test_keys_read_off_the_source_are_those_of_the_resolved_recipe(name: str) -> None:
    text = read_shipped(name).text
    resolved = from_text(text, name).to_dict()
    keys = set(list_keys(parse(text, name)))
    for section in ("autoencoder", "quantizer"):
        assert {f"{section}.{key}" for key in resolved[section]} <= keys
    for half in ("train", "eval"):
        assert {f"data.{half}.{key}" for key in resolved["data"][half]} <= keys
    assert {f"training.{key}" for key in resolved["training"]} <= keys


@pytest.mark.parametrize("section", PARTS)
def test_kinds_read_off_the_source_are_those_of_the_table(section: str) -> None:
    assert list_kinds(section) == [entry.name for entry in explain(section)]


def test_help_needs_neither_torch_nor_pydantic(tmp_path: pathlib.Path) -> None:
    guard = "import sys; sys.modules['torch'] = sys.modules['pydantic'] = None; sys.argv = ['tok', '--help']; "
    code = guard + "from tokcli.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=pathlib.Path.cwd())
    assert (done.returncode, "Make tokens:" in done.stdout) == (0, True), done.stderr
