"""Writing whole files: a reader sees the old file or the new one, never half of it, even after a power cut.

    with replacing(path) as unfinished:      unfinished: a new file in the folder of `path`, under a name nobody guesses
        image.save(unfinished)
                                             left without error: on the disk, renamed to `path`; else removed

Every file that the package writes whole is written through this module.
"""

import contextlib
import errno
import os
import pathlib
import re
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from typing import IO

from tokcli.errors import UsageError

PROBE = 2**20
"""Bytes that are written to find out why a library could not write: more than the last block of a full disk."""

ABANDONED_AFTER = 600.0
"""Seconds without a change after which an unfinished file has nobody who writes it."""

UNFINISHED = ".*.tmp"
"""What unfinished files are called, as a glob pattern: a process that is killed can leave one behind."""


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path to write to, which becomes `path` when the context is left without error, and else leaves no trace.

    The file is there already, empty: opened exclusively, so that no link laid in its place is followed, with the
    permissions that the umask gives. Its name is short whatever the name of `path`, which may be as long as names can
    be. Missing folders are made.

    Raises:
        OSError: where it cannot be written; it names `path`, not the unfinished file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        permissions = _create(unfinished)
        yield unfinished
        _finish(unfinished, permissions)
        move_into_place(unfinished, path)
    except OSError as error:
        if error.filename in (str(unfinished), unfinished):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def try_output(path: pathlib.Path, suffixes: Sequence[str] = (), folder: bool = False) -> None:
    """Find out, before the work, whether the output `path` can be written at its end.

    Args:
        path: Of the output.
        suffixes: One of which it must have; none: whatever it has.
        folder: Whether it is a folder, and not a file.

    Raises:
        UsageError: where it is no place for such an output: `-`, another suffix, a folder in the place of a file.
        OSError: where its folder cannot be written.
    """
    if str(path) == "-":
        raise UsageError("'-' is not understood here: the output is a file or a folder; name it")
    if suffixes and path.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: expected a name that ends in {' or '.join(suffixes)}")
    if not folder and path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it")
    if folder and path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; name a folder")
    with contextlib.suppress(FileNotFoundError):  # what raises is a name that is too long, or a file for a folder
        mode = os.lstat(path).st_mode
        if not folder and not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise UsageError(f"{path} is no regular file; choose another name")
    near = path if folder and path.is_dir() else path.parent
    while not os.path.lexists(near):
        near = near.parent
    if not near.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(near))
    probe = near / f".{secrets.token_hex(8)}.tmp"
    try:
        _create(probe)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def explain(error: Exception, path: pathlib.Path) -> OSError:
    """The system's own error where a library could not write `path` and said it in words alone."""
    words = re.search(r"os error (\d+)", str(error))
    if words:
        number = int(words[1])
        return OSError(number, os.strerror(number), str(path))
    probe = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(probe, "xb") as file:
            file.write(bytes(PROBE))
            sync(file)
    except OSError as reason:
        return OSError(reason.errno, reason.strerror, str(path))
    finally:
        probe.unlink(missing_ok=True)
    return OSError(errno.EIO, str(error) or os.strerror(errno.EIO), str(path))


def remove_abandoned(folder: pathlib.Path) -> None:
    """Remove the unfinished files that killed processes left in a folder, which need not exist."""
    for path in folder.glob(UNFINISHED):
        with contextlib.suppress(OSError):
            ours = re.fullmatch(r"\.[0-9a-f]{16}\.tmp", path.name)
            if ours and time.time() - path.lstat().st_mtime > ABANDONED_AFTER:
                path.unlink()


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Replace `path` by a file of `content`. Raises OSError as `replacing` does."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)


def write_text(path: pathlib.Path, text: str) -> None:
    """Replace `path` by a file of `text`, in UTF-8. Raises OSError as `replacing` does."""
    write_bytes(path, text.encode())


def sync(file: IO[bytes]) -> None:
    """Wait until everything written to an open file is on the disk: a rename must not get there before the content."""
    file.flush()
    os.fsync(file.fileno())


def move_into_place(unfinished: pathlib.Path, path: pathlib.Path) -> None:
    """Rename a file or a folder whose content is on the disk to `path`, and wait until the new name is there too."""
    os.replace(unfinished, path)
    with contextlib.suppress(OSError):  # not every system can, and the content is safe already
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _create(path: pathlib.Path) -> int:
    """Make the empty file `path`, which must not exist, and return the permissions that it got."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return os.fstat(descriptor).st_mode & 0o777
    finally:
        os.close(descriptor)


def _finish(path: pathlib.Path, permissions: int) -> None:
    """Put what was written on the disk, with `permissions`: libraries that write a file anew choose their own."""
    if path.stat().st_mode & 0o777 != permissions:
        path.chmod(permissions)
    with open(path, "rb+") as file:
        sync(file)
