"""Runs: exact resume, divergence, interruption, what a run folder holds."""

import json
import os
import pathlib
import signal

import pytest
import torch

from tokcli.artifacts import load_artifact
from tokcli.artifacts.tensors import read_tensors
from tokcli.commands.train import train
from tokcli.errors import DivergedError, InputError, InterruptedRunError, MismatchError, UsageError
from tokcli.progress import SILENT
from tokcli.training.parts import Training


def tensors_of(run: pathlib.Path) -> dict[str, torch.Tensor]:
    return read_tensors(run / "tokenizer.safetensors").tensors


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def interrupt(training: Training) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def terminate(training: Training) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_leaves_what_design_names(recipe: str, tmp_path: pathlib.Path) -> None:
    result = train(recipe, out=str(tmp_path / "run"))
    found = {path.name for path in result.run.iterdir()}
    files = {"recipe.yaml", "tokenizer.safetensors", "metrics.jsonl", "curves.png", "log.txt", ".tok-run"}
    assert found == files | {"samples", "checkpoints"}
    assert [path.name for path in sorted((result.run / "checkpoints").iterdir())] == [
        "step-00000003.safetensors",
        "step-00000006.safetensors",
    ]
    assert result.sheet == result.run / "samples" / "step-00000006.png"
    lines = [json.loads(line) for line in (result.run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 4, 6, 6]
    assert lines[-1]["evaluation"] == result.metrics
    assert 0 < result.metrics["cvu"] <= 1
    artifact = load_artifact(result.artifact)
    assert artifact.weights == "ema"
    assert artifact.training["metrics"] == result.metrics


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["training.accumulate=2"],
        ["quantizer={kind: vq, dim: 3, codebook_size: 16}"],
        ["quantizer={kind: vq, dim: 3, codebook_size: 16, ema: true, restart_below: 0.5, kmeans_start: true}"],
        ["quantizer={kind: fsq, levels: [4, 3, 3], variant: symmetric, noise: 0.5}"],
    ],
)
def test_an_interrupted_run_ends_like_an_uninterrupted_one(
    recipe: str, tmp_path: pathlib.Path, after_step, options: list[str]
) -> None:
    whole = train(recipe, options, out=str(tmp_path / "whole"))
    words = "stopped after step 4 of 6; the same command goes on"
    with after_step(4, interrupt), pytest.raises(InterruptedRunError, match=words):
        train(recipe, options, out=str(tmp_path / "parts"))
    parts = train(recipe, options, out=str(tmp_path / "parts"))
    assert_same(tensors_of(whole.run), tensors_of(parts.run))
    assert whole.metrics == parts.metrics
    lines = [(whole.run / "metrics.jsonl").read_text(), (parts.run / "metrics.jsonl").read_text()]
    steps = [[json.loads(line)["step"] for line in text.splitlines()] for text in lines]
    assert steps[0] == steps[1]


def test_a_killed_run_goes_on_from_its_last_checkpoint(recipe: str, tmp_path: pathlib.Path, after_step) -> None:
    class Killed(BaseException):
        pass

    def die(training: Training) -> None:
        raise Killed

    whole = train(recipe, out=str(tmp_path / "whole"))
    with after_step(5, die), pytest.raises(Killed):
        train(recipe, out=str(tmp_path / "parts"))
    # As a kill in the middle of a save would leave it: the newest checkpoint is cut short.
    broken = tmp_path / "parts" / "checkpoints" / "step-00000004.safetensors"
    broken.write_bytes((tmp_path / "parts" / "checkpoints" / "step-00000003.safetensors").read_bytes()[:1000])
    parts = train(recipe, out=str(tmp_path / "parts"))
    assert_same(tensors_of(whole.run), tensors_of(parts.run))


