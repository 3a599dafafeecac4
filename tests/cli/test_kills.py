"""`kill -9` in the middle of the work: what is on disk loads, and going on ends as if nothing had happened."""

import os
import pathlib
import subprocess
import sys
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

OPTIONS = ["training.steps=120", "training.checkpoint_every=20", "evaluation.every=50", "--device", "cpu", "--quiet"]


def start(folder: pathlib.Path, *arguments: str) -> subprocess.Popen:
    package = str(pathlib.Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": package, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "tokcli", *arguments], cwd=folder, env=environment)


def kill_when(process: subprocess.Popen, reached) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", ["{kind: fsp, levels: [4, 3, 3]}", "{kind: vpvae, dim: 3, codebook_size: 8}"])
def test_a_training_killed_twice_ends_like_one_that_was_not(tiny: str, tmp_path: pathlib.Path, quantizer: str) -> None:
    stage = ["codebook={sizes: [8]}"] if "vpvae" in quantizer else []
    (tmp_path / "tiny.yaml").write_text(tiny)
    command = ["train", "tiny.yaml", f"quantizer={quantizer}", *stage, *OPTIONS]
    assert start(tmp_path, *command, "--out", "whole").wait() == 0
    checkpoints = tmp_path / "parts" / "checkpoints"
    for step in (20, 60):
        process = start(tmp_path, *command, "--out", "parts")
        kill_when(process, lambda step=step: (checkpoints / f"step-{step:08d}.safetensors").exists())
        for path in checkpoints.glob("step-*.safetensors"):
            with safe_open(path, "pt") as file:
                assert "step" in file.metadata()
    assert start(tmp_path, *command, "--out", "parts").wait() == 0
    whole, parts = (load_file(tmp_path / name / "tokenizer.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


@pytest.mark.slow
def test_an_encode_killed_in_the_middle_resumes_to_the_same_bytes(
    tok, tiny_run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    import numpy
    from PIL import Image

    generator = numpy.random.default_rng(0)
    (tmp_path / "many").mkdir()
    for index in range(600):
        picture = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=numpy.uint8))
        picture.resize((64, 64)).save(tmp_path / "many" / f"{index:03}.png")
    command = ["encode", "many", "-m", "runs/tiny", "--size", "64", "--device", "cpu", "--quiet", "--batch-size", "1"]
    assert start(tmp_path, *command, "-o", "whole.npy").wait() == 0
    process = start(tmp_path, *command, "-o", "parts.npy")
    journal = tmp_path / ".parts.npy.partial" / "journal.jsonl"
    kill_when(process, lambda: journal.exists() and journal.stat().st_size > 0)
    assert not (tmp_path / "parts.npy").exists()
    assert start(tmp_path, *command, "-o", "parts.npy", "--resume").wait() == 0
    assert (tmp_path / "parts.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert (tmp_path / "parts.npy.json").read_bytes() == (tmp_path / "whole.npy.json").read_bytes()
