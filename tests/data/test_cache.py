"""The cache on the disk: each content is made once, the limit holds, nothing else is touched, and no failure is its."""

import multiprocessing
import os
import pathlib

import pytest

from tokcli.data import cache
from tokcli.data.cache import recall
from tokcli.errors import UsageError


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("TOK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def forget() -> None:
    """What another process does not know."""
    cache._open.clear()
    cache._made.clear()
    cache._checked.clear()


def refuse() -> bytes:
    raise AssertionError("it is there already")


def test_a_content_is_made_once(folder: pathlib.Path) -> None:
    assert bytes(recall("a", lambda: b"one")) == b"one"
    assert bytes(recall("a", refuse)) == b"one"
    forget()
    assert bytes(recall("a", refuse)) == b"one"
    assert bytes(recall("b", lambda: b"")) == b""


def test_what_is_damaged_is_made_again(folder: pathlib.Path) -> None:
    recall("a", lambda: b"one")
    (path,) = files(folder)
    for damaged in (b"", path.read_bytes()[:-1], path.read_bytes()[:-1] + b"x", b"x" * 100):
        path.write_bytes(damaged)
        forget()
        assert bytes(recall("a", lambda: b"one")) == b"one"


def test_what_was_used_longest_ago_goes_first_and_nothing_else(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOK_CACHE_LIMIT", "100kB")
    (folder / "ab").mkdir(parents=True)
    (folder / "ab" / "thesis.tex").write_bytes(b"x" * 200_000)
    for number in range(30):
        kept = recall(f"{number}", lambda number=number: bytes([number]) * 10_000)
        for age, path in enumerate(sorted(files(folder), key=lambda path: path.stat().st_mtime_ns)):
            os.utime(path, (1000 + age, 1000 + age))
    assert bytes(kept) == bytes([29]) * 10_000
    assert sum(path.stat().st_size for path in files(folder)) - 200_000 <= 100_000
    assert (folder / "ab" / "thesis.tex").exists()
    forget()
    recall("29", refuse)
    recall("28", refuse)
    assert bytes(recall("0", lambda: b"again")) == b"again"
    recall("large", lambda: bytes(200_000))  # more than the limit: used, and not kept
    forget()
    assert len(recall("large", lambda: bytes(200_000))) == 200_000


def test_a_content_outlives_its_file(folder: pathlib.Path) -> None:
    content = recall("a", lambda: b"one" * 5000)
    for path in files(folder):
        path.unlink()
    assert bytes(content) == b"one" * 5000


def test_a_folder_that_cannot_be_written_is_done_without(folder: pathlib.Path) -> None:
    folder.write_text("no folder")
    assert bytes(recall("a", lambda: b"one")) == b"one"


def test_a_limit_that_is_none_is_refused(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOK_CACHE_LIMIT", "much")
    with pytest.raises(UsageError, match="TOK_CACHE_LIMIT: expected a size such as 500MB or 2TB, got 'much'"):
        recall("a", lambda: b"one")


def use(first: int) -> None:
    for turn in range(30):
        number = (turn * 7 + first) % 10
        assert bytes(recall(str(number), lambda number=number: bytes([number]) * 20_000)) == bytes([number]) * 20_000


def test_several_processes_share_it(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOK_CACHE_LIMIT", "100kB")
    users = [multiprocessing.get_context("fork").Process(target=use, args=(first,)) for first in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert [user.exitcode for user in users] == [0, 0, 0]
    assert 0 < sum(path.stat().st_size for path in files(folder)) <= 200_000
