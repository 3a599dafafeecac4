"""One writer at a time: who has a lock, what happens to a lock whose holder is dead."""

import json
import os
import pathlib
import platform
import subprocess
import sys
import time

import pytest

from tokcli.locking import INHERITED, BusyError, Holder, Lock, acquire, hold, lock_beside

HOLD = """
import pathlib, sys, time
from tokcli.locking import acquire
lock = acquire(pathlib.Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def start_holder(path: pathlib.Path, **options) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[1])} | options.pop("env", {})
    command = [sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, **options)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_second_one_is_told_who_has_it_and_leaves_everything(tmp_path: pathlib.Path) -> None:
    path = lock_beside(tmp_path / "tokens.npy")
    process = start_holder(path)
    try:
        with pytest.raises(BusyError, match=f"tokens.npy is being written by process {process.pid} on ") as caught:
            hold(path, "tokens.npy").__enter__()
        assert platform.node() in str(caught.value)
        assert " since 2" in str(caught.value)
        assert caught.value.exit_code == 1
        assert path.exists()
    finally:
        process.kill()
        process.wait()
    with hold(path, "tokens.npy") as lock:
        assert lock.former is not None
        assert lock.former.pid == process.pid
    assert not path.exists()


def test_one_that_let_go_is_not_spoken_of(tmp_path: pathlib.Path) -> None:
    for _ in range(3):
        with hold(tmp_path / "lock", "it") as lock:
            assert lock.former is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 5000, b"\xff", b'{"pid": 1e400}', b'{"pid": null}'])
def test_what_stands_in_the_file_does_not_matter_to_the_lock(tmp_path: pathlib.Path, content: bytes) -> None:
    path = tmp_path / "lock"
    path.write_bytes(content)
    with hold(path, "it"):
        path.write_bytes(content)
        with pytest.raises(BusyError, match="it is being written by another process"):
            hold(path, "it").__enter__()


def test_neither_a_link_nor_a_pipe_is_opened(tmp_path: pathlib.Path) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError, match=name):
            acquire(tmp_path / name)
    assert (tmp_path / "target").read_text() == "kept"


def test_a_forked_process_does_not_keep_it(tmp_path: pathlib.Path) -> None:
    """A loading process lives on for seconds where the one that forked it was killed."""
    lock = acquire(tmp_path / "lock")
    assert isinstance(lock, Lock)
    child = os.fork()
    if not child:
        time.sleep(30)
        os._exit(0)
    try:
        deadline = time.monotonic() + 5
        lock.close()
        while not isinstance(again := acquire(tmp_path / "lock", patience=0), Lock):
            assert time.monotonic() < deadline
        again.release()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_a_process_that_inherits_it_works_under_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "lock"
    lock = acquire(path)
    assert isinstance(lock, Lock)
    child = start_holder(path, pass_fds=[lock.fileno()], env={INHERITED: str(lock.fileno())})
    lock.close()
    try:
        holder = acquire(path)
        assert isinstance(holder, Holder)
        assert holder.pid == child.pid
    finally:
        child.kill()
        child.wait()


def test_a_number_that_is_no_lock_is_not_believed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hold(tmp_path / "lock", "it"):
        for number in ("0", "999999", "9" * 30, "x"):
            monkeypatch.setenv(INHERITED, number)
            with pytest.raises(BusyError):
                hold(tmp_path / "lock", "it").__enter__()


def test_the_file_says_what_was_typed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tok", "encode", "a"])
    with hold(tmp_path / "lock", "it"):
        assert json.loads((tmp_path / "lock").read_text())["command"] == "tok encode a"
