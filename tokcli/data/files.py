"""Which files a user means: folders, single files and text lists turn into names under one root.

A name is the file's path relative to that root, with `/`. One input is its own root (a file: its folder); several
inputs share the deepest folder that holds them all. So names are unique, and mirror the tree they came from.
"""

import contextlib
import glob
import importlib
import io
import os
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

from tokcli.contracts import SourceFiles
from tokcli.errors import InputError
from tokcli.files import open_regular, read_text

LIST_SUFFIX = ".txt"
LONGEST_LIST = 1 << 28
"""Bytes of a list; some million paths."""
STANDARD_INPUT = "-"

UNREAD = (
    dict.fromkeys((".jpg", ".gif", ".heic", ".heif", ".avif", ".jxl", ".svg", ".raw", ".cr2", ".nef", ".dng", ".psd")),
    dict.fromkeys((".wav", ".m4a", ".aac", ".wma", ".amr", ".ape", ".mka", ".mp4", ".webm")),
)
"""Suffixes of pictures and of sounds, each with one that is read; people wonder where the others are."""

ARCHIVES: dict[str, str] = {}
"""What the names of archives end in, lower case with the dot, and the `module:Class` of the `Files` in such a one."""


class Files(ABC):
    """Named files that can be opened in any order, by any worker process.

    To read files from an archive: a subclass of this in a file of this folder, and a line in `ARCHIVES`. It is built as
    `Class(path, suffixes, noun)` of a file that exists, with the arguments of `find_files`, and raises InputError where
    it cannot be read or holds none. Commands and the recipes of `images` and `audio` then take such a path.

    Attributes:
        names: Of the files, each once, relative, with `/`. A sequence may compute them when they are asked for.
        skipped: How many files of this modality lie beside them that no decoder here reads, by their suffix.
    """

    names: Sequence[str]
    skipped: Mapping[str, int] = {}

    @abstractmethod
    def opener(self, index: int) -> Callable[[], BinaryIO]:
        """What opens file `index`, small enough to be sent to another process.

        It raises InputError, with the reason but without the name, where the file cannot be opened.
        """

    @abstractmethod
    def resolved(self, count: int | None = None) -> Iterator[str]:
        """What is opened for each of the first `count` files (None: all): alike for one file under two names."""

    def about(self, index: int) -> Mapping[str, Any]:
        """What else is known of file `index`, as its label or caption; plain JSON values."""
        return {}

    def open(self, index: int) -> BinaryIO:
        """Open file `index`. Raises InputError as its opener does."""
        return self.opener(index)()


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
        return partial(_refuse, self.refused[name]) if name in self.refused else partial(open_file, self.path(index))

    def path(self, index: int) -> str:
        """Where file `index` lies."""
        return os.path.join(self.root, *self.names[index].split("/"))

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


def open_file(path: str) -> BinaryIO:
    """Open a file to read bytes from. Raises InputError, with the reason but without the path, where that fails."""
    return open_regular(path)


def _refuse(reason: str) -> BinaryIO:
    raise InputError(reason)


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
        inputs: Folders (searched with their subfolders, hidden entries skipped), single files, and `.txt` lists of one
            path per line, relative to the list's folder; patterns such as `photos/*.jpg`, `**` for any folders; `-`
            for such a list on standard input, relative to the current folder. `~` is expanded.
        suffixes: What to look for, lower case with the dot.
        noun: What such files are, in the plural, for messages.

    Raises:
        InputError: An input is missing, unsuitable or empty. The lines of a list are not checked here.
    """
    if not inputs:
        raise InputError(f"no input was given; expected a folder, a file or a {LIST_SUFFIX} list of {noun}")
    for given in inputs:
        if given.lower().endswith(tuple(ARCHIVES)) and os.path.isfile(os.path.expanduser(given)):
            return _open_archive(given, inputs, suffixes, noun)
    roots, paths = [], []
    skipped: Counter[str] = Counter()
    for given in inputs:
        root, inside = _expand(given, tuple(suffixes), noun, skipped)
        roots.append(root)
        paths += inside
    root = os.path.commonpath(roots)
    names = [os.path.relpath(path, root).replace(os.sep, "/") for path in dict.fromkeys(paths)]
    return FilesInFolders(root, *_refuse_odd(names), skipped)


def describe_skipped(files: SourceFiles | None) -> str | None:
    """`2 .gif and 1 .heic files are skipped, ...`; None where none are."""
    if files is None or not files.skipped:
        return None
    counts = [f"{count} {suffix}" for suffix, count in sorted(files.skipped.items())]
    are = "file is" if sum(files.skipped.values()) == 1 else "files are"
    return f"{' and '.join(counts)} {are} skipped, which cannot be read here; convert them to have them too"


def _open_archive(given: str, inputs: Sequence[str], suffixes: Sequence[str], noun: str) -> Files:
    """The files in the archive `given`, which must be all of `inputs`."""
    if len(inputs) > 1:
        raise InputError(f"'{given}' is an archive, which is read alone; expected no other input beside it")
    place = next(place for ending, place in ARCHIVES.items() if given.lower().endswith(ending))
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)(os.path.abspath(os.path.expanduser(given)), suffixes, noun)


def _refuse_odd(names: list[str]) -> tuple[list[str], dict[str, str]]:
    """The names with those written out that are not UTF-8 or hold a NUL; and these again, each with the reason.

    One such file is one item that fails, whatever else there is to do.
    """
    together = "/".join(names)
    if "\0" not in together and _is_utf8(together):  # the usual case, fast for a million names
        return names, {}
    refused: dict[str, str] = {}
    taken = set(names)
    for index, name in enumerate(names):
        if "\0" in name or not _is_utf8(name):
            reason = "its name holds a NUL" if "\0" in name else "its name is not UTF-8; rename the file"
            shown = name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
            while shown in taken:
                shown += "_"
            taken.add(shown)
            names[index] = shown
            refused[shown] = f"the file cannot be opened: {reason}"
    return names, refused


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _expand(given: str, suffixes: tuple[str, ...], noun: str, skipped: Counter[str]) -> tuple[str, list[str]]:
    """One input's root and its absolute file paths; what is passed over is counted into `skipped`."""
    if given == STANDARD_INPUT:
        return _read_standard_input(noun)
    expanded = os.path.expanduser(given)
    path = os.path.abspath(expanded)
    if not os.path.lexists(expanded) and glob.has_magic(expanded) and "\0" not in expanded:
        return _match(given, path, suffixes, noun, skipped)
    if not os.path.exists(expanded):
        raise InputError(f"there is no file or folder '{given}' (relative paths start at {os.getcwd()})")
    if os.path.isdir(path):
        inside = _find_files_under(path, suffixes, skipped)
        if not inside:
            found = ", ".join(f"{count} {suffix}" for suffix, count in sorted(skipped.items()))
            beside = f"; it holds {found}, which cannot be read here" if found else ""
            raise InputError(
                f"'{given}' holds no {noun}: looked in it and its subfolders for {', '.join(suffixes)}{beside}"
            )
        return path, inside
    if path.lower().endswith(LIST_SUFFIX):
        return _read_list(given, path, noun)
    if not path.lower().endswith(suffixes):
        known = ", ".join([*suffixes, *ARCHIVES])
        raise InputError(f"'{given}' is neither a folder nor a {LIST_SUFFIX} list of {noun}, and not one of {known}")
    return os.path.dirname(path), [path]


