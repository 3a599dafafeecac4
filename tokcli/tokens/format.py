"""What a format of token files is, and which one a path stands for."""

import importlib
import pathlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from tokcli.errors import InputError, UsageError
from tokcli.files import exists, find_problem
from tokcli.tokens import FORMATS
from tokcli.tokens.header import TokenHeader
from tokcli.tokens.reading import TokenReader
from tokcli.tokens.spool import Spool


class TokenFormat(ABC):
    """One way to keep tokens on the disk, as a file or as a folder.

    Attributes:
        name: of the format, as an unfinished file keeps it: one that was begun in another format is not resumed.
        suffix: what its paths end in, with the dot; empty for a format of folders.
        usage: what a person writes for a path and which items it takes, for the message that lists all formats.
        ragged: whether the items of a file may differ in grid.
        preamble: bytes that the spool keeps free before the first token, for a format that publishes the spool itself.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    usage: ClassVar[str]
    ragged: ClassVar[bool] = True
    preamble: ClassVar[int] = 0

    @abstractmethod
    def publish(self, spool: Spool, header: TokenHeader, path: pathlib.Path) -> None:
        """Make the finished `path` of everything in `spool`, replacing what is there.

        At every moment a reader finds the old file, the new one, or none, and never parts of two: what is written goes
        to `spool.folder` first and is then moved into place. The spool holds one item at least.
        """

    @abstractmethod
    def open(self, path: pathlib.Path) -> TokenReader:
        """The items of `path`, which exists; tokens are read when they are asked for, and none are to open it.

        Raises:
            MismatchError: where it was not written by this format, or is damaged, in whatever way; asking for an item
                raises it too.
            OSError: where it cannot be read.
        """

    def accepts(self, path: pathlib.Path) -> bool:
        """Whether a path, which need not exist, stands for this format."""
        return path.suffix == self.suffix and not path.is_dir()

    def has_header(self, path: pathlib.Path) -> bool:
        """Whether what lies at `path` says whose tokens it holds, whole or damaged; a generator's file says nothing."""
        return True

    def check_names(self, path: pathlib.Path, names: Sequence[str]) -> None:  # noqa: B027 (most take any)
        """Refuse, with a UsageError, names of items that `path` could not hold."""

    def check_free(self, path: pathlib.Path, force: bool) -> None:
        """Refuse, with a UsageError, to write to `path` where something is that must not be replaced.

        force: whether an older file of tokens may be.
        """
        if path.exists() and not force:
            raise UsageError(f"{path} exists already; overwrite it with --force, or choose another name")

    def settings(self) -> dict[str, Any]:
        """What else must be the same where an unfinished file is resumed; plain JSON values."""
        return {}

    def path_for(self, stem: str) -> str:
        """How a message names a path of this format."""
        return stem + self.suffix if self.suffix else "a folder"


def all_formats() -> list[TokenFormat]:
    """One of each format in the table, in its order."""
    places = [place.split(":") for place in FORMATS.values()]
    return [getattr(importlib.import_module(module), name)() for module, name in places]


def format_of(path: pathlib.Path) -> TokenFormat:
    """The format that a path stands for. Raises UsageError, listing all formats, where it is none."""
    formats = all_formats()
    for candidate in formats:
        if candidate.accepts(path):
            return candidate
    *others, last = (each.usage for each in formats)
    raise UsageError(f"{path}: tokens are kept as {', '.join(others)} or {last}")


def has_header(path: pathlib.Path) -> bool:
    """Whether `path`, which exists, says whose tokens it holds, as all that `tok encode` wrote does."""
    return any(candidate.accepts(path) and candidate.has_header(path) for candidate in all_formats())


def open_tokens(path: str | pathlib.Path) -> TokenReader:
    """Open a token file of any format.

    Raises:
        InputError: where there is nothing to read.
        MismatchError: where it was not written by tok encode, by another version of it, or is damaged.
        UsageError: for a path of no known format.
    """
    path = pathlib.Path(path)
    path = path if path.name not in ("", "..") else path.resolve()
    problem = find_problem(path)
    if problem and not exists(path):
        begun = exists(path.with_name(f".{path.name}.partial"))
        hint = "; an encode of it was interrupted, finish it with --resume" if begun else ""
        raise InputError(f"there is no token file {path}{hint}")
    if problem and not path.is_dir():
        raise InputError(f"{path}: {problem}")
    try:
        return format_of(path).open(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
