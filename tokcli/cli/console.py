"""What a person sees: bars on a terminal, plain lines elsewhere, tables at the end.

Results go to stdout, progress and notes to stderr. rich is imported when something is drawn.
"""

import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tokcli.distributed import first_process
from tokcli.evaluation.compare import format_number
from tokcli.progress import FAILURES_TOLD, SILENT, Reporter, Task, plain

if TYPE_CHECKING:
    from tokcli.data.items import Failure

FIRST_LINE_AFTER, LINES_APART = 2.0, 10.0
"""Seconds until the first plain progress line, and between later ones."""

WIDEST_BAR, NARROW_BAR, WIDE = 40, 16, 120
"""Cells of a progress bar on a terminal of at least so many columns, and on a narrower one."""

SPACES = 15
"""Columns of a bar's line for the time left, and for the spaces between its parts."""

TERM = 24
"""Characters that a term takes beside its meaning."""

FOLDED = 28
"""Characters that words in a table may keep before figures go elsewhere for want of room."""


def make_reporter(quiet: bool) -> Reporter:
    """A reporter that suits where stderr goes; silent when asked, and on all processes of a run but the first."""
    if quiet or not first_process():
        return SILENT
    return BarReporter() if sys.stderr.isatty() else LineReporter()


def print_json(value: Any) -> None:
    """A line of JSON, and nothing else, on stdout."""
    print(json.dumps(value, allow_nan=False))


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], best: Collection[tuple[int, int]] = ()
) -> None:
    """A table on stdout: as wide as the terminal, or as its content where it is no terminal.

    A figure cut in two is none: those that do not fit beside the others stand in a table of their own below.
    best: (row, column) of cells that are bold, or carry a star where nothing can be bold.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 140)
    star = "" if sys.stdout.isatty() else " *"
    cells = [
        [
            Text(format_value(value) + star, "bold") if (index, column) in best else Text(format_value(value))
            for column, value in enumerate(row)
        ]
        for index, row in enumerate(rows)
    ]
    figures = {column for column in range(1, len(columns)) if not any(isinstance(row[column], str) for row in rows)}
    # A title of the table itself would be folded to the table's width.
    console.print(Text(plain(title), style="italic"), soft_wrap=True)
    for part in _parts(columns, [[len(cell) for cell in row] for row in cells], figures, console.width):
        table = Table()
        for column, heading in part.items():
            justify, whole = ("right", True) if column in figures else ("left", False)
            table.add_column(heading, justify=justify, no_wrap=whole, overflow="fold")
        for row in cells:
            table.add_row(*(row[column] for column in part))
        console.print(table)


def find_width() -> int:
    """Columns of the terminal; where there is none, as many as a long line has."""
    return shutil.get_terminal_size((140, 24)).columns if sys.stdout.isatty() or "COLUMNS" in os.environ else 140


def print_prose(text: str, indent: int = 0) -> None:
    """Sentences on stdout, wrapped at words; a path or a command is never cut. indent: of all lines but the first."""
    print(wrap(text, find_width(), indent))


def print_note(message: str) -> None:
    """Sentences on stderr; on a terminal, wrapped at words."""
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else sys.maxsize
    print(wrap(message, width, indent=2), file=sys.stderr, flush=True)


def print_entry(term: str, meaning: str) -> None:
    """A term and what it means, the meaning wrapped beside it or below."""
    beside = len(term) < TERM
    start = f"{term.ljust(TERM)}" if beside else f"{term}\n{' ' * TERM}"
    lines = wrap(meaning, max(find_width() - TERM, 20)).replace("\n", "\n" + " " * TERM)
    print(plain(start) + lines)


def wrap(text: str, width: int, indent: int = 0) -> str:
    """Lines of at most `width` characters, cut at spaces alone; what has none stays whole."""
    lines = plain(text).split("\n")
    return "\n".join(line if len(line) <= width else _wrap_line(line, width, indent) for line in lines)


def _wrap_line(line: str, width: int, indent: int) -> str:
    later = " " * (len(line) - len(line.lstrip()) + indent)
    return textwrap.fill(line, width, subsequent_indent=later, break_long_words=False, break_on_hyphens=False)


def print_failed(failed: Sequence["Failure"]) -> None:
    """What could not be done, item by item, the first ones of many; nothing where all went well."""
    if failed:
        rows = [(failure.item, failure.reason) for failure in failed[:FAILURES_TOLD]]
        if len(failed) > len(rows):
            rows.append((f"{len(failed) - len(rows)} more", "--json lists all of them"))
        print_table(f"{len(failed)} failed", ["item", "reason"], rows)


def _parts(
    columns: Sequence[str], lengths: Sequence[Sequence[int]], figures: Collection[int], limit: int
) -> list[dict[int, str]]:
    """The headings, by column, of each table that fits into `limit` characters; all begin with the first column.

    lengths: of all cells, by row. figures: columns that keep their cells whole; the words of others may fold.
    """
    headings = dict(enumerate(columns))
    widths = [max(column) for column in zip(map(len, columns), *lengths, strict=True)]
    if sum(widths) + 3 * len(widths) + 1 > limit:
        for column in figures:
            widths[column] = max([*map(len, columns[column].split(" ")), *(row[column] for row in lengths)])
            headings[column] = textwrap.fill(columns[column], widths[column])
    widths = [width if column in figures else min(width, FOLDED) for column, width in enumerate(widths)]
    parts, taken = [{0: headings[0]}], widths[0] + 4
    for column, width in enumerate(widths[1:], start=1):
        if column in figures and taken + width + 3 > limit and len(parts[-1]) > 1:
            parts.append({0: headings[0]})
            taken = widths[0] + 4
        parts[-1][column] = headings[column]
        taken += width + 3
    return parts


def format_value(value: Any) -> str:
    """A value as a table shows it."""
    return format_number(value) if value is None or isinstance(value, float) else plain(str(value))


def clock(seconds: float) -> str:
    """1:05 or 2:03:09."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class LineReporter:
    """Plain lines now and then, for logs."""

    def note(self, message: str) -> None:
        """A line on stderr."""
        print_note(message)

    def task(self, label: str, total: int | None, unit: str, done: int = 0) -> Task:
        """Work that is reported every few seconds."""
        return _LineTask(label, total, unit, done)


