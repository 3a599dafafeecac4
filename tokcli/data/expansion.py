"""Which paths an input stands for: folders, files, patterns, braces, `.txt` lists, and a list on standard input."""

import glob
import io
import os
import posixpath
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tokcli.data.places import find_remote, is_remote, localize, measure
from tokcli.errors import InputError
from tokcli.files import read_text

LIST_SUFFIX = ".txt"
LONGEST_LIST = 1 << 28
"""Bytes of a list; some million paths."""
STANDARD_INPUT = "-"

MOST_BRACED = 10_000_000
"""Paths that braces may stand for."""

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d{1,12})\.\.(\d{1,12})")

UNREAD = (
    dict.fromkeys((".jpg", ".gif", ".heic", ".heif", ".avif", ".jxl", ".svg", ".raw", ".cr2", ".nef", ".dng", ".psd")),
    dict.fromkeys((".wav", ".m4a", ".aac", ".wma", ".amr", ".ape", ".mka", ".mp4", ".webm")),
)
"""Suffixes of pictures and of sounds, each with one that is read; people wonder where the others are."""


def expand_braces(given: str) -> Iterator[str]:
    """`{00..09}.tar` counts from 00 to 09, `{train,val}.tar` is both; several braces make all combinations.

    A path that exists as it is written is taken as it is.

    Raises:
        InputError: The braces stand for too many paths.
    """
    match = BRACES.search(given)
    choices = _read_braces(match[1]) if match else None
    if match is None or choices is None or (not is_remote(given) and os.path.lexists(localize(given))):
        yield given
        return
    if len(choices) > MOST_BRACED:
        raise InputError(f"'{given}' stands for {len(choices):,} paths; at most {MOST_BRACED:,} are counted")
    for choice in choices:
        for rest in expand_braces(given[match.end() :]):
            yield f"{given[: match.start()]}{choice}{rest}"


def _read_braces(inside: str) -> Sequence[str] | None:
    """What stands between braces, one by one; None where it is neither a range nor a list."""
    match = RANGE.fullmatch(inside)
    if match is None:
        return inside.split(",") if "," in inside else None
    first, last = int(match[1]), int(match[2])
    width = len(match[1]) if match[1].startswith("0") or len(match[1]) == len(match[2]) else 0
    return _Counted(range(first, last + 1) if first <= last else range(first, last - 1, -1), width)


def expand(
    given: str, suffixes: tuple[str, ...], archives: tuple[str, ...], noun: str, skipped: Counter[str]
) -> tuple[str, list[str]]:
    """One input's root and its paths, absolute, or URLs.

    Args:
        given: As a user wrote it, without braces.
        suffixes: Of the files that are looked for.
        archives: What the names of archives end in, which are taken as they are.
        noun: What such files are, in the plural, for messages.
        skipped: What is passed over is counted into it, by suffix.

    Raises:
        InputError: It is missing, unsuitable or empty.
    """
    if given == STANDARD_INPUT:
        return _read_standard_input(noun)
    expanded = localize(given)
    if is_remote(expanded):
        return _expand_remote(expanded, suffixes, archives, noun, skipped)
    path = os.path.abspath(expanded)
    if not os.path.lexists(expanded) and glob.has_magic(expanded) and "\0" not in expanded:
        return _match(given, path, suffixes, archives, noun, skipped)
    if not os.path.exists(expanded):
        raise InputError(f"there is no file or folder '{given}' (relative paths start at {os.getcwd()})")
    if os.path.isdir(path):
        inside = _find_files_under(path, suffixes, skipped)
        if not inside:
            raise InputError(_explain_empty(given, path, suffixes, archives, noun, skipped))
        return path, inside
    if path.lower().endswith(LIST_SUFFIX):
        return _read_list(given, path, noun)
    if not path.lower().endswith((*suffixes, *archives)):
        known = ", ".join([*suffixes, *archives])
        raise InputError(f"'{given}' is neither a folder nor a {LIST_SUFFIX} list of {noun}, and not one of {known}")
    return os.path.dirname(path), [path]


