"""The last phase: only the decoder moves, towards the codes it will meet."""

import pathlib

import torch

from tokcli.artifacts import load_artifact
from tokcli.artifacts.tensors import read_tensors
from tokcli.commands.train import train
from tokcli.recipe.build import build_evaluation_source

VPVAE = ["quantizer={kind: vpvae, dim: 3, codebook_size: 16}", "training.ema_decay=null"]


def test_only_the_decoder_changes_and_tokens_stay(recipe: str, tmp_path: pathlib.Path) -> None:
    plain = train(recipe, [*VPVAE, "codebook={}"], out=str(tmp_path / "plain"))
    tuned = train(recipe, [*VPVAE, "codebook={finetune_steps: 5}"], out=str(tmp_path / "tuned"))
    first, second = (read_tensors(result.artifact).tensors for result in (plain, tuned))
    changed = {name.split(".")[1] for name in first if not torch.equal(first[name], second[name])}
    assert changed == {"decoder"}


def test_the_decoder_gets_better_at_the_codes(recipe: str, tmp_path: pathlib.Path) -> None:
    errors = []
    for steps in (0, 60):
        options = [*VPVAE, f"codebook={{finetune_steps: {steps}, finetune_rate: 2e-3}}"]
        artifact = load_artifact(train(recipe, options, out=str(tmp_path / str(steps))).artifact)
        source = build_evaluation_source(artifact.recipe, "image")
        signals = torch.stack([source.load(index).signal for index in range(len(source))])
        trip = artifact.tokenizer.round_trip(signals)
        errors.append((trip.reconstruction - signals).abs().mean().item())
    assert errors[1] < 0.9 * errors[0]


def test_the_phase_is_repeatable(recipe: str, tmp_path: pathlib.Path) -> None:
    options = [*VPVAE, "codebook={finetune_steps: 5}"]
    first, second = (
        read_tensors(train(recipe, options, out=str(tmp_path / name)).artifact).tensors for name in ("one", "two")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