class _LineTask:
    def __init__(self, label: str, total: int | None, unit: str, done: int) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._done = self._first = done
        self._figures: dict[str, float | str] = {}
        self._started = time.monotonic()
        self._next = self._started + FIRST_LINE_AFTER

    def __enter__(self) -> "_LineTask":
        return self

    def __exit__(self, *exception: object) -> None: ...

    def advance(self, count: int = 1, **figures: float | str) -> None:
        self._done += count
        self._figures |= figures
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LINES_APART
            print(self._line(now - self._started), file=sys.stderr, flush=True)

    def _line(self, seconds: float) -> str:
        rate = (self._done - self._first) / max(seconds, 1e-9)
        parts = [f"{self._label} {self._done}" + (f"/{self._total}" if self._total else "") + f" {self._unit}"]
        parts.append(f"{rate:.3g}/s")
        if self._total and rate > 0:
            parts.append(f"{clock((self._total - self._done) / rate)} left")
        parts += [f"{name} {format_value(value)}" for name, value in self._figures.items()]
        return "  ".join(parts)


class BarReporter:
    """Bars on a terminal; a task within a task gets a bar below it while it lasts."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        def make_whole() -> Column:
            """A column that is never narrowed: half a time is none."""
            return Column(no_wrap=True)

        self._console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", table_column=make_whole()),
            BarColumn(bar_width=WIDEST_BAR if self._console.width >= WIDE else NARROW_BAR),
            TextColumn(
                "{task.completed:.0f}/{task.fields[shown_total]} {task.fields[unit]}", table_column=make_whole()
            ),
            TextColumn("{task.fields[rate]}", table_column=make_whole()),
            TimeRemainingColumn(elapsed_when_finished=True, table_column=make_whole()),
            TextColumn("{task.fields[figures]}", table_column=make_whole()),
        )
        self._progress = Progress(*columns, console=self._console, transient=True)
        self._open = 0

    def note(self, message: str) -> None:
        """A line above the bars."""
        text = wrap(message, self._console.width, indent=2)
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def task(self, label: str, total: int | None, unit: str, done: int = 0) -> Task:
        """Work with a bar of its own."""
        return _BarTask(self, label, total, unit, done)

    def fit(self, beside: int, figures: Mapping[str, float | str]) -> str:
        """As many of the figures, the first first, as fit beside so many characters and a bar."""
        bar = WIDEST_BAR if self._console.width >= WIDE else NARROW_BAR
        space, shown = self._console.width - beside - bar - SPACES, ""
        for name, value in figures.items():
            longer = f"{shown}  {name} {format_value(value)}".lstrip()
            if len(longer) > space:
                break
            shown = longer
        return shown

    def opened(self) -> Any:
        """The display, started with the first bar."""
        if self._open == 0:
            self._progress.start()
        self._open += 1
        return self._progress

    def closed(self) -> None:
        """Stop the display with the last bar."""
        self._open -= 1
        if self._open == 0:
            self._progress.stop()


class _BarTask:
    def __init__(self, reporter: BarReporter, label: str, total: int | None, unit: str, done: int) -> None:
        self._reporter, self._label, self._total, self._unit = reporter, label, total, unit
        self._done = self._first = done
        self._started = time.monotonic()
        self._figures: dict[str, float | str] = {}

    def __enter__(self) -> "_BarTask":
        self._display = self._reporter.opened()
        fields = {"unit": self._unit, "shown_total": self._total or "?", "rate": "", "figures": ""}
        self._id = self._display.add_task(self._label, total=self._total, completed=self._done, **fields)
        return self

    def __exit__(self, *exception: object) -> None:
        self._display.remove_task(self._id)
        self._reporter.closed()

    def advance(self, count: int = 1, **figures: float | str) -> None:
        self._done += count
        self._figures |= figures
        rate = f"{(self._done - self._first) / max(time.monotonic() - self._started, 1e-9):.3g}/s"
        counted = f"{self._label}{self._done}/{self._total or '?'} {self._unit}{rate}"
        text = self._reporter.fit(len(counted), self._figures)
        self._display.update(self._id, completed=self._done, rate=rate, figures=text)
