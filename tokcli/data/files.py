"""Which files a user means: folders, files, lists and archives, here or remote, turn into names under one root.

A name is the file's path relative to that root, with `/`. One input is its own root (a file: its folder); several
inputs share the deepest folder that holds them all. So names are unique, and mirror the tree they came from. One
archive is its own root as well; of several, each counts as a folder: `00003.tar/a.jpg`.
"""

import contextlib
import importlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from tokcli.contracts import SourceFiles, make_mark
from tokcli.data.archives import FilesInArchives
from tokcli.data.expansion import LIST_SUFFIX, expand, expand_braces
from tokcli.data.named_files import Files, is_writable, make_shown, refuse
from tokcli.data.places import find_shared_root, is_remote, measure, open_part
from tokcli.errors import InputError
from tokcli.files import open_regular

ARCHIVES: dict[str, str] = {
    ".parquet": "tokcli.data.parquet:Parquet",
    ".tar": "tokcli.data.tar:Tar",
}
"""What the names of archives end in, lower case with the dot, and the `module:Class` of the `Files` in such a one."""


@dataclass(frozen=True)
class FilesInFolders(Files):
    """Files on the disk.

    Attributes:
        root: A folder that they all lie in.
        names: Their paths relative to it, with `/`.
        refused: Those of the names that stand for a path which nothing can be written under, with the reason.
        skipped: How many pictures or sounds of kinds that are not read were passed over, by suffix.
    """

    root: str
    names: Sequence[str]
    refused: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)

    def opener(self, index: int) -> Callable[[], BinaryIO]:
        """What opens file `index`."""
        name = self.names[index]
        return partial(refuse, self.refused[name]) if name in self.refused else partial(open_file, self.path(index))

    def path(self, index: int) -> str:
        """Where file `index` lies."""
        return os.path.join(self.root, *self.names[index].split("/"))

    def mark(self, items: range) -> str:
        """What changes when one of these files does: names, sizes and times."""
        return make_mark(f"{self.names[index]} {_stamp_file(self.path(index))}" for index in items)

    def resolved(self, count: int | None = None) -> Iterator[str]:
        """Where the first `count` files (None: all) lie once links are followed; a file in two folders is one path.

        Each folder is resolved and listed once and no file is asked about, so that a million take a second.
        """
        folders: dict[str, tuple[str, set[str]]] = {}
        for full in self.names if count is None else self.names[:count]:
            inner, _, name = full.rpartition("/")
            if inner not in folders:
                folder = os.path.join(self.root, *inner.split("/"))
                folders[inner] = os.path.realpath(folder), _find_links(folder)
            folder, links = folders[inner]
            yield os.path.realpath(os.path.join(folder, name)) if name in links else f"{folder}{os.sep}{name}"


class RemoteFiles(Files):
    """Files that fsspec reads, each asked about when it is opened.

    Args:
        urls: Of the files.
        skipped: How many of kinds that are not read were passed over, by suffix.
    """

    def __init__(self, urls: Sequence[str], skipped: Mapping[str, int]) -> None:
        root = len(find_shared_root(urls))
        self._urls = urls
        self.names = [url[root:] for url in urls]
        self.skipped = skipped

    def opener(self, index: int) -> Callable[[], BinaryIO]:
        """What opens file `index`."""
        return partial(_open_remote, self._urls[index])

    def resolved(self, count: int | None = None) -> Iterator[str]:
        """The URLs of the first `count` files (None: all)."""
        return iter(self._urls[:count])


def _open_remote(url: str) -> BinaryIO:
    return open_part(measure(url))


def open_file(path: str) -> BinaryIO:
    """Open a file to read bytes from. Raises InputError, with the reason but without the path, where that fails."""
    return open_regular(path)


def _find_links(folder: str) -> set[str]:
    """The names in a folder that are symbolic links; none where it cannot be listed."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_symlink()}
    return set()


def _stamp_file(path: str) -> str:
    """Size and time of change of a file, links followed; empty where it is not there."""
    try:
        about = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{about.st_size} {about.st_mtime_ns}"


@contextlib.contextmanager
def naming_item(name: str) -> Iterator[None]:
    """Whatever fails within is this one item's failure: an InputError with its name.

    Decoders of damaged files promise no single exception: Pillow raises what Python itself raises where it did not
    expect the bytes, asserts, and takes memory until there is none; a disk can fail in the middle of a file.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except MemoryError as error:
        raise InputError(f"{name}: there is not enough memory to decode it") from error
    except OSError as error:
        raise InputError(f"{name}: it cannot be read: {error.strerror or error}") from error
    except Exception as error:
        raise InputError(f"{name}: it cannot be decoded ({type(error).__name__}: {error})") from error


