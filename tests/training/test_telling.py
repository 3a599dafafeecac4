"""A training tells what it is: facts first, a line for each evaluation, a collapse with its remedy, samples."""

import dataclasses
import json
import pathlib
import re
import types

import numpy
import pytest
import soundfile
import torch
from PIL import Image

from tokcli.commands.train import train
from tokcli.data.audio.files import AudioFiles
from tokcli.data.image.files import ImageFiles
from tokcli.data.modality import AUDIO, IMAGE
from tokcli.progress import SILENT, Task
from tokcli.quantizers import QUANTIZERS
from tokcli.training.announcement import warn_of_large_crops
from tokcli.training.evaluation import warn_of_collapse
from tokcli.training.run_folder import RunFolder

AUDIO_RECIPE = """
name: voices
data:
  train: {kind: synthetic-voices, items: 64, size: 960}
  eval: {kind: synthetic-voices, items: 4, size: 4000, seed: 1}
autoencoder: {kind: spectral, latent_dim: 3, width: 8, blocks: 1}
quantizer: {kind: fsp, levels: [4, 3, 3]}
losses: [{kind: l1}]
training: {steps: 4, batch_size: 4, learning_rate: 1e-3, workers: 0, log_every: 2}
evaluation: {every: 2, batch_size: 4, metrics: [si-sdr, cvu]}
"""


