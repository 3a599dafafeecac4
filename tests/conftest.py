"""What tests share: a recipe that trains in a second, pictures, and the command line in this process."""

import json
import os
import pathlib
from dataclasses import dataclass
from typing import Any

import numpy
import pytest
from PIL import Image

from tokcli.progress import SILENT, Task

# Test processes share the cores already: threads that wait for each other would make them many times slower. Set before
# torch is imported, and inherited by the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test fetches weights: those that are absent are asked for.
os.environ["TOK_OFFLINE"] = "1"

TINY = """# A recipe small enough for a test.
name: tiny
data:
  train: {kind: dead-leaves, items: 64, size: 16}
  eval: {kind: dead-leaves, items: 6, size: 16, seed: 1}
autoencoder: {kind: vqgan, latent_dim: 3, width: 8, multipliers: [1, 1], blocks: 1, patch: 2, groups: 2}
quantizer: {kind: fsp, levels: [4, 3, 3]}
losses:
  - {kind: l1}
training: {steps: 6, batch_size: 4, learning_rate: 1e-3, ema_decay: 0.9, workers: 0, log_every: 2, checkpoint_every: 3}
evaluation: {every: 4, batch_size: 4, metrics: [psnr, usage, cvu]}
"""


@pytest.fixture(autouse=True)
def _nothing_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Tests find no shipped tokenizer but those that they put into a folder of their own."""
    monkeypatch.setattr("tokcli.shipped.FOLDER", tmp_path / "nothing-shipped")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests leave the user's cache alone; inherited by the commands that they start."""
    os.environ["TOK_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def tiny() -> str:
    """The text of a recipe that trains in a second."""
    return TINY


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON value that it must be."""
        return json.loads(self.out)


@pytest.fixture
def tok(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path):
    """Run `tok ARGUMENTS...` in this process, in an empty folder."""
    from tokcli.cli.app import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOK_MODEL", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return call


@pytest.fixture
def tiny_run(tok, tiny: str, tmp_path: pathlib.Path) -> pathlib.Path:
    """A finished run of the tiny recipe, in ./runs/tiny."""
    (tmp_path / "tiny.yaml").write_text(tiny)
    outcome = tok("train", "tiny.yaml", "--quiet", "--json")
    assert outcome.code == 0, outcome.err
    return tmp_path / "runs" / "tiny"


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder tree of five smooth pictures of different sizes."""
    folder = tmp_path / "photos"
    generator = numpy.random.default_rng(0)
    for index, (height, width) in enumerate([(24, 24), (24, 32), (40, 24), (17, 33), (24, 24)]):
        coarse = generator.integers(0, 256, (4, 4, 3), dtype=numpy.uint8)
        place = folder / ("inner" if index % 2 else ".") / f"photo-{index}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(place)
    return folder


class Notes:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)

    def task(self, label: str, total: int | None, unit: str, done: int = 0) -> Task:
        return SILENT.task(label, total, unit, done)


@pytest.fixture
def notes() -> Notes:
    return Notes()
