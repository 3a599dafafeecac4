"""What can go wrong in a way that a user can fix: one class for each exit code.

A `TokError` is shown as one sentence without a traceback; anything else that escapes is a bug and stays loud.
The message names the thing, the value received, what was expected and the next step. What it quotes may come from a
stranger's file: it is cut, and holds no control character that a terminal would obey.
"""

import reprlib
from typing import Any

LONGEST_VALUE = 200
"""Characters of a value that a message quotes."""

LONGEST_LINE = 1000
"""Characters of one problem."""

MOST_LINES = 30
"""Problems that one message lists."""


class _Quoting(reprlib.Repr):
    """Values as Python writes them, in a few words however large or deep they are."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 12
        self.maxstring = self.maxother = LONGEST_VALUE
        self.maxlong = 40

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write more than 4,300 digits."""
        return super().repr_int(x, level) if x.bit_length() < 4096 else f"a number of {x.bit_length()} bits"

    def repr_float(self, x: float, level: int) -> str:
        return repr(x)


_QUOTING = _Quoting()


def quote(value: Any) -> str:
    """A value as Python writes it, cut to LONGEST_VALUE characters: what a message shows of what it was given."""
    text = _QUOTING.repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE // 2]}...{text[-LONGEST_VALUE // 4 :]}"


def clean_message(text: str) -> str:
    """The text with control characters written out, long lines cut in the middle, and few enough lines."""
    lines = text.split("\n")
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], f"and {len(lines) - MOST_LINES + 1} more"]
    return "\n".join(_clean_line(line) for line in lines)


def _clean_line(line: str) -> str:
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE // 2]} ... {line[-LONGEST_LINE // 4 :]}"
    if line.isprintable():
        return line
    # Other characters that do not print, as no-break spaces, do no harm.
    return "".join(_clean_character(character) for character in line)


def _clean_character(character: str) -> str:
    is_control = ord(character) < 32 or 127 <= ord(character) < 160 or "\ud800" <= character <= "\udfff"
    is_turning = character in "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return ascii(character)[1:-1] if is_control or is_turning else character


class ArgumentError(ValueError):
    """A constructor's arguments that do not fit, in sentences that name them.

    The only error of a constructor that is the user's recipe: with the part's path before it, it becomes a RecipeError.
    Whatever else escapes a constructor is a bug. It is a ValueError, as a caller of the class expects.
    """


class TokError(Exception):
    """Something a user can fix. Base class; on its own it means a plain failure."""

    exit_code = 1
    kind = "failure"

    def __init__(self, message: object = "") -> None:
        super().__init__(clean_message(str(message)))


class UsageError(TokError):
    """A command, a flag or a recipe that cannot be understood."""

    exit_code = 2
    kind = "usage"


class RecipeError(UsageError):
    """A recipe with one or more problems, all of them listed."""

    kind = "recipe"


class InputError(TokError):
    """Input that is missing, empty or unreadable."""

    exit_code = 3
    kind = "input"


class UnreachableError(InputError):
    """What holds items cannot be read now, which says nothing about the items: another time it may be."""


class MismatchError(TokError):
    """An artifact or token file that is corrupt, or that belongs to another tokenizer."""

    exit_code = 4
    kind = "mismatch"


class DivergedError(TokError):
    """Training produced a loss that is not finite."""

    exit_code = 6
    kind = "diverged"


class InterruptedRunError(TokError):
    """The user stopped a run that can be resumed."""

    exit_code = 130
    kind = "interrupted"


PARTIAL_FAILURE = 5
"""Exit code of a command that finished, with some items failed and listed."""
