"""Files that are read in parts wherever they lie: on the disk, or where fsspec reads (`s3://`, `gs://`, `https://`).

A `Place` is one such file as it was when it was asked about: its size, and a mark that changes with its content. Parts
of remote files come in blocks of 4 MiB through the cache on the disk, each fetched once as long as it is kept there.
fsspec is told nothing here: credentials, endpoints and the like are those of its libraries and their environment.
"""

import contextlib
import glob
import importlib
import io
import os
import posixpath
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from tokcli.data.cache import recall
from tokcli.errors import InputError, TokError, UnreachableError, UsageError
from tokcli.files import find_problem, open_regular
from tokcli.optional import require

BLOCK = 2**22
"""Bytes of a remote file that are fetched at a time."""

TRIES = 3
"""Times that a block is asked for before it counts as unreadable; s3fs tries five times behind each."""

PAUSE = 0.5
"""Seconds before the second try, twice as many before the next."""

SMALL = 2**23
"""Parts of files of the disk up to so many bytes are read at once."""

SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")

LIBRARIES = {
    "s3": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcs"),
    "gcs": ("gcsfs", "gcs"),
    "http": ("aiohttp", "http"),
    "https": ("aiohttp", "http"),
    "hf": ("huggingface_hub", "hub"),
}
"""What fsspec needs beside itself for each scheme, and the extra of this project that brings it."""

CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile; FSSPEC_S3_ANON=true for public data",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS; FSSPEC_GS_TOKEN=anon for public data",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS; FSSPEC_GCS_TOKEN=anon for public data",
    "hf": "HF_TOKEN, or `hf auth login`",
}
"""Where the libraries look for them."""

MARKS = ("ETag", "etag", "generation", "blob_id", "md5Hash", "LastModified", "last_modified", "updated", "mtime")
"""What file systems tell that changes with a file's content, the surest first."""

BUGS = (TypeError, AttributeError, NameError, AssertionError)
"""What no network raises: a mistake in a program, which must look like one."""


class Troubles:
    """How often something could not be reached, in this process.

    Libraries that decode make errors of their own of those of their files, or none: counting is what they cannot hide.
    """

    count = 0


@contextlib.contextmanager
def counting_troubles() -> Iterator[None]:
    """What fails within is the fault of the place where items lie."""
    try:
        yield
    except (InputError, OSError):
        Troubles.count += 1
        raise


