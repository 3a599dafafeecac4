"""Where a plan, its shards and the claims on them lie: whole files under names, on a disk or elsewhere.

A file appears whole under its name or not at all, and of several who `create` it one succeeds. Nothing else is asked of
a place, so object storage will do.
"""

import contextlib
import os
import pathlib
import time
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import ClassVar

from tokcli.files import create_exclusively, open_regular, read_bytes, remove_unfinished, replacing, sync
from tokcli.locking import hold, lock_beside


class Folder(ABC):
    """Files by their names, `/` between the parts of one; its text is what a user calls it.

    Attributes:
        at_once: how many files are best asked for at a time.
    """

    at_once: ClassVar[int] = 1

    @abstractmethod
    def __str__(self) -> str: ...

    @abstractmethod
    def read(self, name: str, limit: int) -> bytes:
        """The content of a small file. Raises InputError where it cannot be read or is larger than `limit`."""

    @abstractmethod
    def read_head(self, name: str, size: int) -> bytes:
        """The first bytes of a file, at most so many. Raises InputError where it cannot be read."""

    @abstractmethod
    def write(self, name: str) -> AbstractContextManager[pathlib.Path]:
        """A path on the disk to write to; it becomes the file when the context is left without error."""

    @abstractmethod
    def create(self, name: str, content: bytes) -> bool:
        """Make a file, unless it is there, in a folder that is made; whether it was made."""

    @abstractmethod
    def measure(self, name: str) -> tuple[int, str] | None:
        """A file's size in bytes and a mark that another file of this name would not have; None where there is none."""

    @abstractmethod
    def age(self, name: str) -> float | None:
        """Seconds since a file was written or touched; None where there is none."""

    @abstractmethod
    def touch(self, name: str) -> None:
        """Make a file young, if it is there."""

    @abstractmethod
    def list(self, inner: str = "") -> list[str]:
        """The last parts of the names of all files in the folder, or in one in it; none where there is no folder."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return self.measure(name) is not None

    @abstractmethod
    def tidy(self, inner: str | None = None) -> None:
        """Remove what killed workers left, and the empty folder; or the folder in it of this name, if that is empty."""

    def alone(self) -> AbstractContextManager[object]:
        """A context that one process of this machine enters at a time; others are refused with a BusyError."""
        return contextlib.nullcontext()


class LocalFolder(Folder):
    """A folder of a disk, which several machines may share.

    Args:
        path: of the folder, which need not be there.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, name: str, limit: int) -> bytes:
        """As declared."""
        return read_bytes(self.path / name, limit)

    def read_head(self, name: str, size: int) -> bytes:
        """As declared."""
        with open_regular(self.path / name) as file:
            return file.read(size)

    def write(self, name: str) -> AbstractContextManager[pathlib.Path]:
        """As declared."""
        return replacing(self.path / name)

    def create(self, name: str, content: bytes) -> bool:
        """As declared. Raises FileNotFoundError where the folder goes meanwhile, and OSError for a full disk."""
        return create_exclusively(self.path / name, content)

    def measure(self, name: str) -> tuple[int, str] | None:
        """As declared."""
        try:
            about = os.stat(self.path / name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return about.st_size, f"{about.st_ino} {about.st_mtime_ns}"

    def age(self, name: str) -> float | None:
        """As declared."""
        try:
            return time.time() - os.stat(self.path / name).st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None

    def touch(self, name: str) -> None:
        """As declared."""
        with contextlib.suppress(OSError):
            os.utime(self.path / name)

    def list(self, inner: str = "") -> list[str]:
        """As declared."""
        try:
            return [entry.name for entry in os.scandir(self.path / inner)]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def remove(self, name: str) -> None:
        """As declared."""
        (self.path / name).unlink(missing_ok=True)

    def tidy(self, inner: str | None = None) -> None:
        """As declared."""
        if inner is None:
            remove_unfinished(self.path)
        with contextlib.suppress(OSError):
            (self.path / (inner or "")).rmdir()

    def alone(self) -> AbstractContextManager[object]:
        """As declared."""
        return hold(lock_beside(self.path), self.path) if self.path.exists() else contextlib.nullcontext()


def write_whole(folder: Folder, name: str, content: bytes) -> None:
    """Replace a file of a folder."""
    with folder.write(name) as unfinished, open(unfinished, "wb") as file:
        file.write(content)
        sync(file)


def remove_all(folder: Folder, inner: str) -> None:
    """Remove a folder in a folder with its files."""
    for name in folder.list(inner):
        folder.remove(f"{inner}/{name}")
    folder.tidy(inner)
