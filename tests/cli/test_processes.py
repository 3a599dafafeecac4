"""Several processes train as one."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from tokcli.artifacts import load_artifact


def run(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    package = str(pathlib.Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": package, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


@pytest.fixture
def folder(tiny: str, tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "tiny.yaml").write_text(tiny)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "start",
    [
        ["-m", "tokcli", "train", "tiny.yaml", "--processes", "2"],
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tokcli", "train", "tiny.yaml"],
    ],
    ids=["--processes", "torchrun"],
)
@pytest.mark.parametrize(
    "options",
    [
        ["quantizer={kind: fsp, levels: [4, 3, 3]}"],
        ["quantizer={kind: vq, dim: 3, codebook_size: 16, ema: true, restart_below: 1.0}"],
        ["quantizer={kind: vpvae, dim: 3, codebook_size: 16}", "codebook={finetune_steps: 2}"],
    ],
    ids=["fsp", "vq", "vpvae"],
)
def test_two_processes_make_one_run(folder: pathlib.Path, start: list[str], options: list[str]) -> None:
    done = run(folder, *start, *options, "--device", "cpu", "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["steps"] == 6
    artifact = load_artifact(folder / report["artifact"])
    assert artifact.training["metrics"] == report["metrics"]
    lines = [json.loads(line) for line in (folder / "runs/tiny/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 4, 6, 6]
    assert artifact.training["protocol"]["items"] == 6


@pytest.mark.slow
def test_a_mistake_in_several_processes_keeps_its_exit_code(folder: pathlib.Path) -> None:
    done = run(folder, "-m", "tokcli", "train", "tiny.yaml", "--processes", "3", "--device", "cpu")
    assert done.returncode == 2
    assert "does not divide into 1 micro-batches on 3 processes" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_codebook_built_by_two_processes_is_the_one_built_by_one(folder: pathlib.Path) -> None:
    options = ["quantizer={kind: vpvae, dim: 3, codebook_size: 16}", "--device", "cpu", "--quiet"]
    assert run(folder, "-m", "tokcli", "train", "tiny.yaml", *options).returncode == 0
    shutil.copytree(folder / "runs/tiny", folder / "runs/other")
    command = ["-m", "tokcli", "build-codebook", "--size", "8,16", "--device", "cpu", "--json"]
    alone = run(folder, *command, "runs/tiny")
    shared = run(folder, *command, "runs/other", "--processes", "2")
    assert shared.returncode == 0, shared.stderr
    assert json.loads(shared.stdout)["codebooks"] == json.loads(alone.stdout)["codebooks"]
    one, two = (load_file(folder / f"runs/{name}/tokenizer.safetensors") for name in ("tiny", "other"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_figures_of_two_processes_are_those_of_one(folder: pathlib.Path) -> None:
    assert run(folder, "-m", "tokcli", "train", "tiny.yaml", "--device", "cpu", "--quiet").returncode == 0
    command = ["-m", "tokcli", "eval", "runs/tiny", "--metrics", "psnr,ssim,usage,cvu", "--device", "cpu", "--json"]
    alone, shared = run(folder, *command), run(folder, *command, "--processes", "2", "--sheet", "two.png")
    assert shared.returncode == 0, shared.stderr
    one, two = (json.loads(done.stdout) for done in (alone, shared))
    assert (two["protocol"].pop("dataset_sha256"), len(one["protocol"].pop("dataset_sha256"))) == (None, 64)
    assert two == one
    assert (folder / "two.png").exists()


@pytest.mark.slow
def test_tokens_made_by_two_processes_are_those_of_one(folder: pathlib.Path) -> None:
    from PIL import Image

    (folder / "many").mkdir()
    for index in range(12):
        Image.new("RGB", (20, 20), (20 * index, 100, 200)).save(folder / "many" / f"{index:02}.png")
    assert run(folder, "-m", "tokcli", "train", "tiny.yaml", "--device", "cpu", "--quiet").returncode == 0
    command = ["-m", "tokcli", "encode", "many", "--shard-items", "2", "--device", "cpu", "--json", "--quiet"]
    alone = run(folder, *command, "-o", "one")
    shared = run(folder, *command, "-o", "two", "--processes", "2")
    assert shared.returncode == 0, shared.stderr
    same = {"output": "", "items_per_second": 0}
    assert json.loads(shared.stdout) | same == json.loads(alone.stdout) | same
    for path in (folder / "one").glob("*.safetensors"):
        assert path.read_bytes() == (folder / "two" / path.name).read_bytes()
    forced = run(folder, *command, "-o", "two", "--processes", "2", "--force")
    assert forced.returncode == 0, forced.stderr
    wrong = run(folder, *command, "-o", "two", "--processes", "2", "--size", "8")
    assert (wrong.returncode, wrong.stderr.count("begun with other settings")) == (4, 0)
    assert "begun with other settings" in json.loads(wrong.stdout)["error"]["message"]
    single = run(folder, *command, "-o", "two.npy", "--processes", "2")
    assert single.returncode == 2


def run_and_kill(folder: pathlib.Path, shards: str, *arguments: str) -> tuple[int, subprocess.CompletedProcess[str]]:
    """A command, of whose workers the first two that have claimed a shard die of -9; how many did. Then it goes on."""
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    driver = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    killed: set[int] = set()
    while driver.poll() is None:
        for claim in (folder / shards / "claims").glob("0*"):
            try:
                pid = json.loads(claim.read_text())["pid"]
            except (OSError, ValueError):
                continue
            if pid not in killed and len(killed) < 2:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(0.002)
    return len(killed), run(folder, *arguments)


@pytest.mark.slow
def test_an_evaluation_whose_workers_are_killed_comes_to_the_scores_of_one_process(folder: pathlib.Path) -> None:
    assert run(folder, "-m", "tokcli", "train", "tiny.yaml", "--device", "cpu", "--quiet").returncode == 0
    command = ["-m", "tokcli", "eval", "runs/tiny", "--metrics", "psnr,ssim,usage,cvu", "--device", "cpu", "--json"]
    alone = json.loads(run(folder, *command).stdout)
    killed, done = run_and_kill(folder, "scores", *command, "-o", "scores", "--shard-items", "1", "--processes", "2")
    assert done.returncode == 0, done.stderr
    alone["protocol"]["dataset_sha256"] = None
    assert (killed, json.loads(done.stdout)) == (2, alone)
    assert not (folder / "scores" / "claims").exists()


@pytest.mark.slow
def test_codebooks_whose_workers_are_killed_are_those_of_one_process(folder: pathlib.Path) -> None:
    options = ["quantizer={kind: vpvae, dim: 3, codebook_size: 16}", "--device", "cpu", "--quiet"]
    assert run(folder, "-m", "tokcli", "train", "tiny.yaml", *options).returncode == 0
    command = ["-m", "tokcli", "build-codebook", "runs/tiny", "--size", "8,16", "--device", "cpu", "--json"]
    alone = json.loads(run(folder, *command, "-o", "alone.safetensors").stdout)
    shards = ["--shards", "sample", "--shard-items", "4", "--processes", "2"]
    killed, done = run_and_kill(folder, "sample", *command, *shards)
    assert done.returncode == 0, done.stderr
    assert (killed, json.loads(done.stdout)["codebooks"]) == (2, alone["codebooks"])
    one, two = (load_file(folder / name) for name in ("alone.safetensors", "runs/tiny/tokenizer.safetensors"))
    assert all(torch.equal(one[name], two[name]) for name in one)
