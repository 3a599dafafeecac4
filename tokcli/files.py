"""Writing whole files: a reader sees the old file or the new one, never half of it, even after a power cut.

    with replacing(path) as unfinished:      unfinished: a new file in the folder of `path`, under a name nobody guesses
        image.save(unfinished)
                                             left without error: on the disk, renamed to `path`; else removed

Every file that the package writes whole is written through this module.
"""

import contextlib
import os
import pathlib
import secrets
from collections.abc import Iterator
from typing import IO

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
