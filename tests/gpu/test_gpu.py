"""What only a CUDA device can show: the CPU's tokens, exact resume, bfloat16 and bounded memory."""

import json
import pathlib

import pytest
import torch

from tokcli.artifacts import load_artifact
from tokcli.tokens import open_tokens

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("batch_size", ["1", "3"])
def test_tokens_are_those_of_the_cpu_or_nearly_all(tok, tiny_run, photos, batch_size: str) -> None:
    """Other kernels sum in another order: a latent on the border of two codes may fall to the other side."""
    for device in ("cpu", "cuda"):
        words = ["-o", f"{device}.npy", "--device", device, "--size", "16", "--batch-size", batch_size, "-q"]
        assert tok("encode", "photos", *words).code == 0
    pairs = zip(open_tokens("cpu.npy"), open_tokens("cuda.npy"), strict=True)
    differing = torch.cat([(one.tokens != other.tokens).flatten() for one, other in pairs])
    assert differing.float().mean() < 0.01


def test_tokens_do_not_depend_on_the_rest_of_the_batch(tok, tiny_run, photos) -> None:
    words = ["--device", "cuda", "--size", "16", "--batch-size", "4", "-q"]
    assert tok("encode", "photos", "-o", "all.npy", *words).code == 0
    assert tok("encode", "photos/photo-4.png", "-o", "one.npy", *words).code == 0
    alone = open_tokens("one.npy")[0].tokens
    (together,) = [item.tokens for item in open_tokens("all.npy") if item.item.endswith("photo-4.png")]
    assert torch.equal(alone, together)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_runs_and_its_loss_falls(tok, tiny: str, tmp_path: pathlib.Path, precision: str) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    changes = ["training.steps=40", f"training.precision={precision}", "evaluation.every=null"]
    outcome = tok("train", "tiny.yaml", *changes, "--device", "cuda", "-q", "--json")
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in (tmp_path / "runs/tiny/metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0]
    assert load_artifact(tmp_path / outcome.json["artifact"]).tokenizer.codebook_size == 36


def test_encoding_keeps_its_memory(tok, tiny_run, photos) -> None:
    peaks = []
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        words = ["-o", "t.npy", "--device", "cuda", "--size", "16", "-q", "--force"]
        assert tok("encode", "photos", *words).code == 0
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] <= peaks[0] * 1.1
