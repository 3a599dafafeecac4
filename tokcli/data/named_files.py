"""What all files have that a source reads: names, and a way to open each, wherever they lie."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy
from numpy.typing import NDArray

from tokcli.contracts import make_mark
from tokcli.errors import InputError


class Files(ABC):
    """Named files that can be opened in any order, by any worker process.

    To read files from an archive: a subclass of this in a file of this folder, and a line in `ARCHIVES` of
    `tokcli.data.files`. It is built as `Class(path, suffixes, noun)`, with the arguments of `find_files`; the path is
    that of a file that exists, or the URL of a remote one (`tokcli.data.places` reads both). It raises InputError where
    that cannot be read or holds none. Commands and the recipes of `images` and `audio` then take such paths, one or
    many at a time.

    Attributes:
        names: Of the files, each once, relative, with `/`. A sequence may compute them when they are asked for.
        skipped: How many files of this modality lie beside them that no decoder here reads, by their suffix.
        starts: The number of the first file of each part that is fetched or unpacked together (an archive, a group of
            rows), and at the end how many there are, (parts + 1,); None where there are no such parts.
    """

    names: Sequence[str]
    skipped: Mapping[str, int] = {}
    starts: NDArray[numpy.int64] | None = None

    @abstractmethod
    def opener(self, index: int) -> Callable[[], BinaryIO]:
        """What opens file `index`, small enough to be sent to another process.

        It raises InputError, with the reason but without the name, where the file cannot be opened.
        """

    @abstractmethod
    def resolved(self, count: int | None = None) -> Iterator[str]:
        """What is opened for each of the first `count` files (None: all): alike for one file under two names."""

    def about(self, index: int) -> Mapping[str, Any]:
        """What else is known of file `index`, as its label or caption; plain JSON values.

        It raises InputError, with the reason but without the name, where that cannot be read.
        """
        return {}

    def lacks(self, index: int) -> Sequence[str]:
        """What file `index` is not about though most files of its archive are, as `label`."""
        return ()

    def mark(self, items: range) -> str:
        """A word that is another one when one of these files changes; here where one has another name."""
        return make_mark(self.names[index] for index in items)

    def open(self, index: int) -> BinaryIO:
        """Open file `index`. Raises InputError as its opener does."""
        return self.opener(index)()


class PackedNames(Sequence[str]):
    """Many names in little memory, read when they are asked for.

    Args:
        content: All of them in UTF-8, one behind another.
        ends: Where each ends, (names,) int64.
    """

    def __init__(self, content: bytes, ends: numpy.ndarray) -> None:
        self._content = content
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        """One name, or a list of them."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        index = range(len(self))[index]
        start = self._ends[index - 1] if index else 0
        return self._content[start : self._ends[index]].decode()


def refuse(reason: str) -> BinaryIO:
    """Open nothing: raise an InputError with the reason."""
    raise InputError(reason)


def make_shown(name: str, taken: Collection[str]) -> str:
    """A name as it can be written down, which none of `taken` is."""
    shown = name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    while shown in taken:
        shown += "_"
    return shown


def is_writable(name: str) -> bool:
    """Whether a name can be written down as it is."""
    return "\0" not in name and _is_utf8(name)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
