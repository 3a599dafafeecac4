"""A full disk: one sentence and exit code 1 in every command, and what was there before is still there.

On a small file system in memory where one may be mounted, which fills up at different moments of the work; everywhere
with a disk that takes no file for good.
"""

import errno
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from hostile_harness import run_tok
from hostile_work import COMMANDS, QUICK, describe_output, make_work

PLACE = 8 << 20
"""Bytes of the file system."""

LEFT = [0, 1 << 12, 1 << 14, 1 << 16]
"""Bytes that are free when a command starts: for nothing, for a lock, for a part of its output."""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder that commands start from, with everything written once."""
    folder = tmp_path_factory.mktemp("work")
    make_work(folder)
    for name in QUICK:
        ended = run_tok(COMMANDS[name].arguments, folder, seconds=120)
        assert ended.code == 0, ended
    return folder


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty file system of PLACE bytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={PLACE}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `mount` here")
    if done.returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def describe_all(name: str, folder: pathlib.Path) -> dict[str, dict[str, str]]:
    return {output: describe_output(folder / output) for output in COMMANDS[name].outputs}


def write_again(name: str, folder: pathlib.Path) -> int:
    """Run a command over its own output on a full disk; its exit code comes back.

    Raises:
        AssertionError: where it does not end with a sentence and exit code 1, or the earlier output is not there.
    """
    before = describe_all(name, folder)
    arguments = COMMANDS[name].arguments
    if name in ("train", "build-codebook shards"):
        arguments = (*arguments[:-1], "beside")  # --force would remove what was made earlier, and so make room
    if name not in ("train", "eval"):
        arguments = (*arguments, "--force")
    ended = run_tok(arguments, folder, seconds=120)
    if ended.code == 0:
        return 0
    assert ended.code == 1, ended
    assert ended.verdict == "refused", ended
    assert os.strerror(errno.ENOSPC) in ended.err or "disk" in ended.err, ended.err
    assert describe_all(name, folder) == before
    return ended.code


@pytest.mark.parametrize("name", sorted(QUICK))
def test_a_disk_that_takes_no_file_for_good(
    name: str, work: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(work, folder)

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    assert write_again(name, folder) == 1


@pytest.mark.slow
@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("name", sorted(QUICK))
def test_a_disk_that_fills_up(name: str, left: int, work: pathlib.Path, small_disk: pathlib.Path) -> None:
    folder = small_disk / "copy"
    shutil.copytree(work, folder)
    with (small_disk / "filler").open("wb") as filler:
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        filler.write(bytes(max(0, free - left)))
    code = write_again(name, folder)
    assert code == 1 or left, "with no byte left nothing can have been written"
