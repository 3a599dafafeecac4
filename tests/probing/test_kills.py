"""A probe that is killed, and one that several processes share."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from probe_samples import write_counting_tokens

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def start(folder: pathlib.Path, *arguments: object) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "tokcli",
        "probe",
        "train.npy",
        "--device",
        "cpu",
        "--json",
        "-q",
        *map(str, arguments),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict:
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return json.loads(out)["probes"][0]


def test_a_killed_probe_goes_on_and_ends_equal(tmp_path: pathlib.Path) -> None:
    write_counting_tokens(tmp_path / "train.npy", items=100)
    whole = finish(start(tmp_path, "-o", "whole", "--steps", 60))
    killed = start(tmp_path, "-o", "again", "--steps", 60)
    deadline = time.monotonic() + 200
    while not list((tmp_path / "again").glob(".train.partial/step-*.safetensors")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "again" / "train").exists()
    again = finish(start(tmp_path, "-o", "again", "--steps", 60, "--resume"))
    assert again == whole
    model = "train/model.safetensors"
    assert (tmp_path / "again" / model).read_bytes() == (tmp_path / "whole" / model).read_bytes()


def test_two_processes_share_each_batch(tmp_path: pathlib.Path) -> None:
    write_counting_tokens(tmp_path / "train.npy", items=100)
    one = finish(start(tmp_path, "-o", "one", "--steps", 20))
    two = finish(start(tmp_path, "-o", "two", "--steps", 20, "--processes", 2))
    assert two["bits"] == pytest.approx(one["bits"], rel=1e-3)
    for first, second in zip(one["curve"], two["curve"], strict=True):
        assert second == pytest.approx(first, rel=1e-2)
