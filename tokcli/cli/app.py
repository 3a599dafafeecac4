"""The command `tok`: its verbs, and how every error leaves.

Nothing here imports torch; a verb imports its command when it is called, so that help is instant.
"""

import errno
import os
import sys
from collections.abc import Sequence

import typer

from tokcli.cli import (
    bench,
    build_codebook,
    decode,
    encode,
    evaluate,
    export,
    import_tokens,
    info,
    recipes,
    sweep,
    train,
)
from tokcli.cli.console import print_json
from tokcli.cli.launch import tell_exit_code
from tokcli.cli.verb import VERSION, Command
from tokcli.distributed import first_process
from tokcli.errors import InterruptedRunError, TokError, UsageError

app = typer.Typer(
    name="tok",
    help="Train, apply and judge discrete tokenizers of images and audio.",
    epilog="Start with: tok train quickstart     (tok eval is short for tok evaluate)",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

VERBS = {
    "train": train.train,
    "encode": encode.encode,
    "decode": decode.decode,
    "build-codebook": build_codebook.build_codebook,
    "evaluate": evaluate.evaluate,
    "sweep": sweep.sweep,
    "bench": bench.bench,
    "export": export.export,
    "import": import_tokens.import_tokens,
    "recipes": recipes.recipes,
    "info": info.info,
}
HIDDEN = {"eval": evaluate.evaluate, "judge-cell": sweep.judge_cell}

for _name, _verb in (VERBS | HIDDEN).items():
    app.command(_name, cls=Command, hidden=_name in HIDDEN, epilog=f"Example: {_verb.example}")(_verb.call)


@app.callback(invoke_without_command=True)
def _flags_before_the_verb(context: typer.Context, version: VERSION = False) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; every error that a user can fix leaves as one sentence."""
    code = _run(arguments, as_json="--json" in arguments)
    if code:
        tell_exit_code(code)
    return code


def _run(arguments: Sequence[str], as_json: bool) -> int:
    try:
        outcome = app(args=list(arguments), prog_name="tok", standalone_mode=False)
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except TokError as error:
        return _leave(error, as_json)
    except typer.TyperException as error:
        return _leave(UsageError(f"{error.format_message()} (tok {_verb_of(arguments)} --help says more)"), as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _leave(InterruptedRunError("stopped; the same command starts again or goes on"), as_json)
    except BrokenPipeError:
        # The reader of a pipe has left; keep Python from complaining about it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR):
            raise
        return _leave(_disk_error(error), as_json)


def _verb_of(arguments: Sequence[str]) -> str:
    return next((word for word in arguments if word in VERBS | HIDDEN), "")


def _disk_error(error: OSError) -> TokError:
    where = f" {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TokError(f"the disk is full{where and ':'}{where}; free some space and run the same command again")
    return TokError(f"cannot write{where}: {error.strerror}; choose a place that can be written to")


def _leave(error: TokError, as_json: bool) -> int:
    if not first_process():
        # The processes of one run mostly fail together, and the first one says why.
        print(f"tok, process {os.environ['RANK']}: {error}", file=sys.stderr)
    elif as_json:
        print_json({"error": {"kind": error.kind, "message": str(error), "exit_code": error.exit_code}})
    else:
        problems = str(error).splitlines()
        several = f"{len(problems)} problems, all to be mended:\n  " if len(problems) > 1 else ""
        print(f"tok: {several}" + "\n  ".join(problems), file=sys.stderr)
    return error.exit_code
