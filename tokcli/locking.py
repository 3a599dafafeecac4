"""One writer at a time: a lock for each output, which the system lets go of when its holder dies.

    with hold(path, "tokens.npy"):     path: a lock file beside the output, or in its folder
        ...                            a second one is refused, and told who holds it and since when

The lock is advisory (flock) and belongs to an open file; the file says who has it. It is removed when it is let go of.
A process that was killed leaves the file, which then holds nobody up.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import pathlib
import platform
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from tokcli.errors import TokError
from tokcli.progress import Reporter

INHERITED = "TOK_LOCK_FD"
"""Environment variable: the open file of a lock that a process was started under."""

LETTING_GO = 10.0
"""Seconds to wait for a lock whose holder is dead: its loading processes notice that within a few."""

GLANCE = 0.1
"""Seconds between tries."""

LONGEST = 10_000
"""Bytes of a lock file that are read."""

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system answers that cannot lock; work goes on there without."""


class BusyError(TokError):
    """Another process writes the same output."""

    kind = "busy"


@dataclass(frozen=True)
class Holder:
    """Who has a lock.

    Attributes:
        pid: Of the process.
        host: That it runs on.
        started: When it took the lock, local time.
        command: What was typed.
    """

    pid: int
    host: str
    started: str
    command: str

    @property
    def dead(self) -> bool:
        """Whether it is known to have ended: a process of another machine never is."""
        if self.host != platform.node():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.started} ({self.command})"


class Lock:
    """A lock that is held, until `release` or the end of the process.

    Args:
        path: Of the lock file.
        descriptor: Of the open, locked file.
        former: Who held it last and ended without letting go; None where nobody did.
        inherited: Whether the process that started this one holds it, and will let go of it.
        made: Folders that were made for it, the innermost first; those that stay empty go with it.
    """

    def __init__(
        self,
        path: pathlib.Path,
        descriptor: int,
        former: Holder | None = None,
        inherited: bool = False,
        made: Sequence[pathlib.Path] = (),
    ) -> None:
        self.path = path
        self.former = former
        self._descriptor = descriptor
        self._inherited = inherited
        self._made = made
        _open_here.add(descriptor)

    def fileno(self) -> int:
        """The open file, for `pass_fds`: a process that gets it holds the lock as well."""
        return self._descriptor

    def release(self) -> None:
        """Let go; the file goes too."""
        if self._descriptor not in _open_here or self._inherited:
            return
        with contextlib.suppress(OSError):
            if _is_file(self._descriptor, self.path):
                self.path.unlink()
                for folder in self._made:
                    folder.rmdir()
        self.close()

    def close(self) -> None:
        """Close the file and leave it: a process that inherited the lock keeps it."""
        if self._descriptor in _open_here and not self._inherited:
            _open_here.discard(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


_open_here: set[int] = set()
"""Open lock files of this process."""


def _close_in_child() -> None:
    """A loading process must not keep the locks of the one that forked it, or they would outlive it."""
    for descriptor in _open_here:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _open_here.clear()


os.register_at_fork(after_in_child=_close_in_child)


def acquire(path: pathlib.Path, patience: float = LETTING_GO) -> Lock | Holder | None:
    """Take the lock, or say who has it; None where that is not known. Missing folders are made.

    Args:
        path: Of the lock file.
        patience: Seconds to wait for a holder that is dead.

    Raises:
        OSError: where the lock file cannot be written.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    inherited = _find_inherited(path)
    if inherited is not None:
        _write(inherited)
        return Lock(path, inherited, inherited=True)
    deadline = None
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(descriptor)
            os.close(descriptor)
            deadline = deadline or time.monotonic() + patience
            if holder is None or not holder.dead or time.monotonic() > deadline:
                return holder
            time.sleep(GLANCE)
            continue
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(descriptor)
                raise
        if not _is_file(descriptor, path):
            os.close(descriptor)  # it was let go of, and removed, between opening and locking
            continue
        former = _read(descriptor)
        _write(descriptor)
        return Lock(path, descriptor, former, made=made)


@contextlib.contextmanager
def hold(path: pathlib.Path, output: object) -> Iterator[Lock]:
    """Hold the lock `path` of `output` in this context.

    Raises:
        BusyError: where another process has it.
    """
    lock = take(path, output)
    try:
        yield lock
    finally:
        lock.release()


def take(path: pathlib.Path, output: object) -> Lock:
    """The lock `path` of `output`, to be released by the caller. Raises BusyError where another process has it."""
    lock = acquire(path)
    if not isinstance(lock, Lock):
        raise BusyError(f"{output} is being written by {describe(lock)}; wait for it to end, or write to another place")
    return lock


@contextlib.contextmanager
def wait(path: pathlib.Path, output: object, reporter: Reporter) -> Iterator[Lock]:
    """Hold the lock `path` of `output` in this context, as soon as whoever has it lets go."""
    told = False
    while not isinstance(lock := acquire(path, patience=0), Lock):
        if not told:
            reporter.note(f"waiting: {output} is being written by {describe(lock)}")
            told = True
        time.sleep(GLANCE)
    tell_former(lock, reporter)
    try:
        yield lock
    finally:
        lock.release()


def tell_former(lock: Lock, reporter: Reporter) -> None:
    """Say so where the last holder ended without letting go."""
    if lock.former is not None:
        reporter.note(f"the lock of a command that was killed is taken over: {lock.former}")


def describe(holder: Holder | None) -> str:
    """Who it is, as far as that is known."""
    return str(holder) if holder is not None else "another process"


def lock_beside(path: pathlib.Path) -> pathlib.Path:
    """The lock file of an output that is a file, or a folder that is replaced as one."""
    return path.with_name(f".{path.name}.lock")


def _find_inherited(path: pathlib.Path) -> int | None:
    """The open file of the lock, where the process that started this one passed it on."""
    text = os.environ.get(INHERITED, "")
    if not text.isdecimal():
        return None
    with contextlib.suppress(OSError, OverflowError):
        return int(text) if _is_file(int(text), path) else None
    return None


def _open(path: pathlib.Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EEXIST, "is there and no lock file", str(path))
    return descriptor


def _is_file(descriptor: int, path: pathlib.Path) -> bool:
    """Whether an open file is the one that `path` names now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def read_holder(path: pathlib.Path) -> Holder | None:
    """Who wrote its name into the lock file `path`, and may have ended since; None where there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _read(descriptor)
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> Holder | None:
    try:
        return parse_holder(os.pread(descriptor, LONGEST, 0))
    except OSError:
        return None


def parse_holder(content: bytes) -> Holder | None:
    """Who wrote this into a lock file; None where that is not to be made out."""
    try:
        values = json.loads(content)
        return Holder(int(values["pid"]), *(str(values[name]) for name in ("host", "started", "command")))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def make_holder() -> Holder:
    """This process, as a lock file names it."""
    started = datetime.datetime.now().isoformat(" ", "seconds")
    return Holder(os.getpid(), platform.node(), started, " ".join(["tok", *sys.argv[1:]])[:200])


def _write(descriptor: int) -> None:
    text = json.dumps(asdict(make_holder()))
    with contextlib.suppress(OSError):  # a full disk: the lock holds without its text
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(errors="replace"), 0)
