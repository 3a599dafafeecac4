"""`--on ray`: a cluster makes the folder that one process makes, and a worker that is killed costs its shard alone."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import types
from typing import Any

import pytest

from tokcli.errors import InputError

TYPED = ["encode", "photos", "--size", "16", "--shard-items", "2", "--device", "cpu", "-q"]


class TaskError(RuntimeError):
    """Ray's, with what went wrong in the worker."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class Reference:
    """To what a task gave."""

    def __init__(self, first: int, second: int) -> None:
        self.first, self.second = first, second


class FakeRay:
    """As much of Ray as the launcher uses, in this process; every task is tried twice, as after a death."""

    exceptions = types.SimpleNamespace(RayTaskError=TaskError, RayError=RuntimeError)

    def init(self, address: str | None, **options: object) -> None:
        if address is not None:
            raise ConnectionError("nobody answers")

    def shutdown(self) -> None: ...

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, **options: object) -> Any:
        def submit(task: Any) -> Any:
            def run(*arguments: object) -> Reference:
                try:
                    return Reference(task(*arguments), task(*arguments))
                except InputError as error:
                    raise TaskError(error) from error

            return types.SimpleNamespace(remote=run)

        return submit

    def wait(self, running: list[Any]) -> tuple[list[Any], list[Any]]:
        return running[:1], running[1:]

    def get(self, ready: list[Reference]) -> list[int]:
        assert ready[0].second == 0  # a shard that is done is not done again
        return [each.first for each in ready]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    from tokcli.cli import ray

    ray._join.cache_clear()
    monkeypatch.setitem(sys.modules, "ray", FakeRay())


def read_folder(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.match("shard-*.json")}


def test_the_tasks_make_the_folder_of_one_process(tok, tiny_run, photos, tmp_path, fake) -> None:
    assert tok(*TYPED, "-o", "alone").code == 0
    outcome = tok(*TYPED, "-o", "shared", "--on", "ray", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["items"] == 5
    assert read_folder(tmp_path / "shared") == read_folder(tmp_path / "alone")
    again = tok(*TYPED[:-1], "-o", "shared", "--on", "ray")
    assert (again.code, "complete, there is nothing to do" in again.err) == (0, True)


def test_the_tasks_evaluate_as_one_process(tok, tiny_run, photos, fake) -> None:
    typed = ["eval", "--data", "photos", "--size", "16", "--metrics", "psnr,cvu", "--device", "cpu", "-q", "--json"]
    alone = tok(*typed).json
    shared = tok(*typed, "-o", "scores", "--shard-items", "2", "--on", "ray")
    assert shared.code == 0, shared.err
    alone["protocol"]["dataset_sha256"] = None
    assert shared.json == alone


def test_what_a_task_refuses_is_refused(tok, tiny_run, photos, fake, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(asked: str, shard: int) -> int:
        raise InputError("the disk is gone")

    monkeypatch.setattr("tokcli.cli.ray.do_shard", fail)
    outcome = tok(*TYPED, "-o", "shared", "--on", "ray")
    assert (outcome.code, "the disk is gone" in outcome.err) == (3, True)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        (["--on", "ray", "--shard", "0/2"], 2, "leave --shard and --processes out"),
        (["--on", "ray", "--address", "10.0.0.1:6379"], 1, "no Ray cluster answers at '10.0.0.1:6379'"),
        (["--address", "auto"], 2, "--address goes with --on ray"),
    ],
)
def test_what_ray_cannot_do_is_refused(tok, tiny_run, photos, fake, changes: list[str], code: int, words: str) -> None:
    outcome = tok(*TYPED, "-o", "shared", *changes)
    assert (outcome.code, words in outcome.err) == (code, True), outcome.err


def test_an_absent_ray_is_named(tok, tiny_run, photos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = tok(*TYPED, "-o", "shared", "--on", "ray")
    assert (outcome.code, "pip install ray (extra: ray)" in outcome.err) == (2, True)


@pytest.mark.slow
def test_a_worker_of_a_real_cluster_is_killed_and_the_folder_is_whole(tok, tiny_run, photos, tmp_path) -> None:
    pytest.importorskip("ray")
    typed = ["1" if word == "2" else word for word in TYPED]
    assert tok(*typed, "-o", "alone").code == 0
    package = str(pathlib.Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": package, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tokcli", *typed, "-o", "shared", "--on", "ray"]
    driver = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    killed, deadline = 0, time.monotonic() + 240
    while driver.poll() is None and time.monotonic() < deadline:
        for claim in (tmp_path / "shared" / "claims").glob("0*"):
            if not killed:
                pid = json.loads(claim.read_text())["pid"]
                os.kill(pid, signal.SIGKILL)
                killed += 1
        time.sleep(0.002)
    assert driver.wait(10) == 0
    assert killed == 1
    assert read_folder(tmp_path / "shared") == read_folder(tmp_path / "alone")
