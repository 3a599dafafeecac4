"""Whole files: the old one or the new one, whatever happens in between."""

import errno
import os
import pathlib

import pytest

from tokcli.files import explain, remove_abandoned, replacing, write_bytes, write_text


def names(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_with_all_of_its_content(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "new" / "folder" / "note.txt"
    with replacing(path) as unfinished:
        unfinished.write_text("one")
        assert not path.exists()
        assert unfinished.parent == path.parent
    assert path.read_text() == "one"
    write_text(path, "zwölf\n")
    assert path.read_bytes() == "zwölf\n".encode()
    write_bytes(path, b"\0")
    assert path.read_bytes() == b"\0"
    assert names(path.parent) == ["note.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: pathlib.Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with replacing(tmp_path / "note.txt") as unfinished:
            unfinished.write_text("ne")
            raise error

    write_text(tmp_path / "note.txt", "old")
    with pytest.raises(error):
        fail()
    assert (tmp_path / "note.txt").read_text() == "old"
    assert names(tmp_path) == ["note.txt"]


def test_a_full_disk_is_told_of_the_file_that_was_to_be_written(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="No space left") as full, replacing(tmp_path / "a") as unfinished:
        raise OSError(28, "No space left on device", str(unfinished))
    assert full.value.filename == str(tmp_path / "a")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as taken:
        write_text(tmp_path / "folder", "text")
    assert taken.value.filename == str(tmp_path / "folder")
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_permissions_are_those_of_the_umask_also_where_a_library_writes_anew(
    tmp_path: pathlib.Path, umask: int
) -> None:
    kept = os.umask(umask)
    try:
        with replacing(tmp_path / "a") as unfinished:
            unfinished.unlink()
            os.close(os.open(unfinished, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(kept)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


def test_the_longest_name_can_be_written(tmp_path: pathlib.Path) -> None:
    path = tmp_path / ("n" * 251 + ".txt")
    write_text(path, "text")
    assert names(tmp_path) == [path.name]


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "other").write_text("mine")
    (tmp_path / "note.txt").symlink_to(tmp_path / "other")
    write_text(tmp_path / "note.txt", "new")
    assert (tmp_path / "other").read_text() == "mine"
    assert not (tmp_path / "note.txt").is_symlink()


def test_no_two_writers_share_an_unfinished_file(tmp_path: pathlib.Path) -> None:
    with replacing(tmp_path / "a") as first, replacing(tmp_path / "a") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a").read_text() == "first"


def test_the_content_is_on_the_disk_before_the_name(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (events.append("fsync"), fsync(file))[1])
    monkeypatch.setattr(os, "replace", lambda old, new: (events.append("rename"), replace(old, new))[1])
    write_text(tmp_path / "a", "text")
    assert events == ["fsync", "rename", "fsync"]


def test_every_whole_file_is_written_through_this_module() -> None:
    package = pathlib.Path(__file__).parent.parent / "tokcli"
    ways = ("os.replace(", "os.rename(", ".write_text(", ".write_bytes(", "fsync(")
    others = {
        f"{path.relative_to(package)}: {line.strip()}"
        for path in package.rglob("*.py")
        if path.name != "files.py" or path.parent != package
        for line in path.read_text().splitlines()
        if any(way in line for way in ways)
    }
    assert others == {
        'commands/bench.py: pathlib.Path("/proc/self/clear_refs").write_text("5")',  # no file, but a question
        "tokens/shards.py: os.rename(path, previous)",  # out of the way of what takes its place
        "tokens/spool.py: self.tokens_path.write_bytes(bytes(self._preamble))",  # grows, and is checked when resumed
    }


def test_only_unfinished_files_that_nobody_writes_are_removed(tmp_path: pathlib.Path) -> None:
    kept = [".0123456789abcdef.tmp", ".mine.tmp", ".0123456789ABCDEF.tmp", "note.txt"]
    for name in kept:
        (tmp_path / name).write_text("")
    abandoned = tmp_path / ".fedcba9876543210.tmp"
    abandoned.write_text("half")
    for path in (abandoned, tmp_path / ".mine.tmp"):
        os.utime(path, (0, 0))
    remove_abandoned(tmp_path)
    assert names(tmp_path) == sorted(kept)
    remove_abandoned(tmp_path / "not there")


def test_a_library_that_loses_the_reason_is_asked_again(tmp_path: pathlib.Path) -> None:
    error = explain(RuntimeError("I/O error: Read-only file system (os error 30)"), tmp_path / "a")
    assert (error.errno, error.filename) == (errno.EROFS, str(tmp_path / "a"))
    error = explain(RuntimeError("it did not work"), tmp_path / "missing" / "a")
    assert (error.errno, error.filename) == (errno.ENOENT, str(tmp_path / "missing" / "a"))
    error = explain(RuntimeError("it did not work"), tmp_path / "a")
    assert (error.errno, error.strerror) == (errno.EIO, "it did not work")
    assert names(tmp_path) == []