@dataclass(frozen=True)
class Place:
    """A file, on the disk or remote.

    Attributes:
        url: a path, or what fsspec reads.
        size: in bytes.
        mark: changes when the file does.
    """

    url: str
    size: int
    mark: str

    @property
    def identity(self) -> str:
        """All that its content depends on, for the key of what is made of it."""
        return f"{self.url} {self.size} {self.mark}"

    @property
    def resolved(self) -> str:
        """Where it lies once links are followed."""
        return self.url if is_remote(self.url) else os.path.realpath(self.url)

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes from `start` on; fewer where the file ends. Raises InputError as `open_part` does."""
        with open_part(self, start, size) as file:
            return file.read()


def is_remote(given: str) -> bool:
    """Whether it is no path of this machine."""
    return SCHEME.match(given) is not None and not given.lower().startswith("file://")


def localize(given: str) -> str:
    """A path without `file://` and with its `~` expanded; anything remote as it is."""
    if is_remote(given):
        return given
    return os.path.expanduser(given[len("file://") :] if given.lower().startswith("file://") else given)


def measure(url: str) -> Place:
    """What lies at a path or a URL.

    Raises:
        InputError: where there is nothing that can be read; with the reason but without the URL.
        UsageError: where the library for such a URL is absent.
    """
    if is_remote(url):
        system, path = find_system(url)
        return _describe(url, _ask(url, partial(system.info, path)))
    problem = find_problem(url)
    if problem:
        raise InputError(problem)
    status = os.stat(url)
    return Place(url, status.st_size, _mark_of(status))


def find_remote(url: str) -> list[Place]:
    """The files that a remote folder holds, or that a remote pattern stands for, sorted.

    Raises:
        InputError: where it cannot be listed, naming it.
        UsageError: where the library for such a URL is absent.
    """
    system, path = find_system(url)
    scheme = url.partition("://")[0]
    lists = system.glob if glob.has_magic(path) else system.find
    try:
        found = _ask(url, partial(lists, path, detail=True))
        if not found:  # a pattern in a bucket that is not there, or that is not to be read, matches nothing
            _ask(url, partial(system.ls, re.split(r"[*?\[]", path)[0].rpartition("/")[0] or path, detail=False))
    except InputError as error:
        raise InputError(f"'{url}' cannot be listed: {error}") from error
    entries = [each for each in found.values() if each.get("type") == "file"]
    urls = [each["name"] if SCHEME.match(each["name"]) else f"{scheme}://{each['name']}" for each in entries]
    return sorted(map(_describe, urls, entries), key=lambda place: place.url)


@counting_troubles()
def open_part(place: Place, start: int = 0, size: int | None = None) -> BinaryIO:
    """A part of a file, as a file of its own; it can be called in any process.

    Args:
        place: the file.
        start: the first byte of the part.
        size: of the part, in bytes; None: all that follow.

    Raises:
        InputError: where the file is gone or is another one by now; with the reason but without the URL. What is read
            later raises OSError.
    """
    size = max(0, min(place.size - start, place.size if size is None else size))
    if is_remote(place.url):
        return io.BufferedReader(_Part(partial(_read_blocks, place), start, size))
    file = open_regular(place.url)
    try:
        if _mark_of(os.fstat(file.fileno())) != place.mark:
            raise InputError("it was changed while it was being read; give the command again")
        if size <= SMALL:
            return io.BytesIO(os.pread(file.fileno(), size, start))
    except BaseException:
        file.close()
        raise
    return io.BufferedReader(_Part(lambda first, count: os.pread(file.fileno(), count, first), start, size, file))


class _Part(io.RawIOBase):
    """Bytes of another file, from `start` on.

    Args:
        read_at: gives at most so many bytes (its second argument) from a byte on (its first).
        start: the first byte.
        size: how many there are.
        file: is closed with it.
    """

    def __init__(
        self, read_at: Callable[[int, int], bytes | memoryview], start: int, size: int, file: BinaryIO | None = None
    ) -> None:
        self._read_at = read_at
        self._start = start
        self._size = size
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        target = memoryview(buffer).cast("B")
        count = max(0, min(len(target), self._size - self._position))
        with counting_troubles():
            content = self._read_at(self._start + self._position, count) if count else b""
        target[: len(content)] = content
        self._position += len(content)
        return len(content)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()


def _read_blocks(place: Place, start: int, size: int) -> memoryview:
    """At most `size` bytes from `start` on, none beyond the end of a block."""
    number, offset = divmod(start, BLOCK)
    content = recall(f"block {number} {place.identity}", partial(_fetch_block, place, number))
    return content[offset : offset + size]


@counting_troubles()
def _fetch_block(place: Place, number: int) -> bytes:
    """A block of a remote file. Raises OSError, which is what readers of files expect."""
    start, end = number * BLOCK, min(place.size, (number + 1) * BLOCK)
    for attempt in range(TRIES):
        try:
            system, path = find_system(place.url)
            content = system.cat_file(path, start=start, end=end)
        except (FileNotFoundError, PermissionError) as error:
            raise OSError(error.errno, str(explain(place.url, error))) from error
        except BUGS:
            raise
        except Exception as error:  # each library has its own
            if attempt + 1 == TRIES:
                raise OSError(f"{explain(place.url, error)}") from error
            time.sleep(PAUSE * 2**attempt)
            continue
        if len(content) != end - start:
            raise OSError(f"{place.url}: the server gave {len(content)} bytes for {end - start}; it must serve parts")
        return content
    raise AssertionError("the last try returns or raises")


def explain(url: str, error: BaseException, doing: str = "reading") -> InputError:
    """Why a remote file cannot be read, or written, in a sentence without its URL."""
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None and " 404" not in f" {error.__cause__}":
        error = error.__cause__  # of whatever a web server answers fsspec says that the file is not there
    words = f"{type(error).__name__} {error}"
    scheme = url.partition("://")[0].lower()
    known = CREDENTIALS.get(scheme)
    if isinstance(error, TokError):
        return InputError(error)
    if "NoCredentials" in words or "credentials" in words.lower() or "anonymous caller" in words.lower():
        return InputError(f"there are no credentials for {scheme}://{f'; set {known}' if known else ''}")
    if "bucket does not exist" in words or "NoSuchBucket" in words:
        return InputError(f"there is no bucket '{url.partition('://')[2].partition('/')[0]}'")
    if isinstance(error, FileNotFoundError):
        return InputError("there is no such file, folder or bucket")
    if isinstance(error, PermissionError) or re.search(r"\b40[13]\b|Forbidden|AccessDenied", words):
        return InputError(f"{doing} it is not allowed{f'; credentials come from {known}' if known else ''}")
    reason = " ".join(words.split())
    return UnreachableError(f"the network or the server failed ({reason[:300]}); try again")


def _ask(url: str, question: Callable[[], Any]) -> Any:
    """What a remote file system answers. Raises InputError where it fails; with the reason but without the URL."""
    try:
        return question()
    except BUGS:
        raise
    except Exception as error:  # each library has its own
        reason = explain(url, error)
        Troubles.count += isinstance(reason, UnreachableError)
        raise reason from error


def find_system(url: str, **options: Any) -> tuple[Any, str]:
    """fsspec's file system for a URL and the path in it; kept by fsspec, for each process its own.

    Args:
        url: what fsspec reads.
        options: of the file system.

    Raises:
        InputError: where it cannot be made, as without credentials.
        UsageError: where fsspec does not know it, or its library is absent.
    """
    scheme = url.partition("://")[0].lower()
    fsspec = require("fsspec", "s3")
    if scheme in LIBRARIES:
        require(*LIBRARIES[scheme])
    try:
        return importlib.import_module("fsspec.core").url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        known = ", ".join(f"{each}://" for each in LIBRARIES)
        raise UsageError(f"'{url}': fsspec {fsspec.__version__} cannot read it ({error}); expected {known}") from error
    except BUGS:
        raise
    except Exception as error:  # credentials are looked for when it is made
        raise InputError(f"'{url}': {explain(url, error)}") from error


def _describe(url: str, entry: dict[str, Any]) -> Place:
    """Raises InputError for what has no size."""
    size = entry.get("size")
    if entry.get("type") == "directory":
        raise InputError("it is a folder")
    if not isinstance(size, int):
        raise InputError("the server does not say how large it is, so that no part of it can be asked for")
    return Place(url, size, next((f"{key} {entry[key]}" for key in MARKS if entry.get(key)), "unknown"))


def _mark_of(status: os.stat_result) -> str:
    """Alike on every machine that sees the file."""
    return f"mtime {status.st_mtime_ns}"


def find_shared_root(urls: Sequence[str]) -> str:
    """The deepest folder that holds all of them, with its slash; empty where they share none."""
    folders = [posixpath.dirname(url.replace(os.sep, "/")).split("/") for url in urls]
    shared = 0
    while all(len(each) > shared for each in folders) and len({each[shared] for each in folders}) == 1:
        shared += 1
    return "".join(f"{part}/" for part in folders[0][:shared])