def find_files(inputs: Sequence[str], suffixes: Sequence[str], noun: str) -> Files:
    """The files that `inputs` stand for: in the order of the inputs, sorted within a folder, each file once.

    Args:
        inputs: Folders (searched with their subfolders, hidden entries skipped), single files, archives, and `.txt`
            lists of one path per line, relative to the list's folder; patterns such as `photos/*.jpg`, `**` for any
            folders, `{000..127}.tar` for all that the braces count; URLs that fsspec reads, of any of these; `-` for a
            list on standard input, relative to the current folder. `~` is expanded.
        suffixes: What to look for, lower case with the dot.
        noun: What such files are, in the plural, for messages.

    Raises:
        InputError: An input is missing, unsuitable or empty. The lines of a list are not checked here, unless they are
            archives.
    """
    if not inputs:
        raise InputError(f"no input was given; expected a folder, a file or a {LIST_SUFFIX} list of {noun}")
    roots, found = [], []
    skipped: Counter[str] = Counter()
    for given in inputs:
        for path in expand_braces(given):
            root, inside = expand(path, tuple(suffixes), tuple(ARCHIVES), noun, skipped)
            roots.append(root)
            found += inside
    paths = list(dict.fromkeys(found))
    archives = [path for path in paths if path.lower().endswith(tuple(ARCHIVES))]
    if archives and len(archives) < len(paths):
        other = next(path for path in paths if not path.lower().endswith(tuple(ARCHIVES)))
        raise InputError(
            f"'{archives[0]}' is an archive, which is read with other archives alone; got '{other}' beside it"
        )
    if len(archives) == 1:
        return open_archive(archives[0], suffixes, noun)
    if archives:
        return FilesInArchives(archives, suffixes, partial(open_archive, suffixes=suffixes, noun=noun))
    remote = [path for path in paths if is_remote(path)]
    if remote and len(remote) < len(paths):
        other = next(path for path in paths if not is_remote(path))
        raise InputError(f"'{remote[0]}' is remote and '{other}' is not; files of both are not read together")
    if remote:
        return RemoteFiles(remote, skipped)
    root = os.path.commonpath(roots)
    names = [os.path.relpath(path, root).replace(os.sep, "/") for path in paths]
    return FilesInFolders(root, *_refuse_odd(names), skipped)


def open_archive(path: str, suffixes: Sequence[str], noun: str) -> Files:
    """The files in one archive, whose name ends in one of `ARCHIVES`. Raises InputError as its class does."""
    place = next(place for ending, place in ARCHIVES.items() if path.lower().endswith(ending))
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)(path, suffixes, noun)


def describe_skipped(files: SourceFiles | None) -> str | None:
    """`2 .gif and 1 .heic files are skipped, ...`; None where none are."""
    if files is None or not files.skipped:
        return None
    counts = [f"{count} {suffix}" for suffix, count in sorted(files.skipped.items())]
    are = "file is" if sum(files.skipped.values()) == 1 else "files are"
    return f"{' and '.join(counts)} {are} skipped, which cannot be read here; convert them to have them too"


def _refuse_odd(names: list[str]) -> tuple[list[str], dict[str, str]]:
    """The names with those written out that are not UTF-8 or hold a NUL; and these again, each with the reason.

    One such file is one item that fails, whatever else there is to do.
    """
    if is_writable("/".join(names)):  # the usual case, fast for a million names
        return names, {}
    refused: dict[str, str] = {}
    taken = set(names)
    for index, name in enumerate(names):
        if not is_writable(name):
            reason = "its name holds a NUL" if "\0" in name else "its name is not UTF-8; rename the file"
            shown = make_shown(name, taken)
            taken.add(shown)
            names[index] = shown
            refused[shown] = f"the file cannot be opened: {reason}"
    return names, refused
