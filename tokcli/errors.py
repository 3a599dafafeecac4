"""What can go wrong in a way that a user can fix: one class for each exit code.

A `TokError` is shown as one sentence without a traceback; anything else that escapes is a bug and stays loud.
The message names the thing, the value received, what was expected and the next step.
"""


class ArgumentError(ValueError):
    """A constructor's arguments that do not fit, in sentences that name them.

    The only error of a constructor that is the user's recipe: with the part's path before it, it becomes a RecipeError.
    Whatever else escapes a constructor is a bug. It is a ValueError, as a caller of the class expects.
    """


class TokError(Exception):
    """Something a user can fix. Base class; on its own it means a plain failure."""

    exit_code = 1
    kind = "failure"


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