def _match(
    given: str, pattern: str, suffixes: tuple[str, ...], noun: str, skipped: Counter[str]
) -> tuple[str, list[str]]:
    """The files that a pattern stands for, below the folder that its beginning names."""
    found = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    inside = [path for path in found if path.lower().endswith(suffixes)]
    skipped.update(_find_unread(found, suffixes))
    if not inside:
        many = f"none of the {len(found)} files is" if found else "no file is"
        raise InputError(f"'{given}' matches no {noun}: {many} one of {', '.join(suffixes)}")
    root = pattern
    while glob.has_magic(root):
        root = os.path.dirname(root)
    return root, inside


def _read_standard_input(noun: str) -> tuple[str, list[str]]:
    """The files that a list on standard input names, a path a line, relative to the current folder."""
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(f"'-' reads a list of {noun} from standard input, a path a line; pipe one: ls | tok encode -")
    return _resolve_list(sys.stdin.read(LONGEST_LIST), STANDARD_INPUT, os.getcwd(), noun)


def _find_unread(paths: Sequence[str], suffixes: tuple[str, ...]) -> list[str]:
    """The suffixes of those files which are of the same modality as `suffixes`, and not among them."""
    unread = next((known for known in UNREAD if set(known) & set(suffixes)), {})
    endings = (os.path.splitext(path)[1].lower() for path in paths)
    return [ending for ending in endings if ending in unread and ending not in suffixes]


def _find_links(folder: str) -> set[str]:
    """The names in a folder that are symbolic links; none where it cannot be listed."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_symlink()}
    return set()


def _find_files_under(folder: str, suffixes: tuple[str, ...], skipped: Counter[str]) -> list[str]:
    """The paths of all files with these suffixes in a folder and its subfolders, sorted; links are followed.

    Files of the same modality that are not read are counted into `skipped`.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"cannot look into the folder '{error.filename}': {error.strerror}") from error

    paths = []
    for inner, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if inner != folder and _holds(os.path.realpath(inner), os.path.realpath(os.path.dirname(inner))):
            folders.clear()  # a link back to a folder above would be walked for ever
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        shown = [name for name in names if not name.startswith(".")]
        paths += [os.path.join(inner, name) for name in shown if name.lower().endswith(suffixes)]
        skipped.update(_find_unread(shown, suffixes))
    return sorted(paths)


def _read_list(given: str, path: str, noun: str) -> tuple[str, list[str]]:
    """The root and the absolute paths of the files that a list names."""
    try:
        text = read_text(path, LONGEST_LIST)
    except InputError as error:
        raise InputError(f"the list '{given}' cannot be read as UTF-8 text: {error}") from error
    return _resolve_list(text, given, os.path.dirname(path), noun)


def _resolve_list(text: str, given: str, folder: str, noun: str) -> tuple[str, list[str]]:
    """The root and the absolute paths of lines that are relative to `folder`."""
    listed = [line.strip() for line in io.StringIO(text, newline=None)]
    paths = [os.path.normpath(os.path.join(folder, os.path.expanduser(line))) for line in listed if line]
    if not paths:
        raise InputError(f"the list '{given}' is empty; expected the path of one of the {noun} on each line")
    if all(_holds(folder, item) for item in paths):
        return folder, paths
    return os.path.commonpath([os.path.dirname(item) for item in paths]), paths


def _holds(folder: str, path: str) -> bool:
    """Whether `path` is `folder` or lies somewhere in it."""
    return os.path.commonpath([folder, path]) == folder
