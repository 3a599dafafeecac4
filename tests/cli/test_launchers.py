"""Chaos over every launcher: workers and whoever started them are killed at random, the disk is full for a while, an
input goes for a while; the same command is given again, and the folder is that of a quiet run, byte for byte.

TOK_CHAOS_ROUNDS says how many rounds each.
"""

import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator

import pytest
from slurm_node import find_missing, slurm

ROUNDS = int(os.environ.get("TOK_CHAOS_ROUNDS", "1"))
PATIENCE = 300.0
PAGE = 4096
"""Bytes that a file of the small disk takes at least."""

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


def check(tok, tmp_path: pathlib.Path, tokens: str = "tokens", items: int = 1) -> None:
    assert read_folder(tmp_path / tokens) == read_folder(tmp_path / "quiet")
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / tokens).glob("shard-*.json"))]
    assert [(record["shard"], record["items"]) for record in records] == [(number, items) for number in range(5)]
    (tmp_path / "log.txt").unlink()
    for path in (tmp_path / tokens).iterdir():
        path.unlink()
    (tmp_path / tokens).rmdir()


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A disk of a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        refused = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if refused.returncode:
        pytest.skip(f"a disk cannot be mounted here: {refused.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def full_but_for(disk: pathlib.Path, size: int) -> Iterator[None]:
    """No more than so many bytes are free."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(bytes(max(0, free - size)))
    yield
    (disk / "filler").unlink()


@contextlib.contextmanager
def lost(path: pathlib.Path) -> Iterator[None]:
    """A file is somewhere else."""
    aside = path.with_suffix(".aside")
    path.rename(aside)
    yield
    aside.rename(path)


@pytest.fixture
def tars(photos: pathlib.Path, tmp_path: pathlib.Path) -> list[pathlib.Path]:
    """Five tars of four pictures each."""
    names = sorted(photos.rglob("*.png"))
    for shard in range(5):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for number in range(4):
                tar.add(names[(shard + number) % len(names)], f"{number}.png")
    return [tmp_path / f"{shard}.tar" for shard in range(5)]


FROM_TARS = ["encode", "{0..4}.tar", "--size", "128", "--shard-items", "4", "--device", "cpu", "-q"]


def starve(
    tok, tmp_path: pathlib.Path, disk: pathlib.Path, chance: random.Random, run: Callable[[Callable[[], None]], int]
) -> None:
    """One round: too little room, then an input that goes, then neither.

    Args:
        tok: the command line.
        tmp_path: where tars, `quiet` and the log are.
        disk: that the tokens are on.
        chance: of when and which.
        run: gives the command, calls its argument when somebody is at work, and gives the exit code in the end.
    """
    log, tokens = tmp_path / "log.txt", disk / "tokens"
    with full_but_for(disk, chance.randrange(1, 13) * PAGE):
        code = run(lambda: None)
        assert code == 1, log.read_text()
        # What jobs of Slurm say goes to logs beside the tokens, where there is no room.
        assert "the disk is full: " in log.read_text() or "batch job" in log.read_text()
        assert "Traceback" not in log.read_text()
    held = contextlib.ExitStack()
    done = {path.stem[-1] for path in tokens.glob("shard-*.json")}
    left = [path for path in tmp_path.glob("?.tar") if path.stem not in done]
    with held:
        code = run(lambda: held.enter_context(lost(chance.choice(left))))
    print("without an input:", code)
    assert code in (0, 3), log.read_text()
    words = ("cannot be made now, for their inputs cannot be read", "there is no file or folder")
    assert code == 0 or any(each in log.read_text() for each in words)
    assert run(lambda: None) == 0, log.read_text()
    check(tok, tmp_path, "disk/tokens", items=4)


def wait_for_claim(tokens: pathlib.Path, goes_on: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    began = time.time()
    while goes_on() and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):  # a claim that was let go of
            if any(claim.stat().st_mtime > began for claim in tokens.glob("claims/0*")):
                return
        time.sleep(0.002)


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


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "ray"])
def test_a_full_disk_and_an_input_that_goes_cost_nothing(tok, tiny_run, tars, disk, tmp_path, launcher: str) -> None:
    flags = ["--processes", "2"] if launcher == "local" else ["--on", "ray"]
    if launcher == "ray":
        pytest.importorskip("ray")
    assert tok(*FROM_TARS, "-o", "quiet").code == 0
    environment = os.environ | {"PYTHONPATH": PACKAGE, "OMP_NUM_THREADS": "1"}

    def run(at_work: Callable[[], None]) -> int:
        command = start(tmp_path, environment, *FROM_TARS, "-o", "disk/tokens", *flags)
        wait_for_claim(disk / "tokens", lambda: command.poll() is None)
        at_work()
        return command.wait(PATIENCE)

    for number in range(ROUNDS):
        starve(tok, tmp_path, disk, random.Random(number), run)


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.skipif(bool(find_missing()), reason=f"a Slurm needs {', '.join(find_missing())}")
def test_a_full_disk_and_an_input_that_goes_cost_jobs_of_slurm_nothing(tok, tiny_run, tars, disk, tmp_path) -> None:
    assert tok(*FROM_TARS, "-o", "quiet").code == 0
    with slurm(tmp_path / "slurm") as environment:
        environment |= {"PYTHONPATH": PACKAGE, "OMP_NUM_THREADS": "1"}

        def is_busy() -> bool:
            return bool(subprocess.run(["squeue", "-h"], env=environment, capture_output=True, check=True).stdout)

        def run(at_work: Callable[[], None]) -> int:
            words = [*FROM_TARS, "-o", "disk/tokens", "--on", "slurm", "--jobs", "2", "--time", "0:30"]
            assert start(tmp_path, environment, *words).wait(PATIENCE) == 0, (tmp_path / "log.txt").read_text()
            wait_for_claim(disk / "tokens", is_busy)
            at_work()
            deadline = time.monotonic() + PATIENCE
            while is_busy() and time.monotonic() < deadline:
                time.sleep(0.5)
            for path in (disk / "tokens-logs").glob("*.txt"):
                with (tmp_path / "log.txt").open("a") as log:
                    log.write(path.read_text())
                path.unlink()
            job = re.findall(r"Submitted batch job (\d+)", (tmp_path / "log.txt").read_text())[-1]
            asked = ["scontrol", "show", "job", job]
            told = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout
            return max(int(code) for code in re.findall(r"ExitCode=(\d+):", told))

        for number in range(ROUNDS):
            starve(tok, tmp_path, disk, random.Random(number), run)
