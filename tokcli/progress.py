"""How long work tells what it is doing, without knowing who is listening.

Workflows speak to a `Reporter`; the command line draws bars, tests and libraries pass `SILENT`.
"""

import contextlib
import re
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Protocol

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal obeys instead of showing it, and what cannot be encoded."""


def plain(text: str) -> str:
    """Text for a terminal or a log: what came out of a file's name or content cannot command it."""
    return CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class Task(Protocol):
    """One measured piece of work, used as a context manager."""

    def advance(self, count: int = 1, **figures: float | str) -> None:
        """Move on by `count` units and show `figures` (a loss, a rate) beside the bar."""

    def __enter__(self) -> "Task": ...

    def __exit__(self, *exception: object) -> None: ...


class Reporter(Protocol):
    """Receives notes and progress; prints them, draws them or drops them."""

    def note(self, message: str) -> None:
        """A line that a person may want to read: a choice made, a file written, a warning."""

    def task(self, label: str, total: int | None, unit: str, done: int = 0) -> Task:
        """A piece of work of `total` units (unknown: None), of which `done` were finished earlier."""
        ...


class _SilentTask:
    def advance(self, count: int = 1, **figures: float | str) -> None: ...

    def __enter__(self) -> "_SilentTask":
        return self

    def __exit__(self, *exception: object) -> None: ...


class _SilentReporter:
    def note(self, message: str) -> None: ...

    def task(self, label: str, total: int | None, unit: str, done: int = 0) -> Task:
        return _SilentTask()


SILENT: Reporter = _SilentReporter()

_listener: ContextVar[Reporter] = ContextVar("listener", default=SILENT)


def listener() -> Reporter:
    """Who is listening to this command, for work deep down that nobody hands a reporter: fetching weights."""
    return _listener.get()


@contextlib.contextmanager
def listening(reporter: Reporter) -> Iterator[None]:
    """Within this context `reporter` is the listener."""
    former = _listener.set(reporter)
    try:
        yield
    finally:
        _listener.reset(former)


FAILURES_TOLD = 20
"""Items that fail are named one by one up to here: of a folder without leave to read, nobody reads a million lines."""


class FailureNotes:
    """Tells a reporter of items that failed: the first ones each, then only that there are more.

    Args:
        reporter: Who is told.
        rest: Where the others are found, as the end of a sentence.
    """

    def __init__(self, reporter: Reporter, rest: str) -> None:
        self._reporter = reporter
        self._rest = rest
        self._told = 0

    def add(self, message: str) -> None:
        """One item failed; the message names it."""
        self._told += 1
        if self._told <= FAILURES_TOLD:
            self._reporter.note(message)
        elif self._told == FAILURES_TOLD + 1:
            self._reporter.note(f"more than {FAILURES_TOLD} items failed; {self._rest}")
