"""Commands run in forked children with bounded memory and time, and a verdict on how they ended.

A command that meets hostile input may refuse it or take it. It must not end in a traceback, hang, take gigabytes, or
say nothing: those are the verdicts that fail a test.
"""

import contextlib
import os
import pathlib
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MEMORY = 3 << 30
"""Bytes of address space that a command may take beyond what the imported program has."""

SECONDS = 20.0

LONGEST_MESSAGE = 4000
"""Characters on stderr; whoever is told more reads nothing."""

CHANGES = {"open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"}
"""Events of `sys.addaudithook` that may change what a folder holds."""

EXIT_CODES = {0, 1, 2, 3, 4, 5, 6, 130}


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: the exit code; minus the signal where one ended it.
        out, err: what it printed.
        seconds: it took.
        hung: whether it had to be killed.
    """

    code: int
    out: str
    err: str
    seconds: float
    hung: bool

    @property
    def verdict(self) -> str:
        """`accepted`, `refused`, or what went wrong: hang, traceback, memory, signal, silent, code, length."""
        if self.hung:
            return "hang"
        if "MemoryError" in self.err or "DefaultCPUAllocator" in self.err:
            return "memory"
        if "Traceback (most recent call last)" in self.err or "unforeseen" in self.err:
            return "traceback"
        if self.code < 0:
            return "signal"
        if self.code not in EXIT_CODES:
            return "code"
        if len(self.err) > LONGEST_MESSAGE:
            return "length"
        if self.code in (0, 5):
            return "accepted"
        return "refused" if "tok: " in self.err or '"error"' in self.out else "silent"

    @property
    def is_fine(self) -> bool:
        """Whether the command did what a command may do with hostile input."""
        return self.verdict in ("accepted", "refused")


def run_tok(
    arguments: Sequence[object],
    folder: pathlib.Path,
    *,
    memory: int = MEMORY,
    seconds: float = SECONDS,
    kill_after: float | None = None,
    kill_when: Callable[[], bool] = lambda: False,
    kill_with: int = signal.SIGKILL,
    before_change: Callable[[str], None] | None = None,
) -> Ended:
    """Run `tok ARGUMENTS...` in a fork of this process.

    Args:
        arguments: of the command.
        folder: where it runs.
        memory: bytes of address space beyond this process's own.
        seconds: after which it counts as hanging.
        kill_after: send it a signal after so many seconds.
        kill_when: or as soon as this is true.
        kill_with: that signal.
        before_change: is called in the command, before each change of a file of `folder`, with what is to come.
    """
    import_program()
    with tempfile.TemporaryDirectory() as scratch:
        out, err = pathlib.Path(scratch, "out"), pathlib.Path(scratch, "err")
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            if before_change is not None:
                sys.addaudithook(_watch(folder, before_change))
            _become_command([str(argument) for argument in arguments], folder, out, err, memory)
        hung = _wait(child, started, seconds, kill_after, kill_with, kill_when)
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # workers that outlive it
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, _read(out), _read(err), time.monotonic() - started, hung)


def start_tok(arguments: Sequence[object], folder: pathlib.Path, scratch: pathlib.Path) -> int:
    """Start a command beside this process, its output in `scratch`/out and `scratch`/err; returns its process id."""
    import_program()
    scratch.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child == 0:
        _become_command([str(each) for each in arguments], folder, scratch / "out", scratch / "err", MEMORY)
    return child


def end_tok(child: int, scratch: pathlib.Path, seconds: float = 60.0) -> Ended:
    """Wait for a command that `start_tok` started."""
    started = time.monotonic()
    hung = _wait(child, started, seconds, None, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return Ended(code, _read(scratch / "out"), _read(scratch / "err"), time.monotonic() - started, hung)


def import_program() -> None:
    """Import what commands import, once, so that a fork starts in milliseconds."""
    import torch

    import tokcli.cli.app
    import tokcli.commands.build_codebook
    import tokcli.commands.decode
    import tokcli.commands.encode
    import tokcli.commands.evaluate
    import tokcli.commands.info
    import tokcli.commands.train  # noqa: F401

    torch.set_num_threads(1)


def _watch(folder: pathlib.Path, before_change: Callable[[str], None]) -> Callable[[str, tuple[object, ...]], None]:
    """An audit hook that tells of what is about to make, rename or remove a file or a folder in `folder`."""
    root = os.path.realpath(folder)

    def tell(event: str, arguments: tuple[object, ...]) -> None:
        if event not in CHANGES or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if not path.startswith(root + os.sep):
            return
        if event == "open":
            changes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            changes = os.path.lexists(path) != (event == "os.mkdir")
        if changes:
            before_change(f"{event} {os.path.relpath(path, root)}")

    return tell


def _become_command(
    arguments: list[str], folder: pathlib.Path, out: pathlib.Path, err: pathlib.Path, memory: int
) -> None:
    """Turn this fork into the command; never returns."""
    code = 70
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        os.environ.pop("TOK_MODEL", None)
        for stream, path in ((1, out), (2, err)):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(descriptor, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the life of the fork
        sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        limit = _address_space() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from tokcli.cli.app import run

        code = run(arguments)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code & 0xFF if code >= 0 else 1)


def _wait(
    child: int,
    started: float,
    seconds: float,
    kill_after: float | None,
    kill_with: int,
    kill_when: Callable[[], bool] = lambda: False,
) -> bool:
    """Until the child has ended, not reaped; True where it had to be killed."""
    sent = False
    while True:
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None:
            return False
        passed = time.monotonic() - started
        if not sent and ((kill_after is not None and passed >= kill_after) or kill_when()):
            os.kill(child, kill_with)
            sent = True
        if passed > seconds:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.kill(child, signal.SIGKILL)
            return True
        time.sleep(0.005)


def _address_space() -> int:
    """Bytes of address space of this process."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _read(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
