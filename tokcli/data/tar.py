"""`X.tar`: pictures or sounds in a tar as WebDataset packs them, each read by itself and nothing unpacked.

What belongs together shares a key, the name up to the first dot of its last part: `a/7.jpg a/7.cls a/7.txt a/7.json`.
Every picture (or sound) is an item; `.cls` is its label, `.txt` its caption, `.json` whatever else is known of it. The
tar's headers are walked through once; where things lie is then kept in the cache, for the tar of this size and mark.

https://github.com/webdataset/webdataset describes the form.
"""

import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO

import numpy

from tokcli.contracts import make_mark
from tokcli.data.cache import recall
from tokcli.data.expansion import find_unread
from tokcli.data.named_files import Files, PackedNames, is_writable, make_shown, refuse
from tokcli.data.places import Place, measure, open_part
from tokcli.errors import InputError
from tokcli.untrusted import check_plain, parse_json

SIBLINGS = {".cls": "label", ".txt": "caption", ".json": "json"}
"""What lies beside an item under its key, and what it says."""

LONGEST_HEADER = 2**20
"""Bytes of one header, long names included; one of terabytes costs nobody memory."""

LONGEST_SIBLING = 2**20
LONGEST_NAME = 1024

BLOCK = 512
"""Bytes; everything in a tar begins at a multiple of it."""

VERSION = 1
"""Of the index."""


class Tar(Files):
    """The pictures or sounds in a tar.

    A tar that was cut off or is damaged further on has the items before that place, and one more, which fails.

    Raises:
        InputError: where it cannot be read, is no tar, or holds none of these.
    """

    def __init__(self, path: str, suffixes: Sequence[str], noun: str) -> None:
        try:
            self._place = place = measure(path)
            key = f"tar index {VERSION} {' '.join(suffixes)} {place.identity}"
            content = recall(key, partial(_make_index, place, tuple(suffixes)))
        except InputError as error:
            raise InputError(f"'{path}': {error}") from error
        with numpy.load(io.BytesIO(content), allow_pickle=False) as index:
            told = json.loads(index["told"].tobytes())
            self.names = PackedNames(index["names"].tobytes(), index["ends"])
            self._spans = index["spans"]
            self._siblings = index["siblings"]
        self._refused = {int(number): reason for number, reason in told["refused"].items()}
        self.skipped = told["skipped"]
        if not len(self.names):
            raise InputError(f"'{path}' holds no {noun}: none of its {told['members']} files is {', '.join(suffixes)}")
        usual = (self._siblings[:, :, 1] >= 0).sum(axis=0) * 2 > len(self.names)
        self._expected = [number for number in range(len(SIBLINGS)) if usual[number]]

    def opener(self, index: int) -> Callable[[], BinaryIO]:
        """What opens item `index`."""
        if index in self._refused:
            return partial(refuse, self._refused[index])
        start, size = map(int, self._spans[index])
        return partial(open_part, self._place, start, size)

    def resolved(self, count: int | None = None) -> Iterator[str]:
        """The tar and the place of each item in it."""
        url = self._place.resolved
        return (f"{url}:{start}" for start in self._spans[:count, 0])

    def mark(self, items: range) -> str:
        """What changes when the tar does."""
        return make_mark([f"{self._place.size} {self._place.mark} {items}"])

    def about(self, index: int) -> Mapping[str, Any]:
        """What lies beside item `index`. Raises InputError where that cannot be read."""
        said: dict[str, Any] = {}
        for number in (2, 1, 0):  # a label and a caption of their own count for more than what the JSON says
            start, size = map(int, self._siblings[index, number])
            if size >= 0:
                suffix = list(SIBLINGS)[number]
                if size > LONGEST_SIBLING:
                    raise InputError(f"its {suffix} has {size:,} bytes; at most {LONGEST_SIBLING:,} are read")
                said |= _read_sibling(suffix, self._place.read(start, size))
        return said

    def lacks(self, index: int) -> Sequence[str]:
        """What most other items of the tar have and item `index` has not."""
        return [word for number, word in enumerate(SIBLINGS.values()) if self._is_missing(index, number)]

    def _is_missing(self, index: int, number: int) -> bool:
        return number in self._expected and self._siblings[index, number, 1] < 0


def _read_sibling(suffix: str, content: bytes) -> dict[str, Any]:
    """What a file beside an item says. Raises InputError, with the reason."""
    try:
        if suffix == ".json":
            value = parse_json(content)
            check_plain(value, finite=True)
            return value if isinstance(value, dict) else {"json": value}
        text = content.decode("utf-8-sig").strip()
        check_plain(text)
    except ValueError as error:
        reason = f"it is not UTF-8 at byte {error.start}" if isinstance(error, UnicodeDecodeError) else error
        raise InputError(f"its {suffix} cannot be read: {reason}") from error
    if suffix == ".cls" and text.isdecimal() and len(text) < 19:
        return {"label": int(text)}
    return {SIBLINGS[suffix]: text}


def _make_index(place: Place, suffixes: tuple[str, ...]) -> bytes:
    """Where the items of a tar and their siblings lie, as an .npz."""
    listing = _Listing(suffixes)
    with open_part(place) as file:
        problem = _walk(file, place.size, listing)
    if problem is not None:
        listing.add_failing(*problem)
    shown = [name.encode() for name in listing.names]
    content = io.BytesIO()
    told = {"refused": listing.refused, "skipped": listing.skipped, "members": listing.members}
    numpy.savez(
        content,
        told=numpy.frombuffer(json.dumps(told).encode(), numpy.uint8),
        names=numpy.frombuffer(b"".join(shown), numpy.uint8),
        ends=numpy.cumsum([len(name) for name in shown], dtype=numpy.int64),
        spans=numpy.array(listing.spans, numpy.int64).reshape(-1, 2),
        siblings=listing.find_siblings(),
    )
    return content.getvalue()


