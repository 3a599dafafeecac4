"""`--processes N`: the same command in N processes of this machine, through torch.distributed.run.

An environment variable of its own marks the children: guarding on LOCAL_RANK would loop for ever under launchers that
do not set it, and refuse to work under those that do.
"""

import logging
import os
import pathlib
import tempfile
from collections.abc import Sequence

from tokcli.cli.console import print_note
from tokcli.files import write_text

MARK = "TOK_LAUNCHED"
EXIT_CODE_FILE = "TOK_EXIT_CODE_FILE"


class ToldCode(int):
    """The exit code of a process that has said what went wrong."""


def launched() -> bool:
    """Whether this process was started by `launch`."""
    return MARK in os.environ


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `tok ARGUMENTS...` in `processes` processes; returns the exit code of the first that told one.

    torch.distributed.run turns every failure into exit code 1 and a long report; the children have said in a sentence
    what failed, and left their exit code in a file.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="tok-launch-") as folder:
        told = pathlib.Path(folder) / "exit-code"
        os.environ |= {MARK: "1", EXIT_CODE_FILE: str(told)}
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
        command = ["--standalone", f"--nproc-per-node={processes}", "-m", "tokcli", *arguments]
        try:
            run.run(run.parse_args(command))
        except ChildFailedError as error:
            if killed := [-each.exitcode for each in error.failures.values() if each.exitcode < 0]:
                print_note(
                    f"tok: a process of this command was killed by signal {killed[0]}, and the others ended with it: "
                    "is there memory for so many? Try fewer --processes; a training goes on from its last checkpoint"
                )
                return ToldCode(1)
            return ToldCode(told.read_text()) if told.exists() else 1
        except SignalException:
            if not told.exists():
                raise KeyboardInterrupt from None
        return ToldCode(told.read_text()) if told.exists() else 0


def tell_exit_code(code: int) -> None:
    """Leave the exit code of a launched process where `launch` finds it; the first process has the last word."""
    if EXIT_CODE_FILE not in os.environ:
        return
    told = pathlib.Path(os.environ[EXIT_CODE_FILE])
    if told.parent.exists() and (os.environ.get("RANK") == "0" or not told.exists()):
        write_text(told, str(code))