def _explain_empty(
    given: str, folder: str, suffixes: tuple[str, ...], archives: tuple[str, ...], noun: str, skipped: Counter[str]
) -> str:
    """What is said of a folder without a file of the kind."""
    found = ", ".join(f"{count} {suffix}" for suffix, count in sorted(skipped.items()))
    beside = f"; it holds {found}, which cannot be read here" if found else ""
    packed = sorted(name for name in os.listdir(folder) if name.lower().endswith(archives))
    if packed:
        ending = os.path.splitext(packed[0])[1]
        beside = (
            f"; it holds {len(packed)} {ending}, which are read by their names: '{os.path.join(given, '*' + ending)}'"
        )
    return f"'{given}' holds no {noun}: looked in it and its subfolders for {', '.join(suffixes)}{beside}"


def _expand_remote(
    url: str, suffixes: tuple[str, ...], archives: tuple[str, ...], noun: str, skipped: Counter[str]
) -> tuple[str, list[str]]:
    """The root and the URLs of a remote file, folder, list or pattern."""
    root = posixpath.dirname(url)
    last = posixpath.basename(url).lower()
    if not glob.has_magic(url.partition("://")[2]):
        if last.endswith((*suffixes, *archives)):
            return root, [url]
        if last.endswith(LIST_SUFFIX):
            return _read_list(url, url, noun)
    found = [place.url for place in find_remote(url)]
    inside = [each for each in found if each.lower().endswith(suffixes)]
    skipped.update(find_unread(found, suffixes))
    if not inside:
        inside = [each for each in found if each.lower().endswith(archives)]
    if not inside:
        known = ", ".join([*suffixes, *archives])
        raise InputError(f"'{url}' holds no {noun}: none of the {len(found)} files there is one of {known}")
    return root, inside


def _match(
    given: str, pattern: str, suffixes: tuple[str, ...], archives: tuple[str, ...], noun: str, skipped: Counter[str]
) -> tuple[str, list[str]]:
    """The files that a pattern stands for, below the folder that its beginning names; archives where none is one."""
    found = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    inside = [path for path in found if path.lower().endswith(suffixes)]
    skipped.update(find_unread(found, suffixes))
    if not inside:
        inside = [path for path in found if path.lower().endswith(archives)]
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


def find_unread(paths: Sequence[str], suffixes: tuple[str, ...]) -> list[str]:
    """The suffixes of those files which are of the same modality as `suffixes`, and not among them."""
    unread = next((known for known in UNREAD if set(known) & set(suffixes)), {})
    endings = (os.path.splitext(path)[1].lower() for path in paths)
    return [ending for ending in endings if ending in unread and ending not in suffixes]


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
        skipped.update(find_unread(shown, suffixes))
    return sorted(paths)


def _read_list(given: str, path: str, noun: str) -> tuple[str, list[str]]:
    """The root and the paths of the files that a list names."""
    try:
        text = _read_remote_text(path) if is_remote(path) else read_text(path, LONGEST_LIST)
    except InputError as error:
        raise InputError(f"the list '{given}' cannot be read as UTF-8 text: {error}") from error
    return _resolve_list(text, given, os.path.dirname(path), noun)


def _read_remote_text(url: str) -> str:
    place = measure(url)
    if place.size > LONGEST_LIST:
        raise InputError(f"it has {place.size:,} bytes; at most {LONGEST_LIST:,} are read")
    try:
        return place.read(0, place.size).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(error) from error


def _resolve_list(text: str, given: str, folder: str, noun: str) -> tuple[str, list[str]]:
    """The root and the paths of lines that are relative to `folder`."""
    listed = [line.strip() for line in io.StringIO(text, newline=None)]
    paths = [_resolve_line(each, folder) for line in listed if line for each in expand_braces(line)]
    if not paths:
        raise InputError(f"the list '{given}' is empty; expected the path of one of the {noun} on each line")
    if any(map(is_remote, paths)) or all(_holds(folder, path) for path in paths):
        return folder, paths
    return os.path.commonpath([os.path.dirname(path) for path in paths]), paths


def _resolve_line(line: str, folder: str) -> str:
    """The path or URL that a line of a list in `folder` names."""
    line = localize(line)
    if is_remote(line):
        return line
    return f"{folder}/{line}" if is_remote(folder) else os.path.normpath(os.path.join(folder, line))


def _holds(folder: str, path: str) -> bool:
    """Whether `path` is `folder` or lies somewhere in it."""
    return os.path.commonpath([folder, path]) == folder


class _Counted(Sequence[str]):
    """Numbers as words, with zeros before them up to a width; written when they are asked for."""

    def __init__(self, numbers: range, width: int) -> None:
        self._numbers = numbers
        self._width = width

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        return str(self._numbers[index]).zfill(self._width)
