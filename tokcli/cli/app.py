"""The command `tok`: its verbs, and how every error leaves.

Nothing here imports torch; a verb imports its command when it is called, so that help is instant.
"""

import errno
import os
import platform
import re
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence

import typer

from tokcli import __version__
from tokcli.cli import (
    bench,
    build_codebook,
    decode,
    encode,
    evaluate,
    export,
    import_tokens,
    info,
    probe,
    pull,
    push,
    recipes,
    sweep,
    train,
)
from tokcli.cli.console import print_json, print_note
from tokcli.cli.launch import ToldCode, tell_exit_code
from tokcli.cli.verb import VERSION, Command, Commands
from tokcli.distributed import first_process, is_loss_of_process
from tokcli.errors import InterruptedRunError, RecipeError, TokError, UsageError
from tokcli.progress import plain

app = typer.Typer(
    name="tok",
    help="Train, apply and judge discrete tokenizers of images and audio.",
    epilog="Start with: tok train quickstart     (tok eval is short for tok evaluate)",
    cls=Commands,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PANELS = {
    "Make tokens": {
        "train": train.train,
        "build-codebook": build_codebook.build_codebook,
        "encode": encode.encode,
        "decode": decode.decode,
    },
    "Judge": {
        "evaluate": evaluate.evaluate,
        "sweep": sweep.sweep,
        "bench": bench.bench,
        "probe": probe.probe,
    },
    "Look": {"info": info.info, "recipes": recipes.recipes},
    "Exchange": {
        "export": export.export,
        "import": import_tokens.import_tokens,
        "push": push.push,
        "pull": pull.pull,
    },
}
"""The verbs as help groups them."""

VERBS = {name: each for panel in PANELS.values() for name, each in panel.items()}

NAMELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of the system that need no file's name to be understood."""

WRITING = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT)

HIDDEN = {"eval": evaluate.evaluate, "judge-cell": sweep.judge_cell}

for _panel, _verbs in {**PANELS, None: HIDDEN}.items():
    for _name, _verb in _verbs.items():
        app.command(
            _name,
            cls=Command,
            hidden=_name in HIDDEN,
            epilog=f"Example: {_verb.example}",
            rich_help_panel=_panel,
        )(_verb.call)


@app.callback(invoke_without_command=True)
def _flags_before_the_verb(context: typer.Context, version: VERSION = False) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


DEBUG = "TOK_DEBUG"
"""Environment variable: anything but 0 shows the traceback of an unforeseen error."""

LONGEST_LINE, MOST_LINES = 1500, 100
"""Of a message: a recipe can hold values of any length."""

KEPT = {
    "train": "the run's last checkpoint is kept, and the same command goes on from it, or starts where there is none",
    "encode": "the same command with --resume goes on, or starts again where nothing was encoded yet",
    "decode": "the same command with --resume goes on, or starts again where no file was decoded yet",
    "build-codebook": "the artifact is as it was; the same command starts again",
    "evaluate": "an evaluation keeps nothing until its end; the same command starts again",
    "eval": "an evaluation keeps nothing until its end; the same command starts again",
    "sweep": "every cell goes on from its checkpoint with the same command",
    "export": "the same command with --resume goes on",
    "probe": "the same command with --resume goes on from the last checkpoint",
    "push": "files that reached the hub are not in the repository without their commit; the same command starts again",
    "pull": "files that were fetched whole are in the cache; the same command goes on",
    "import": "nothing was kept; the same command with --force starts again",
}
"""What an interruption leaves, by verb; for the rest, nothing."""


EXPLAINED = ("data", "autoencoder", "quantizer", "losses", "training", "adversary", "evaluation", "codebook")
"""Sections of a recipe whose keys `tok recipes explain` lists."""

WRONG_KEY = re.compile(r"^(\w+)[\w.]*: (?:'([\w-]+)'|training|evaluation|adversary|codebook) (?:takes no|needs)", re.M)
"""The beginning of a sentence about a key, with its section and the kind of the part."""


class UnforeseenError(TokError):
    """What should not have happened: its traceback is in a file."""

    kind = "unforeseen"


def run(arguments: Sequence[str], interrupted: Callable[[], bool] = lambda: False) -> int:
    """Run one command and return its exit code; every error leaves as one sentence.

    Args:
        arguments: What was typed behind `tok`.
        interrupted: Whether a signal has come: libraries may make another error of it.
    """
    as_json = "--json" in arguments
    try:
        code = _run(arguments, as_json)
    except KeyboardInterrupt:
        code = _leave(_stopped(arguments), as_json)
    except Exception as error:
        unforeseen = _stopped(arguments) if interrupted() else _keep_traceback(error, arguments)
        code = _leave(unforeseen, as_json)
    if code:
        tell_exit_code(code)
    return code


