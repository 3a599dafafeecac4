"""What is costly to get a second time is kept on the disk: parts of remote files, indexes of archives, unpacked rows.

    content = recall(key, make)         make() -> bytes is called only where no file holds them

The folder is `$TOK_CACHE`, else `tok` in the user's folder for caches. It holds at most `$TOK_CACHE_LIMIT` (10GB): what
was used longest ago goes first. Any number of processes share it: a file is there whole or not at all, one that is
removed while it is read stays readable, and one that is damaged is made again. A folder that cannot be written costs
time and nothing else.
"""

import contextlib
import hashlib
import mmap
import os
import pathlib
import re
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from tokcli.errors import UsageError
from tokcli.files import parse_size, remove_abandoned, write_bytes

T = TypeVar("T")

FOLDER = "TOK_CACHE"
"""Environment variable: the folder."""

LIMIT = "TOK_CACHE_LIMIT"
"""Environment variable: how much it may hold, as `500MB` or `2TB`."""

USUAL_LIMIT = 10_000_000_000

SWEPT = 0.02
"""Share of the limit that a process writes between two looks at how much there is."""

KEPT = 0.9
"""Share of the limit that is left when something has to go."""

HEAD = 64
"""Bytes before the content, which say what it is and its sum."""

AT_HAND = 200
"""Files that a process keeps open; each takes one of the usual 1024 descriptors, and no memory."""

IN_MEMORY = 4
"""Contents that a process keeps which no file holds."""

TOUCHED_EVERY = 60.0
"""Seconds after which a use is noted again."""

_open: OrderedDict[str, tuple[memoryview, float]] = OrderedDict()
_made: OrderedDict[str, memoryview] = OrderedDict()
_checked: dict[str, tuple[int, int]] = {}
"""Files whose content this process has found undamaged: inode and size."""
_written: dict[str, float] = {}
"""Bytes that this process wrote since it last looked, by folder; absent: it never looked."""


def recall(key: str, make: Callable[[], bytes]) -> memoryview:
    """The content that `key` stands for, from the disk where it is there; else it is made and kept.

    Args:
        key: all that the content depends on.
        make: makes it; what it raises is raised.
    """
    folder = find_cache_folder()
    path = _find_path(folder, key)
    held = _open.get(str(path))
    if held is not None and time.monotonic() - held[1] < TOUCHED_EVERY:
        return held[0]
    content = _read(path)
    if content is not None:
        return _remember(_open, str(path), (content, time.monotonic()), AT_HAND)[0]
    if str(path) in _made:
        return _made[str(path)]
    made = make()
    content = _keep(folder, path, made)
    if content is not None:
        return _remember(_open, str(path), (content, time.monotonic()), AT_HAND)[0]
    return _remember(_made, str(path), memoryview(made), IN_MEMORY)


def _remember(entries: OrderedDict[str, T], name: str, entry: T, most: int) -> T:
    """Put an entry last, and drop the first where there are too many. Several threads may do so."""
    entries[name] = entry
    with contextlib.suppress(KeyError):
        entries.move_to_end(name)
        while len(entries) > most:
            entries.popitem(last=False)
    return entry


def find_cache_folder() -> pathlib.Path:
    """Where the cache is; the folder need not exist."""
    given = os.environ.get(FOLDER)
    if given:
        return pathlib.Path(given).expanduser()
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tok"


def find_limit() -> int:
    """Bytes that the cache may hold. Raises UsageError where the environment says something else than a size."""
    given = os.environ.get(LIMIT)
    if not given:
        return USUAL_LIMIT
    limit = parse_size(given)
    if limit is None:
        raise UsageError(f"{LIMIT}: expected a size such as 500MB or 2TB, got '{given}'")
    return limit


def _find_path(folder: pathlib.Path, key: str) -> pathlib.Path:
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    return folder / digest[:2] / digest


def _head_of(content: bytes | memoryview) -> bytes:
    return f"tok cache 1 {zlib.crc32(content):08x} {len(content)}".encode().ljust(HEAD)


def _read(path: pathlib.Path) -> memoryview | None:
    """The content of a file that is there and undamaged; noted as used."""
    try:
        with open(path, "rb") as file:
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            status = os.fstat(file.fileno())
    except (OSError, ValueError):  # not there, or empty
        return None
    content = mapped[HEAD:]
    if _checked.get(str(path)) != (status.st_ino, status.st_size):
        if bytes(mapped[:HEAD]) != _head_of(content):
            return None
        _checked[str(path)] = status.st_ino, status.st_size
    with contextlib.suppress(OSError):
        os.utime(path)
    return content


def _keep(folder: pathlib.Path, path: pathlib.Path, content: bytes) -> memoryview | None:
    """Write it where it fits, and give it as it then lies on the disk; None where it could not be kept."""
    size, limit = HEAD + len(content), find_limit()
    if size > limit:
        return None
    written = _written.get(str(folder), limit) + size
    try:
        if written > SWEPT * limit:
            _sweep(folder, limit - size)
            written = 0.0
        write_bytes(path, _head_of(content) + content)
    except OSError:  # a full disk, a folder that others own
        return None
    _written[str(folder)] = written
    return _read(path)


def _sweep(folder: pathlib.Path, limit: int) -> None:
    """Remove what was used longest ago, where there is more than `limit`. Touches nothing that is not the cache's."""
    entries = []
    for inner in folder.glob("[0-9a-f][0-9a-f]"):
        remove_abandoned(inner)
        with contextlib.suppress(OSError), os.scandir(inner) as found:
            for entry in found:
                if re.fullmatch(r"[0-9a-f]{64}", entry.name):
                    with contextlib.suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        entries.append((status.st_mtime, status.st_size, entry.path))
    total = sum(size for _, size, _ in entries)
    if total <= limit:
        return
    for _, size, path in sorted(entries):
        if total <= KEPT * limit:
            return
        with contextlib.suppress(OSError):  # another process was faster
            os.unlink(path)
        total -= size
