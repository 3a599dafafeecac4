"""Workers that share a folder of tokens, killed at random: the tokens of one quiet worker, byte for byte."""

import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
from hostile_base import TINY, make_pictures
from hostile_harness import end_tok, run_tok, start_tok

ENCODE = ("encode", "many", "-m", "runs/tiny", "--shard-items", "3", "--device", "cpu", "--json")
KILLS = 12
"""Of workers and of what started them, with `-m slow`."""


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with pictures, and what one undisturbed worker makes of them in ./quiet."""
    folder = tmp_path_factory.mktemp("quiet")
    (folder / "tiny.yaml").write_text(TINY)
    make_pictures(folder / "many", 24)
    (folder / "many" / "bad.png").write_bytes(b"no picture")
    assert run_tok(("train", "tiny.yaml"), folder, seconds=400).code == 0
    assert run_tok((*ENCODE, "-o", "quiet"), folder, seconds=400).code == 5
    return folder


def read_folder(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file, of the records no more than that they are there: they say how long it took."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    record = "shard-*.json"
    return {str(path.relative_to(folder)): b"" if path.match(record) else path.read_bytes() for path in files}


def test_workers_killed_twice_and_two_at_once_make_the_bytes_of_one(quiet: pathlib.Path, tmp_path) -> None:
    output = quiet / "parts"
    for shards in (1, 4):
        records = f"shard-{shards:05d}.json"
        ended = run_tok((*ENCODE, "-o", "parts"), quiet, seconds=400, kill_when=(output / records).exists)
        assert ended.code == -9, ended
        assert not (output / "manifest.json").exists()
    workers = [start_tok((*ENCODE, "-o", "parts"), quiet, tmp_path / str(number)) for number in range(2)]
    for number, worker in enumerate(workers):
        ended = end_tok(worker, tmp_path / str(number), seconds=400)
        assert ended.code == 5, ended
    assert read_folder(output) == read_folder(quiet / "quiet")


def list_workers(parent: int) -> list[int]:
    """The processes that a process has started and that have not ended."""
    try:
        return [int(word) for word in pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except OSError:
        return []


@pytest.mark.slow
def test_workers_and_their_driver_killed_a_dozen_times_make_the_bytes_of_one(quiet: pathlib.Path) -> None:
    output = quiet / "chaos"
    package = str(pathlib.Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": package, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tokcli", *ENCODE, "-o", "chaos", "--processes", "2", "--quiet"]
    chance, killed, ended = random.Random(0), 0, None

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=quiet, env=environment, stdout=subprocess.DEVNULL)

    driver = start()
    deadline = time.monotonic() + 1200
    while (ended := driver.poll()) is None or killed < KILLS:
        assert time.monotonic() < deadline
        if ended is not None:
            if ended >= 0:
                break  # it was done before it was killed a dozen times
            driver = start()
        time.sleep(chance.uniform(0.2, 3.0))
        victims = list_workers(driver.pid) + [driver.pid] * (chance.random() < 0.3)
        if victims and killed < KILLS:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(victims), signal.SIGKILL)
                killed += 1
    assert ended == 5
    assert killed >= 3
    for number in range(100):  # orphans of a killed driver may still be at their end
        if read_folder(output) == read_folder(quiet / "quiet"):
            return
        time.sleep(0.01 * number)
    assert read_folder(output) == read_folder(quiet / "quiet")
