"""`log.txt`: what was typed, with which versions, where, and all that was said, by every attempt."""

import pathlib
import platform
import warnings

import pytest
import torch

from tokcli import __version__
from tokcli.errors import InputError
from tokcli.progress import SILENT, Task
from tokcli.training.journal import keep_log


def test_the_log_has_command_versions_host_notes_and_warnings(tmp_path: pathlib.Path, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["tok", "train", "a recipe.yaml"])
    path = tmp_path / "log.txt"
    with keep_log(path, SILENT) as reporter:
        reporter.note("a choice\x1b[31m was made")
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            warnings.warn("old ways", DeprecationWarning, stacklevel=1)
    lines = [line[21:] for line in path.read_text().splitlines()]
    assert lines[0] == "$ tok train 'a recipe.yaml'"
    assert f"tok {__version__}, Python {platform.python_version()}" in lines[1]
    assert f"torch {torch.__version__}" in lines[1]
    assert f" on {platform.node()}, " in lines[2]
    assert lines[3] == r"a choice\x1b[31m was made"
    assert lines[-1] == "finished"


def test_a_warning_is_kept_and_shown(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *rest: shown.append(str(message)))
    with keep_log(tmp_path / "log.txt", SILENT):
        warnings.showwarning(UserWarning("slow"), UserWarning, "somewhere.py", 3)
    assert shown == ["slow"]
    assert "UserWarning: slow (somewhere.py:3)" in (tmp_path / "log.txt").read_text()


def test_every_attempt_and_its_end_are_told(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log.txt"
    with pytest.raises(InputError), keep_log(path, SILENT):
        raise InputError("the data is gone")
    with pytest.raises(ZeroDivisionError), keep_log(path, SILENT):
        raise ZeroDivisionError("one by nothing")
    text = path.read_text()
    assert text.count("$ tok") == 2
    assert "ended: the data is gone" in text
    assert "ended by an error:" in text
    assert "ZeroDivisionError: one by nothing" in text
    assert "finished" not in text


def test_a_disk_that_takes_no_line_loses_the_line_alone(tmp_path: pathlib.Path) -> None:
    notes = []

    class Listener:
        def note(self, message: str) -> None:
            notes.append(message)

        def task(self, label: str, total: int | None, unit: str, done: int = 0) -> Task:
            return SILENT.task(label, total, unit, done)

    with keep_log(tmp_path / "no folder" / "log.txt", Listener()) as reporter:
        reporter.note("heard all the same")
    assert notes == ["heard all the same"]
    assert not (tmp_path / "no folder").exists()
