"""What only a CUDA device can show: the CPU's tokens, resume, two processes, bfloat16, memory, compiling, speed."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tokcli.artifacts import load_artifact
from tokcli.tokens import open_tokens

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("batch_size", ["1", "3"])
def test_tokens_are_those_of_the_cpu_or_nearly_all(tok, tiny_run, photos, device: str, batch_size: str) -> None:
    """Other kernels sum in another order: a latent on the border of two codes may fall to the other side."""
    for name, where in (("cpu", "cpu"), ("cuda", device)):
        words = ["-o", f"{name}.npy", "--device", where, "--size", "16", "--batch-size", batch_size, "-q"]
        assert tok("encode", "photos", *words).code == 0
    pairs = zip(open_tokens("cpu.npy"), open_tokens("cuda.npy"), strict=True)
    differing = torch.cat([(one.tokens != other.tokens).flatten() for one, other in pairs])
    assert differing.float().mean() < 0.01


def test_tokens_do_not_depend_on_the_rest_of_the_batch(tok, tiny_run, photos, device: str) -> None:
    words = ["--device", device, "--size", "16", "--batch-size", "4", "-q"]
    assert tok("encode", "photos", "-o", "all.npy", *words).code == 0
    assert tok("encode", "photos/photo-4.png", "-o", "one.npy", *words).code == 0
    alone = open_tokens("one.npy")[0].tokens
    (together,) = [item.tokens for item in open_tokens("all.npy") if item.name.endswith("photo-4.png")]
    assert torch.equal(alone, together)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_runs_and_its_loss_falls(tok, tiny: str, tmp_path: pathlib.Path, device: str, precision: str) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    changes = ["training.steps=40", f"training.precision={precision}", "evaluation.every=null"]
    outcome = tok("train", "tiny.yaml", *changes, "--device", device, "-q", "--json")
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in (tmp_path / "runs/tiny/metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0]
    assert load_artifact(tmp_path / outcome.json["artifact"]).tokenizer.codebook_size == 36


def test_encoding_keeps_its_memory(tok, tiny_run, photos, device: str) -> None:
    peaks = []
    for _ in range(2):
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        words = ["-o", "t.npy", "--device", device, "--size", "16", "-q", "--force"]
        assert tok("encode", "photos", *words).code == 0
        peaks.append(torch.cuda.max_memory_allocated() if device == "cuda" else 0)
    assert peaks[1] <= peaks[0] * 1.1


def read_weights(path: pathlib.Path) -> dict[str, torch.Tensor]:
    return load_file(path)


@pytest.mark.parametrize(
    "quantizer", ["{kind: fsp, levels: [4, 3, 3]}", "{kind: vq, dim: 3, codebook_size: 16, ema: true}"]
)
def test_a_resumed_training_ends_like_an_uninterrupted_one(
    tok, tiny: str, tmp_path: pathlib.Path, device: str, quantizer: str
) -> None:
    """The checkpoint of its middle goes on to the same weights; atomic sums of a GPU may change their last bits."""
    (tmp_path / "tiny.yaml").write_text(tiny)
    words = ["tiny.yaml", f"quantizer={quantizer}", "--device", device, "-q"]
    assert tok("train", *words, "-o", "runs/whole").code == 0
    (middle,) = (tmp_path / "runs/whole/checkpoints").glob("*00000003.safetensors")
    resumed = tok("train", *words, "-o", "runs/resumed", "--resume", middle)
    assert resumed.code == 0, resumed.err
    one, two = (read_weights(tmp_path / f"runs/{name}/tokenizer.safetensors") for name in ("whole", "resumed"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)


def run(folder: pathlib.Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tokcli", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)


def test_two_processes_encode_and_evaluate_as_one(tok, tiny_run, photos, tmp_path, device: str) -> None:
    """On one device both use it: a folder of shards needs no communication."""
    words = ["encode", "photos", "--size", "16", "--shard-items", "2", "--device", device, "-q"]
    assert tok(*words, "-o", "one").code == 0
    done = run(tmp_path, *words, "-o", "two", "--processes", "2")
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "one").glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    judged = ["eval", "runs/tiny", "--metrics", "psnr,cvu", "--device", device, "--json"]
    alone = tok(*judged).json["metrics"]
    shared = run(tmp_path, *judged, "-o", "scores", "--shard-items", "4", "--processes", "2")
    assert shared.returncode == 0, shared.stderr
    assert json.loads(shared.stdout)["metrics"] == pytest.approx(alone, rel=1e-6)


@pytest.mark.skipif(torch.cuda.device_count() == 1, reason="NCCL wants a device for each process, and there is one")
def test_two_processes_train_as_one(tiny: str, tmp_path: pathlib.Path, device: str) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    reports = []
    for count in ("1", "2"):
        done = run(
            tmp_path, "train", "tiny.yaml", "--out", f"runs/{count}", "--processes", count, "--device", device, "--json"
        )
        assert done.returncode == 0, done.stderr
        reports.append(json.loads(done.stdout))
    assert [report["steps"] for report in reports] == [6, 6]
    assert reports[1]["metrics"]["psnr"] == pytest.approx(
        reports[0]["metrics"]["psnr"], abs=1
    )  # they draw other random numbers


def test_compiled_tokens_are_the_same_or_nearly_all(tok, tiny_run, photos, device: str) -> None:
    words = ["encode", "photos", "--size", "16", "--device", device]
    assert tok(*words, "-o", "plain.npy", "-q").code == 0
    outcome = tok(*words, "-o", "compiled.npy", "--compile")
    if "torch.compile does not work here" in outcome.err:
        pytest.skip(outcome.err)
    assert outcome.code == 0, outcome.err
    pairs = zip(open_tokens("plain.npy"), open_tokens("compiled.npy"), strict=True)
    differing = torch.cat([(one.tokens != other.tokens).flatten() for one, other in pairs])
    assert differing.float().mean() < 0.02


def test_throughput_is_told(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The benchmark at a size that takes seconds; its figures are printed, and it is asserted that there are some."""
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "benchmarks"))
    import bench_gpu

    results = bench_gpu.measure(bench_gpu.TINY, device)
    with capsys.disabled():
        print(json.dumps(results["encode"]))
    assert 0 < results["encode"]["share of the bare forward"] < 10
    assert {row["kind"] for row in results["quantizers"]} == set(bench_gpu.QUANTIZERS)