def _run(arguments: Sequence[str], as_json: bool) -> int:
    try:
        outcome = app(args=list(arguments), prog_name="tok", standalone_mode=False)
        sys.stdout.flush()
        if outcome == InterruptedRunError.exit_code and not isinstance(outcome, ToldCode):
            raise KeyboardInterrupt  # which typer has made an exit code of
        return outcome if isinstance(outcome, int) else 0
    except TokError as error:
        return _leave(error, as_json)
    except typer.TyperException as error:
        return _leave(UsageError(f"{error.format_message()} ({_name_help(arguments)} says more)"), as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _leave(_stopped(arguments), as_json)
    except BrokenPipeError:
        # The reader of a pipe has left; keep Python from complaining about it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno is None or (error.filename is None and error.errno not in NAMELESS):
            raise
        return _leave(_explain_disk_error(error), as_json)
    except RuntimeError as error:
        if not is_loss_of_process(error):
            raise
        return _leave(_explain_loss(arguments), as_json)


def _explain_loss(arguments: Sequence[str]) -> TokError:
    return TokError(
        "another process of this command has ended, or the network between them has: was it killed, is there memory "
        f"for all of them? {KEPT.get(_find_verb(arguments), 'The same command starts again')}"
    )


def _stopped(arguments: Sequence[str]) -> InterruptedRunError:
    return InterruptedRunError(f"stopped; {KEPT.get(_find_verb(arguments), 'the same command starts again')}")


def _keep_traceback(error: Exception, arguments: Sequence[str]) -> TokError:
    """Write the traceback of what nobody has foreseen into a file, and say which."""
    text = "".join(traceback.format_exception(error))
    if os.environ.get(DEBUG, "0") != "0":
        print(text, end="", file=sys.stderr)
    words = (str(error).strip().splitlines() or [""])[0][:200]
    what = f"{type(error).__name__}: {words}" if words else type(error).__name__
    command = shlex.join(["tok", *arguments])
    about = f"tok {__version__}, Python {platform.python_version()}, {platform.platform()}\n$ {command}\n\n"
    try:
        descriptor, path = tempfile.mkstemp(prefix="tok-error-", suffix=".log", text=True)
        with open(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(about + text)
    except OSError as reason:
        kept = f"its traceback could not be written ({reason.strerror}), {DEBUG}=1 shows it"
    else:
        kept = f"its traceback is in {path}"
    return UnforeseenError(
        f"an error that tok does not know ({what}); {kept}; please report it together with that text and the command, "
        "as an issue of tok"
    )


def _name_help(arguments: Sequence[str]) -> str:
    return " ".join(word for word in ("tok", _find_verb(arguments), "--help") if word)


def _find_verb(arguments: Sequence[str]) -> str:
    return next((word for word in arguments if word in VERBS | HIDDEN), "")


def _explain_disk_error(error: OSError) -> TokError:
    where = f" {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TokError(f"the disk is full{where and ':'}{where}; free some space and run the same command again")
    if error.errno in WRITING:
        return TokError(f"cannot write{where}: {error.strerror}; choose a place that can be written to")
    return TokError(f"cannot use{where}: {error.strerror or error}; name another place")


def _shorten(message: str) -> list[str]:
    """The lines of a message, none endless."""
    lines = [line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + " …" for line in message.splitlines()]
    return lines if len(lines) <= MOST_LINES else [*lines[:MOST_LINES], f"and {len(lines) - MOST_LINES} more"]


def _point_to_keys(error: TokError) -> list[str]:
    """The command that says which keys there are, where the error is one of a recipe's keys."""
    if not isinstance(error, RecipeError):
        return []
    found = WRONG_KEY.search(str(error))
    if not found or found[1] not in EXPLAINED:
        return []
    return [" ".join(["tok recipes explain", found[1], *([found[2]] if found[2] else [])]) + " lists its keys"]


def _leave(error: TokError, as_json: bool) -> int:
    problems = _shorten(str(error))
    if not first_process():
        # The processes of one run mostly fail together, and the first one says why.
        print(plain(f"tok, process {os.environ['RANK']}: {error}"), file=sys.stderr)
    elif as_json:
        print_json({"error": {"kind": error.kind, "message": "\n".join(problems), "exit_code": error.exit_code}})
    else:
        several = f"{len(problems)} problems, all to be mended:\n  " if len(problems) > 1 else ""
        problems += [f"({way_on})" for way_on in _point_to_keys(error)]
        print_note(f"tok: {several}" + "\n  ".join(problems))
    return error.exit_code
