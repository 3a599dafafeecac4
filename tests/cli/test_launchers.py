"""Chaos over every launcher: workers and whoever started them are killed at random, the same command is given again,
and the folder is that of a quiet run, byte for byte. TOK_CHAOS_ROUNDS says how many rounds each.
"""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from slurm_node import find_missing, slurm

ROUNDS = int(os.environ.get("TOK_CHAOS_ROUNDS", "1"))
PATIENCE = 300.0
TYPED = ["encode", "photos", "--size", "16", "--shard-items", "1", "--device", "cpu", "-q"]
PACKAGE = str(pathlib.Path(__file__).parents[2])


def start(folder: pathlib.Path, environment: dict[str, str], *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tokcli", *words]
    log = (folder / "log.txt").open("ab")
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)


def read_folder(folder: pathlib.Path) -> dict[str, bytes]:
    """All files but the records, which say how long it took."""
    return {
        path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.match("shard-*.json")
    }


def kill_workers(folder: pathlib.Path, chance: random.Random) -> int:
    """Kill -9 who has a claim, with an even chance each; how many."""
    killed = 0
    for claim in (folder / "claims").glob("0*"):
        try:
            holder = json.loads(claim.read_text())["pid"]
            if chance.random() < 0.5:
                os.kill(holder, signal.SIGKILL)
                killed += 1
        except (OSError, ValueError):
            continue  # it let go meanwhile
    return killed


def disturb(folder: pathlib.Path, chance: random.Random, goes_on: Callable[[], bool], kills: int) -> int:
    """Kill workers until so many are dead or the work has ended."""
    killed, deadline = 0, time.monotonic() + PATIENCE
    while killed < kills and goes_on() and time.monotonic() < deadline:
        killed += kill_workers(folder, chance)
        time.sleep(0.005)
    return killed


def check(tok, tmp_path: pathlib.Path) -> None:
    assert read_folder(tmp_path / "tokens") == read_folder(tmp_path / "quiet")
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "tokens").glob("shard-*.json"))]
    assert [(record["shard"], record["items"]) for record in records] == [(number, 1) for number in range(5)]
    (tmp_path / "log.txt").unlink()
    for path in (tmp_path / "tokens").iterdir():
        path.unlink()
    (tmp_path / "tokens").rmdir()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "ray"])
def test_a_killed_launcher_and_killed_workers_cost_nothing(tok, tiny_run, photos, tmp_path, launcher: str) -> None:
    flags = ["--processes", "2"] if launcher == "local" else ["--on", "ray"]
    if launcher == "ray":
        pytest.importorskip("ray")
    assert tok(*TYPED, "-o", "quiet").code == 0
    environment = os.environ | {"PYTHONPATH": PACKAGE, "OMP_NUM_THREADS": "1"}
    for number in range(ROUNDS):
        chance = random.Random(number)
        first = start(tmp_path, environment, *TYPED, "-o", "tokens", *flags)
        disturb(tmp_path / "tokens", chance, lambda: first.poll() is None, kills=1)  # noqa: B023
        time.sleep(chance.random() / 5)
        first.kill()
        first.wait()
        second = start(tmp_path, environment, *TYPED, "-o", "tokens", *flags)
        disturb(tmp_path / "tokens", chance, lambda: second.poll() is None, kills=1)  # noqa: B023
        assert second.wait(PATIENCE) == 0, (tmp_path / "log.txt").read_text()
        check(tok, tmp_path)


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.skipif(bool(find_missing()), reason=f"a Slurm needs {', '.join(find_missing())}")
def test_jobs_of_a_real_slurm_are_killed_and_the_folder_is_whole(tok, tiny_run, photos, tmp_path) -> None:
    assert tok(*TYPED, "-o", "quiet").code == 0
    with slurm(tmp_path / "slurm") as environment:
        environment |= {"PYTHONPATH": PACKAGE, "OMP_NUM_THREADS": "1"}

        def is_busy() -> bool:
            return bool(subprocess.run(["squeue", "-h"], env=environment, capture_output=True, check=True).stdout)

        for number in range(ROUNDS):
            words = [*TYPED, "-o", "tokens", "--on", "slurm", "--jobs", "2", "--time", "0:30"]
            assert start(tmp_path, environment, *words).wait(PATIENCE) == 0, (tmp_path / "log.txt").read_text()
            disturb(tmp_path / "tokens", random.Random(number), is_busy, kills=1)
            deadline = time.monotonic() + PATIENCE
            while is_busy() and time.monotonic() < deadline:
                time.sleep(0.5)
            if not (tmp_path / "tokens" / "manifest.json").exists():  # both jobs were killed
                assert start(tmp_path, environment, *TYPED, "-o", "tokens").wait(PATIENCE) == 0
            check(tok, tmp_path)
