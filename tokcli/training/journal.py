"""`log.txt` of a run: what was typed, with which versions, on which machine, and everything that was said on the way.

Lines are appended, so a run that was interrupted tells of every attempt.
"""

import contextlib
import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
import sys
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

from tokcli import __version__
from tokcli.errors import TokError
from tokcli.locking import INHERITED
from tokcli.progress import Reporter, Task, plain

LIBRARIES = ("torch", "accelerate", "safetensors", "numpy")


@contextlib.contextmanager
def keep_log(path: pathlib.Path, reporter: Reporter) -> Iterator[Reporter]:
    """Within this context, what the given reporter is told, warnings, and how it ends stand in the file `path`."""
    journal = _Journal(path)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    journal.write(f"$ {shlex.join(['tok', *sys.argv[1:]])}")
    journal.write(f"tok {__version__}, Python {platform.python_version()}, {versions}")
    journal.write(f"process {os.getpid()} on {platform.node()}, {platform.platform()}, {os.cpu_count()} cores")
    # The process that started this one may be writing all notes to the same file.
    kept = reporter if INHERITED in os.environ else _KeepingReporter(reporter, journal)
    try:
        with _warnings_kept(journal):
            yield kept
    except TokError as error:
        journal.write(f"ended: {error}")
        raise
    except BaseException as error:
        journal.write("ended by an error:\n" + "".join(traceback.format_exception(error)).rstrip())
        raise
    journal.write("finished")


class _Journal:
    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def write(self, message: str) -> None:
        """Append a line with the time; a disk that takes none loses the line and not the run."""
        now = datetime.datetime.now().isoformat(" ", "seconds")
        with contextlib.suppress(OSError), open(self._path, "a", encoding="utf-8", errors="replace") as file:
            file.write(f"{now}  {plain(message)}\n")


class _KeepingReporter:
    def __init__(self, reporter: Reporter, journal: _Journal) -> None:
        self._reporter = reporter
        self._journal = journal

    def note(self, message: str) -> None:
        self._journal.write(message)
        self._reporter.note(message)

    def task(self, label: str, total: int | None, unit: str, done: int = 0) -> Task:
        return self._reporter.task(label, total, unit, done)


@contextlib.contextmanager
def _warnings_kept(journal: _Journal) -> Iterator[None]:
    former = warnings.showwarning

    def show(message: Any, category: type[Warning], filename: str, lineno: int, *rest: Any) -> None:
        journal.write(f"{category.__name__}: {message} ({filename}:{lineno})")
        former(message, category, filename, lineno, *rest)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = former
