"""The examples of CONTRIBUTING are added to a copy of the project as it says, and pass the tests that it names."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / ".github" / "CONTRIBUTING.md"
FENCE = re.compile(r"^```(python|diff)\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^    pytest (tests/\S+) -k (\w+)$", re.MULTILINE)

RECIPE = """name: contributed
data:
  train: {kind: gratings, items: 8, size: 16}
  eval: {kind: gratings, items: 2, size: 16, seed: 1}
autoencoder: {kind: vqgan, latent_dim: 4, width: 8, multipliers: [1, 1], blocks: 1, patch: 2, groups: 2}
quantizer: {kind: sign, dim: 4}
losses: [{kind: charbonnier}]
training: {steps: 2, batch_size: 2, workers: 0}
evaluation: {batch_size: 2, metrics: [absolute-error]}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A copy of the project with every example of the page in it."""
    copy = tmp_path_factory.mktemp("project")
    ignored = shutil.ignore_patterns("__pycache__", "ground")
    for folder in ("tokcli", "tests", "recipes"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for kind, path, text in FENCE.findall(PAGE.read_text()):
        if kind == "python":
            assert not (copy / path).exists(), f"{path} is there already"
            (copy / path).write_text(text)
        else:
            (copy / path).write_text(patched((copy / path).read_text(), text, path))
    return copy


def patched(content: str, difference: str, path: str) -> str:
    """`content` with every line that begins with + behind the line before it in `difference`, which stands once."""
    lines = content.split("\n")
    position = None
    for line in difference.splitlines():
        if line.startswith("+"):
            assert position is not None, f"{path}: nothing stands before {line}"
            position += 1
            lines.insert(position, line[1:])
        else:
            assert lines.count(line[1:]) == 1, f"{path}: expected this line once: {line[1:]}"
            position = lines.index(line[1:])
    return "\n".join(lines)


def run(project: pathlib.Path, *arguments: str, folder: pathlib.Path | None = None) -> str:
    environment = os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=folder or project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_has_its_five_examples() -> None:
    headings = re.findall(r"^### (.*)$", PAGE.read_text(), re.MULTILINE)
    assert headings == ["A quantizer", "A metric", "A loss", "A token format", "A source"]
    assert len(COMMAND.findall(PAGE.read_text())) == 5


@pytest.mark.slow
def test_the_examples_pass_the_tests_of_their_families(project: pathlib.Path) -> None:
    for path, word in COMMAND.findall(PAGE.read_text()):
        assert "passed" in run(project, "pytest", path, "-k", word, "-p", "no:cacheprovider", "-v")


@pytest.mark.slow
def test_the_examples_are_written_as_the_project_is(project: pathlib.Path) -> None:
    made = [path for kind, path, _ in FENCE.findall(PAGE.read_text()) if kind == "python"]
    run(project, "ruff", "check", "--no-cache", *made)
    run(project, "ruff", "format", "--check", "--no-cache", *made)


@pytest.mark.slow
def test_the_examples_train_encode_and_decode_together(project: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "photos").mkdir()
    generator = numpy.random.default_rng(0)
    for index in range(3):
        pixels = generator.integers(0, 256, (20, 24, 3), dtype=numpy.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{index}.png")
    (tmp_path / "contributed.yaml").write_text(RECIPE)
    for command in (
        "train contributed.yaml --quiet",
        "encode photos -o tokens.zip",
        "decode tokens.zip -o out",
        "info tokens.zip",
        "eval --metrics absolute-error,cvu",
    ):
        run(project, "tokcli", *command.split(), folder=tmp_path)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png"]
