"""Which files a user means: folders, single files and text lists turn into names under one root.

A name is the file's path relative to that root, with `/`. One input is its own root (a file: its folder); several
inputs share the deepest folder that holds them all. So names are unique, and mirror the tree they came from.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokcli.errors import InputError

LIST_SUFFIX = ".txt"


@dataclass(frozen=True)
class Files:
    """Files by name: `path(index)` is where `names[index]` lies under `root`."""

    root: str
    names: list[str]

    def path(self, index: int) -> str:
        """Where to open file `index`."""
        return os.path.join(self.root, *self.names[index].split("/"))

    def resolved(self, count: int | None = None) -> Iterator[str]:
        """Where the first `count` files (None: all) lie once links are followed; a file in two folders is one path.

        Each folder is resolved and listed once and no file is asked about, so that a million take a second.
        """
        folders: dict[str, tuple[str, set[str]]] = {}
        for each in self.names if count is None else self.names[:count]:
            inner, _, name = each.rpartition("/")
            if inner not in folders:
                folder = os.path.join(self.root, *inner.split("/"))
                folders[inner] = os.path.realpath(folder), _links_in(folder)
            place, links = folders[inner]
            yield os.path.realpath(os.path.join(place, name)) if name in links else f"{place}{os.sep}{name}"


def find_files(inputs: Sequence[str], suffixes: Sequence[str], noun: str) -> Files:
    """The files that `inputs` stand for: in the order of the inputs, sorted within a folder, each file once.

    inputs: folders (searched with their subfolders, hidden entries skipped), single files, and `.txt` lists of one
        path per line, relative to the list's folder. `~` is expanded.
    suffixes: what to look for, lower case with the dot. noun: what such files are, in the plural, for messages.
    Raises InputError for an input that is missing, unsuitable or empty. The lines of a list are not checked here.
    """
    if not inputs:
        raise InputError(f"no input was given; expected a folder, a file or a {LIST_SUFFIX} list of {noun}")
    roots, paths = [], []
    for given in inputs:
        root, found = _expand(given, tuple(suffixes), noun)
        roots.append(root)
        paths += found
    root = os.path.commonpath(roots)
    names = [os.path.relpath(path, root).replace(os.sep, "/") for path in dict.fromkeys(paths)]
    return Files(root, names)


def _expand(given: str, suffixes: tuple[str, ...], noun: str) -> tuple[str, list[str]]:
    """One input's root and its absolute file paths."""
    expanded = os.path.expanduser(given)
    path = os.path.abspath(expanded)
    if not os.path.exists(expanded):
        raise InputError(f"there is no file or folder '{given}' (relative paths start at {os.getcwd()})")
    if os.path.isdir(path):
        found = _files_under(path, suffixes)
        if not found:
            raise InputError(f"'{given}' holds no {noun}: looked in it and its subfolders for {', '.join(suffixes)}")
        return path, found
    if path.lower().endswith(LIST_SUFFIX):
        return _read_list(given, path, noun)
    if not path.lower().endswith(suffixes):
        known = ", ".join(suffixes)
        raise InputError(f"'{given}' is neither a folder nor a {LIST_SUFFIX} list of {noun}, and not one of {known}")
    return os.path.dirname(path), [path]


def _links_in(folder: str) -> set[str]:
    """The names in a folder that are symbolic links; none where it cannot be listed."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_symlink()}
    return set()


def _files_under(folder: str, suffixes: tuple[str, ...]) -> list[str]:
    def refuse(error: OSError) -> None:
        raise InputError(f"cannot look into the folder '{error.filename}': {error.strerror}") from error

    found = []
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if place != folder and _holds(os.path.realpath(place), os.path.realpath(os.path.dirname(place))):
            folders.clear()  # a link back to a folder above would be walked for ever
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        suitable = (name for name in names if name.lower().endswith(suffixes) and not name.startswith("."))
        found += [os.path.join(place, name) for name in suitable]
    return sorted(found)


def _read_list(given: str, path: str, noun: str) -> tuple[str, list[str]]:
    folder = os.path.dirname(path)
    try:
        with open(path, encoding="utf-8") as lines:
            listed = [line.strip() for line in lines]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the list '{given}' cannot be read as UTF-8 text: {error}") from error
    found = [os.path.normpath(os.path.join(folder, os.path.expanduser(line))) for line in listed if line]
    if not found:
        raise InputError(f"the list '{given}' is empty; expected the path of one of the {noun} on each line")
    if all(_holds(folder, item) for item in found):
        return folder, found
    return os.path.commonpath([os.path.dirname(item) for item in found]), found


def _holds(folder: str, path: str) -> bool:
    """Whether `path` is `folder` or lies somewhere in it."""
    return os.path.commonpath([folder, path]) == folder