def test_a_loss_that_is_not_a_number_stops_the_run_with_the_way_on(
    recipe: str, tmp_path: pathlib.Path, after_step
) -> None:
    def poison(training: Training) -> None:
        with torch.no_grad():
            training.parameters[0].fill_(float("nan"))

    words = r"--resume \S*step-00000003\.safetensors .*learning_rate=0\.0005"
    with after_step(4, poison), pytest.raises(DivergedError, match=words):
        train(recipe, out=str(tmp_path / "run"))
    good = tmp_path / "run" / "checkpoints" / "step-00000003.safetensors"
    assert all(torch.isfinite(value).all() for value in read_tensors(good).tensors.values())
    assert not (tmp_path / "run" / "tokenizer.safetensors").exists()


def test_a_checkpoint_starts_a_run_of_a_changed_recipe(recipe: str, tmp_path: pathlib.Path) -> None:
    train(recipe, out=str(tmp_path / "first"))
    checkpoint = tmp_path / "first" / "checkpoints" / "step-00000003.safetensors"
    result = train(recipe, ["training.learning_rate=1e-5"], out=str(tmp_path / "second"), resume=str(checkpoint))
    first_line = json.loads((result.run / "metrics.jsonl").read_text().splitlines()[0])
    assert first_line["step"] == 4


def test_a_run_in_the_way_is_not_overwritten(recipe: str, tmp_path: pathlib.Path) -> None:
    out = str(tmp_path / "run")
    before = tensors_of(train(recipe, out=out).run)
    with pytest.raises(UsageError, match="already holds a finished run; --force starts it anew, --out FOLDER"):
        train(recipe, out=out)
    assert_same(before, tensors_of(tmp_path / "run"))
    assert train(recipe, ["seed=5"], out=out, force=True).steps == 6


def test_an_interrupted_run_of_another_recipe_is_not_mixed_in(recipe: str, tmp_path: pathlib.Path, after_step) -> None:
    with after_step(4, terminate), pytest.raises(InterruptedRunError):
        train(recipe, out=str(tmp_path / "run"))
    with pytest.raises(UsageError, match="an interrupted run of another recipe"):
        train(recipe, ["seed=5"], out=str(tmp_path / "run"))
    with pytest.raises(UsageError, match="--resume auto goes on with it"):
        train(recipe, out=str(tmp_path / "run"), resume="never")


def test_a_file_that_is_no_checkpoint_is_refused(recipe: str, tmp_path: pathlib.Path) -> None:
    artifact = train(recipe, out=str(tmp_path / "first")).artifact
    with pytest.raises(MismatchError, match="is no checkpoint"):
        train(recipe, out=str(tmp_path / "second"), resume=str(artifact))
    with pytest.raises(InputError, match="there is no file"):
        train(recipe, out=str(tmp_path / "second"), resume=str(tmp_path / "none.safetensors"))


def test_a_dry_run_leaves_nothing(recipe: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    result = train(recipe, dry_run=True, reporter=SILENT)
    assert result.steps == 2
    assert set(tmp_path.rglob("*")) == before
    assert not result.run.exists()


def test_the_best_tokenizer_so_far_is_kept(recipe: str, tmp_path: pathlib.Path) -> None:
    options = ["evaluation.every=2", "evaluation.best=psnr"]
    run = train(recipe, options, out=str(tmp_path / "run")).run
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    during = {line["step"]: line["evaluation"]["psnr"] for line in lines[:-1] if "evaluation" in line}
    best = load_artifact(run / "checkpoints" / "best.safetensors")
    assert during[best.training["steps"]] == max(during.values())


def test_averaged_weights_are_what_is_exported(recipe: str, tmp_path: pathlib.Path) -> None:
    averaged = tensors_of(train(recipe, out=str(tmp_path / "averaged")).run)
    raw = train(recipe, ["training.ema_decay=null"], out=str(tmp_path / "raw"))
    assert load_artifact(raw.artifact).weights == "raw"
    checkpoint = read_tensors(tmp_path / "averaged" / "checkpoints" / "step-00000006.safetensors").tensors
    for name, tensor in averaged.items():
        if f"averages/{name}" in checkpoint:
            assert torch.equal(tensor, checkpoint[f"averages/{name}"])
        assert torch.equal(tensors_of(raw.run)[name], checkpoint[f"tokenizer/{name}"])