class _Headers:
    """The file as `tarfile` reads it: only its headers, none of which may be large."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)


def _walk(file: BinaryIO, size: int, listing: "_Listing") -> tuple[str, str] | None:
    """Put every member into `listing`.

    Returns:
        What stands for the rest, and why it cannot be read; None where the tar is whole.

    Raises:
        InputError: for what is no tar, or has no member before the damage.
    """
    if not size:
        raise InputError("it is no tar but empty (0 bytes)")
    if file.read(2) == b"\x1f\x8b":
        raise InputError("it is compressed, so that nothing in it can be read by itself; gunzip it")
    file.seek(0)
    name = ""
    try:
        tar = tarfile.TarFile(fileobj=_Headers(file), errors="surrogateescape", encoding="utf-8")  # type: ignore
        while (member := tar.next()) is not None:
            name = member.name
            if member.isreg() and not member.issparse() and member.offset_data + member.size > size:
                return name, f"the tar ends at byte {size:,}, in the middle of it; fetch or pack the tar again"
            listing.add(member)
            tar.members.clear()  # type: ignore  # else all of them are kept
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror or error}") from error
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        if not listing.members:
            raise InputError(f"it is no tar, or damaged from its beginning: {error}") from error
        return f"{name}-and-what-follows", f"the tar is damaged behind {name}: {error}; fetch or pack the tar again"
    file.seek(tar.offset)
    block = file.read(BLOCK)
    if len(block) == BLOCK and not any(block):
        return None
    what = "has a damaged header" if len(block) == BLOCK else "is cut off: its end is missing"
    follows = f" behind {name}" if name else ""
    return f"{name}-and-what-follows", f"the tar {what} at byte {tar.offset:,}{follows}; fetch or pack the tar again"


class _Listing:
    """The items of a tar and what lies beside them, as they come."""

    def __init__(self, suffixes: tuple[str, ...]) -> None:
        self._suffixes = suffixes
        self._taken: set[str] = set()
        self._beside: dict[str, list[tuple[int, int] | None]] = {}
        self._linked: dict[str, tuple[int, int]] = {}
        self.names: list[str] = []
        self.spans: list[tuple[int, int]] = []
        self.refused: dict[int, str] = {}
        self.skipped: Counter[str] = Counter()
        self.members = 0

    def add(self, member: tarfile.TarInfo) -> None:
        """Take a member up, if it is an item or lies beside one."""
        self.members += 1
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if not parts or member.isdir() or any(part.startswith(".") and part != ".." for part in parts):
            return
        last = parts[-1]
        if last.lower().endswith(self._suffixes):
            self._add_item("/".join(parts), member)
            return
        rest = f".{last.partition('.')[2].lower()}"
        if rest in SIBLINGS and member.isreg():
            spans = self._beside.setdefault(_key_of("/".join(parts)), [None] * len(SIBLINGS))
            number = list(SIBLINGS).index(rest)
            spans[number] = spans[number] or (member.offset_data, member.size)
        else:
            self.skipped.update(find_unread([last], self._suffixes))

    def add_failing(self, name: str, reason: str) -> None:
        """An item that there is, and that cannot be read."""
        self.refused[len(self.names)] = reason
        self._append(name, (0, 0))

    def find_siblings(self) -> numpy.ndarray:
        """(items, siblings, 2): where each lies and its size; -1 where there is none."""
        found = numpy.full((len(self.names), len(SIBLINGS), 2), -1, numpy.int64)
        for index, name in enumerate(self.names):
            spans = self._beside.get(_key_of(name))
            for number, span in enumerate(spans or ()):
                if span is not None:
                    found[index, number] = span
        return found

    def _add_item(self, name: str, member: tarfile.TarInfo) -> None:
        span = member.offset_data, member.size
        if member.islnk():
            span = self._linked.get(member.linkname, span)
        reason = self._find_problem(name, member)
        if reason is None:
            self._linked[member.name] = span
            self._append(name, span)
        else:
            self.add_failing(name, reason)

    def _find_problem(self, name: str, member: tarfile.TarInfo) -> str | None:
        if member.islnk() and member.linkname not in self._linked:
            return "it is a link to what the tar does not hold before it"
        if not member.isreg() and not member.islnk():
            return "it is a link, not a file; pack the tar with --dereference"
        if member.issparse():
            return "it is stored with holes; pack the tar without --sparse"
        if ".." in name.split("/"):
            return "its name leaves the folder; rename it and pack the tar again"
        if len(name) > LONGEST_NAME or not is_writable(name):
            return f"its name is longer than {LONGEST_NAME} characters, or no UTF-8; rename it and pack the tar again"
        if name in self._taken:
            return "the tar holds another file of this name before it; names must be unique"
        return None

    def _append(self, name: str, span: tuple[int, int]) -> None:
        safe = "/".join("__" if part == ".." else part for part in name.split("/"))[:LONGEST_NAME]
        shown = make_shown(safe, self._taken)
        self._taken.add(shown)
        self.names.append(shown)
        self.spans.append(span)


def _key_of(name: str) -> str:
    inner, _, last = name.rpartition("/")
    return f"{inner}/{last.partition('.')[0]}"
