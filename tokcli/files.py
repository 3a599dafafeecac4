"""Writing whole files and opening regular ones.

A reader sees the old file or the new one, never half of it, even after a power cut:

    with replacing(path) as unfinished:      unfinished: a new file in the folder of `path`, under a name nobody guesses
        image.save(unfinished)
                                             left without error: on the disk, renamed to `path`; else removed

Every file that the package writes whole is written through this module. Every file that a user names is opened through
it: `open_regular` refuses what is no regular file, which could block for ever (a pipe), never end (a device) or answer
in other ways than a file does.
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
from typing import IO, BinaryIO

from tokcli.errors import InputError, UsageError

PROBE = 2**20
"""Bytes that are written to find out why a library could not write: more than the last block of a full disk."""

ABANDONED_AFTER = 600.0
"""Seconds without a change after which an unfinished file has nobody who writes it."""

NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
"""What a file system answers that gives no file two names."""

UNFINISHED = ".*.tmp"
"""What unfinished files are called, as a glob pattern: a process that is killed can leave one behind."""

SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?) ?(|k|kb|m|mb|g|gb|t|tb)", re.IGNORECASE)
UNITS = {unit + end: 1000**power for power, unit in enumerate(("", "k", "m", "g", "t")) for end in ("", "b")}
"""Bytes of each unit of a size."""


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
        nameless = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT)  # a write to it
        if nameless or error.filename in (str(unfinished), unfinished):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def try_output(path: pathlib.Path, suffixes: Sequence[str] = (), folder: bool = False) -> None:
    """Find out, before the work, whether the output `path` can be written at its end; tidy its folder up.

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
    remove_abandoned(near)


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
            if is_unfinished(path) and time.time() - path.lstat().st_mtime > ABANDONED_AFTER:
                path.unlink()


def remove_unfinished(folder: pathlib.Path) -> None:
    """Remove all unfinished files of a folder in which nobody has anything left to write."""
    for path in folder.glob(UNFINISHED):
        if is_unfinished(path):
            path.unlink(missing_ok=True)


def is_unfinished(path: pathlib.Path) -> bool:
    """Whether a file is one that somebody is writing, or was, by its name."""
    return re.fullmatch(r"\.[0-9a-f]{16}\.tmp", path.name) is not None


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Replace `path` by a file of `content`. Raises OSError as `replacing` does."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)


def write_text(path: pathlib.Path, text: str) -> None:
    """Replace `path` by a file of `text`, in UTF-8. Raises OSError as `replacing` does."""
    write_bytes(path, text.encode())


def create_exclusively(path: pathlib.Path, content: bytes) -> bool:
    """Make a whole file, unless one is there, in a folder that is made; whether it was made.

    Of several processes that try, on whatever machines share the disk, one succeeds.

    Raises:
        OSError: where it cannot be written; it names `path`.
    """
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        _create(unfinished)
        with open(unfinished, "rb+") as file:
            file.write(content)
            sync(file)
        os.link(unfinished, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in NO_LINKS and unfinished.exists():
            return _create_without_links(path, content)
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        unfinished.unlink(missing_ok=True)
    return True


def _create_without_links(path: pathlib.Path, content: bytes) -> bool:
    """As `create_exclusively`, where a file cannot have two names: for a moment a reader may find the file empty."""
    try:
        with open(path, "xb") as file:
            file.write(content)
            sync(file)
    except FileExistsError:
        return False
    return True


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file, or a link to one, to read bytes from. Never blocks.

    Raises:
        InputError: where it cannot be opened or is something else; with the reason but without the path.
    """
    problem = find_problem(path)
    if problem:
        raise InputError(problem)
    try:
        # What was a file when it was asked about may be a pipe by now: opening one must not wait for a writer.
        file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    except OSError as error:
        raise InputError(f"the file cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError("the file cannot be opened: it is no regular file")
    return file


def find_problem(path: str | os.PathLike[str]) -> str | None:
    """Why `path` is no regular file that can be opened, or None. Opens nothing."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return f"the file cannot be opened: {error.strerror}"
    except ValueError:  # a NUL, or characters that no name of this system has
        return "the file cannot be opened: its name is not one that a file can have"
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISDIR(mode):
        return f"the file cannot be opened: {os.strerror(errno.EISDIR)}"
    noun = next((noun for is_one, noun in _OTHERS.items() if is_one(mode)), "something else")
    return f"the file cannot be opened: it is {noun}, not a regular file"


_OTHERS = {
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether something is there, be it a link to nowhere. False for a name that no file can have."""
    try:
        return os.path.lexists(path)
    except ValueError:
        return False


def require_regular(path: str | os.PathLike[str]) -> None:
    """Refuse, before a library opens it, what is no regular file. Raises InputError, naming it."""
    problem = find_problem(path)
    if problem:
        raise InputError(f"{os.fspath(path)}: {problem}")


def read_bytes(path: str | os.PathLike[str], limit: int) -> bytes:
    """The content of a small file. Raises InputError, naming it, where it cannot be read or is larger than `limit`."""
    try:
        with open_regular(path) as file:
            # No more than there is: a read of the limit takes that much memory for a file of a few bytes.
            content = file.read(min(limit, os.fstat(file.fileno()).st_size) + 1)
    except InputError as error:
        raise InputError(f"{os.fspath(path)}: {error}") from error
    except OSError as error:
        raise InputError(f"{os.fspath(path)}: the file cannot be read: {error.strerror}") from error
    if len(content) > limit:
        raise InputError(f"{os.fspath(path)}: the file is too large to be what it should be: over {limit:,} bytes")
    return content


def read_text(path: str | os.PathLike[str], limit: int) -> str:
    """The content of a small file in UTF-8. Raises InputError as `read_bytes` does, and where it is no such text."""
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{os.fspath(path)}: the file is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error


def parse_size(text: str) -> int | None:
    """Bytes, as people write them: `5MB` -> 5,000,000; None where it is no size of at least one byte."""
    match = SIZE.fullmatch(text.strip())
    return (round(float(match[1]) * UNITS[match[2].lower()]) if match else 0) or None


def sync(file: IO[bytes]) -> None:
    """Wait until everything written to an open file is on the disk: a rename must not get there before the content."""
    file.flush()
    os.fsync(file.fileno())


def sync_all(path: pathlib.Path) -> None:
    """Wait until a closed file, or every file of a folder, is on the disk."""
    for file in [path] if path.is_file() else (each for each in path.rglob("*") if each.is_file()):
        with open(file, "rb+") as content:
            os.fsync(content.fileno())


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