class Notes:
    """A reporter that remembers its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def task(self, label: str, total: int | None, unit: str, done: int = 0) -> Task:
        return SILENT.task(label, total, unit, done)


@pytest.fixture
def audio_recipe(tmp_path: pathlib.Path) -> str:
    (tmp_path / "voices.yaml").write_text(AUDIO_RECIPE)
    return str(tmp_path / "voices.yaml")


def test_the_first_line_says_what_is_trained_and_each_evaluation_has_its_line(recipe: str, tmp_path) -> None:
    told = Notes()
    result = train(recipe, ["evaluation.every=2"], out=str(tmp_path / "run"), reporter=told)
    parameters = sum(value.numel() for value in _load(result.artifact).parameters())
    assert told.notes[0] == (
        f"{parameters / 1e6:.3g} M parameters, K = 36, stride 4, 16 tokens a picture of 16², 0.323 bits per pixel; "
        "fp32 on cpu; training on endless pictures (dead leaves) of 16², none of them twice; "
        "judged on 6 pictures (dead leaves) of 16²"
    )
    lines = [note for note in told.notes if note.startswith("step ")]
    assert [line.partition(":")[0] for line in lines] == ["step 2 of 6", "step 4 of 6", "step 6 of 6"]
    kept = [json.loads(line) for line in (result.run / "metrics.jsonl").read_text().splitlines()]
    figures = [line["evaluation"]["psnr"] for line in kept if "evaluation" in line]
    for line, figure in zip(lines, figures, strict=True):
        assert f"psnr {figure:.4g} dB, usage " in line
    assert "best" not in lines[0]
    best = max(range(2), key=figures.__getitem__)
    expected = "so far" if figures[1] > figures[0] else f"so far: {figures[best]:.4g} at step {2 * (best + 1)}"
    assert lines[1].endswith(f"best psnr {expected}")


def test_an_evaluation_before_the_first_line_of_the_log_is_told(recipe: str, tmp_path) -> None:
    told = Notes()
    train(recipe, ["evaluation.every=1", "training.log_every=5"], out=str(tmp_path / "run"), reporter=told)
    assert [note for note in told.notes if note.startswith("step 1 of 6: psnr ")]


def _load(artifact: pathlib.Path) -> torch.nn.Module:
    from tokcli.artifacts import load_artifact

    return load_artifact(artifact).tokenizer


def test_sounds_have_tokens_a_second_and_leave_pairs_to_listen_to(audio_recipe: str, tmp_path) -> None:
    told = Notes()
    run = train(audio_recipe, out=str(tmp_path / "run"), reporter=told).run
    assert "tokens a second, " in told.notes[0]
    assert "kbps" in told.notes[0]
    names = sorted(path.name for path in (run / "samples").iterdir())
    assert names == [
        *(f"original-{number}.wav" for number in (1, 2, 3)),
        *(f"step-{step:08d}{end}" for step in (2, 4) for end in ("-1.wav", "-2.wav", "-3.wav", ".png")),
    ]
    assert soundfile.info(run / "samples" / "step-00000004-1.wav").frames == 4000
    RunFolder(run).clear()
    assert not (run / "samples").exists()


def test_a_sheet_is_labelled_and_small_pictures_are_enlarged(recipe: str, tmp_path) -> None:
    sheet = train(recipe, ["evaluation.every=null"], out=str(tmp_path / "run")).sheet
    assert Image.open(sheet).size[0] == 6 * 64 + 5 * 2
    assert Image.open(sheet).size[1] > 2 * 64 + 2 * 14
    large = IMAGE.view.sheet([torch.zeros(3, 256, 200)], [torch.zeros(3, 256, 200)])
    assert large.width == 200


def test_a_sheet_of_sounds_says_its_axes() -> None:
    clips = [torch.zeros(1, 8000), torch.zeros(1, 16000)]
    assert AUDIO.view.describe_axes(clips, 16000) == " (left to right 1 s, bottom to top 0 to 8 kHz)"
    assert IMAGE.view.describe_axes([torch.zeros(3, 8, 8)], None) == ""


def scores(usage: float, cvu: float, tokens: int = 10_000) -> types.SimpleNamespace:
    candidate = types.SimpleNamespace(modality="image")
    counts = torch.full((1, 64), tokens // 64)
    return types.SimpleNamespace(metrics={"usage": usage, "cvu": cvu}, counts=counts, candidate=candidate)


@pytest.mark.parametrize(
    ("step", "usage", "cvu", "warned"),
    [(500, 0.066, 0.016, True), (500, 0.5, 0.05, True), (500, 0.5, 0.2, False), (100, 0.066, 0.016, False)],
)
def test_a_collapse_is_told_with_the_remedy(step, usage, cvu, warned) -> None:
    quantizer = QUANTIZERS.build({"kind": "vq", "dim": 4, "codebook_size": 64})
    warning = warn_of_collapse(scores(usage, cvu), quantizer, step)
    assert (warning is not None) == warned
    if warning:
        assert warning.startswith("the codebook has collapsed: ")
        assert warning.endswith("train with quantizer.ema=true quantizer.restart_below=0.5")
        assert ("6.6% of the codes occur" in warning) == (usage < 0.1)


def test_too_few_tokens_say_nothing_of_a_collapse() -> None:
    quantizer = QUANTIZERS.build({"kind": "vq", "dim": 4, "codebook_size": 64})
    assert warn_of_collapse(scores(0.01, 0.01, tokens=64), quantizer, 500) is None


def test_crops_larger_than_the_files_are_told(photos: pathlib.Path, tmp_path) -> None:
    assert warn_of_large_crops(ImageFiles(str(photos), 16, crop="random")) is None
    warning = warn_of_large_crops(ImageFiles(str(photos), 20, crop="random"))
    assert warning.startswith("crops of 20 pixels are larger than the pictures: 1 of 5 looked at have 17 or more")
    soundfile.write(tmp_path / "a.wav", numpy.zeros(500), 16000)
    assert "followed by silence" in warn_of_large_crops(AudioFiles(str(tmp_path / "a.wav"), 800, crop="random"))


def test_one_token_a_picture_is_told(recipe: str, tmp_path) -> None:
    told = Notes()
    options = ["data.train.size=8", "autoencoder.patch=4", "training.steps=1", "evaluation.metrics=[cvu]"]
    train(recipe, options, out=str(tmp_path / "run"), reporter=told)
    assert told.notes[1].startswith("one token stands for a whole picture of training: its size, 8, is no larger than")


def test_a_dry_run_estimates_the_whole(recipe: str) -> None:
    estimate = train(recipe, ["training.steps=1000", "evaluation.every=300"], dry_run=True).estimate
    assert (estimate.steps, estimate.evaluations) == (1000, 4)
    assert 0 < estimate.seconds_per_step < 5
    assert estimate.seconds == pytest.approx(1000 * estimate.seconds_per_step + 4 * estimate.seconds_per_evaluation)
    assert 50e6 < estimate.memory_bytes < 100e9
    assert estimate.rate == "16 tokens a picture of 16², 0.323 bits per pixel"
    assert estimate.to_json()["seconds"] == estimate.seconds


def test_a_run_of_sounds_says_what_to_listen_to(tok, tmp_path) -> None:
    (tmp_path / "voices.yaml").write_text(AUDIO_RECIPE)
    outcome = tok("train", "voices.yaml", "training.steps=1")
    assert "listen to: runs/voices/samples/step-00000001-1.wav (of original-1.wav" in outcome.out


def test_a_run_prints_its_time_and_its_command(tok, tiny: str, tmp_path, monkeypatch) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    monkeypatch.setattr("sys.argv", ["tok", "train", "tiny.yaml", "training.steps=1"])
    outcome = tok("train", "tiny.yaml", "training.steps=1")
    assert "time:      0:0" in outcome.out
    assert "command:   tok train tiny.yaml training.steps=1\n" in outcome.out
    assert "$ tok train tiny.yaml training.steps=1\n" in (tmp_path / "runs/tiny/log.txt").read_text()
    dry = tok("train", "tiny.yaml", "--dry-run")
    assert "the whole: 6 steps of " in dry.out
    assert "memory:    " in dry.out


def test_tensorboard_gets_pictures_and_the_histogram_of_codes(recipe: str, tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(recipe, ["training.trackers=[tensorboard]"], out=str(tmp_path / "run"))
    (events,) = (result.run / "tensorboard").rglob("events.*")
    seen = EventAccumulator(str(events.parent), size_guidance={"images": 0, "histograms": 0})
    seen.Reload()
    assert [event.step for event in seen.Images("evaluation/samples")] == [4, 6]
    histogram = seen.Histograms("evaluation/codes")[-1].histogram_value
    assert sum(histogram.bucket) == histogram.num == 6 * 16
    assert len(histogram.bucket) == 36


def test_tensorboard_gets_sounds(audio_recipe: str, tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(audio_recipe, ["training.trackers=[tensorboard]"], out=str(tmp_path / "run"))
    (events,) = (result.run / "tensorboard").rglob("events.*")
    seen = EventAccumulator(str(events.parent), size_guidance={"audio": 0})
    seen.Reload()
    assert len(seen.Audio("evaluation/original-1")) == len(seen.Audio("evaluation/reconstruction-3")) == 2
    assert seen.Audio("evaluation/original-1")[0].sample_rate == 16000


def test_wandb_gets_pictures_and_codes_and_sounds(audio_recipe: str, tmp_path, monkeypatch) -> None:
    import wandb

    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path))
    run = train(audio_recipe, ["training.trackers=[wandb]"], out=str(tmp_path / "run")).run
    (kept,) = run.glob("wandb/offline-run-*/run-*.wandb")
    for name in (b"evaluation/samples", b"evaluation/codes", b"evaluation/reconstruction-1"):
        assert name in kept.read_bytes()
    suffixes = {path.suffix for path in kept.parent.rglob("media/**/*") if path.is_file()}
    assert {".png", ".wav"} <= suffixes


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_the_bar_keeps_its_time_on_a_narrow_terminal(columns: int, monkeypatch) -> None:
    import io

    from rich.console import Console

    from tokcli.cli.console import BarReporter

    monkeypatch.setenv("COLUMNS", str(columns))
    screen = io.StringIO()
    reporter = BarReporter()
    console = Console(file=screen, force_terminal=True, width=columns, color_system=None)
    reporter._console = reporter._progress.live.console = console
    with reporter.task("training", 25000, "steps", done=0) as task:
        task.advance(1234, loss=0.12345, items_per_second=1234.5)
        reporter._progress.refresh()
        console.print(reporter._progress.get_renderable())
    line = [part for part in screen.getvalue().splitlines() if "1234/25000 steps" in part][-1]
    assert re.search(r"-:--:--|\d:\d\d:\d\d", line)
    assert "…" not in line
    assert ("items_per_second" in line) == (columns == 140)
    assert ("loss 0.1235" in line) == (columns >= 80)


def test_the_estimate_is_a_plain_value(recipe: str) -> None:
    estimate = train(recipe, dry_run=True).estimate
    assert set(estimate.to_json()) == {field.name for field in dataclasses.fields(estimate)} | {"seconds"}
