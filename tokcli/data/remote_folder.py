"""A folder of shards on object storage, wherever fsspec writes (`s3://`, `gs://`): whole objects, nothing renamed.

An object appears whole by itself, and of several who create one the store lets one succeed (`If-None-Match`). A claim
is touched by being written again; how old it is says the store's clock against this machine's.
"""

import contextlib
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tokcli.data.places import BUGS, MARKS, explain, find_system
from tokcli.errors import InputError
from tokcli.shards.folder import Folder


class RemoteFolder(Folder):
    """A prefix of object names.

    Args:
        url: of the folder, which need not be there; its bucket must.

    Raises:
        InputError: where it cannot be asked about; so do all methods.
        UsageError: where the library for such a URL is absent.
    """

    at_once = 16

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._system, path = find_system(self._url, use_listings_cache=False)
        self._path = path.rstrip("/")

    def __str__(self) -> str:
        return self._url

    def read(self, name: str, limit: int) -> bytes:
        """As declared."""
        size, _ = self.measure(name) or (0, "")
        if size > limit:
            raise InputError(f"{self._url}/{name}: the file is too large to be what it should be: over {limit:,} bytes")
        return self._ask(name, "reading", partial(self._system.cat_file, self._place(name)))

    def read_head(self, name: str, size: int) -> bytes:
        """As declared."""
        return self._ask(name, "reading", partial(self._system.cat_file, self._place(name), start=0, end=size))

    def fetch(self, name: str, path: pathlib.Path) -> None:
        """Copy a file to the disk. Raises InputError where it is gone, OSError where the disk is full."""
        try:
            self._ask(name, "reading", partial(self._system.get_file, self._place(name), str(path)))
        except FileNotFoundError as error:
            raise InputError(f"{self._url}/{name} is missing") from error

    @contextlib.contextmanager
    def write(self, name: str) -> Iterator[pathlib.Path]:
        """As declared; it is put together on the disk first."""
        with tempfile.TemporaryDirectory(prefix="tok-upload-") as folder:
            unfinished = pathlib.Path(folder) / "unfinished"
            unfinished.touch()
            yield unfinished
            self._ask(name, "writing", partial(self._system.put_file, str(unfinished), self._place(name)))

    def create(self, name: str, content: bytes) -> bool:
        """As declared."""
        if self.exists(name):
            return False
        try:
            self._ask(name, "writing", partial(self._system.pipe_file, self._place(name), content, mode="create"))
        except FileExistsError:
            return False
        return True

    def measure(self, name: str) -> tuple[int, str] | None:
        """As declared."""
        about = self._describe(name)
        if about is None:
            return None
        return about["size"], next((str(about[key]) for key in MARKS if about.get(key)), "unknown")

    def age(self, name: str) -> float | None:
        """As declared."""
        try:
            written = self._ask(name, "reading", partial(self._system.modified, self._place(name)))
        except FileNotFoundError:
            return None
        return max(0.0, (type(written).now(written.tzinfo) - written).total_seconds())

    def touch(self, name: str) -> None:
        """As declared."""
        with contextlib.suppress(FileNotFoundError):
            content = self._ask(name, "reading", partial(self._system.cat_file, self._place(name)))
            self._ask(name, "writing", partial(self._system.pipe_file, self._place(name), content))

    def list(self, inner: str = "") -> list[str]:
        """As declared."""
        try:
            entries = self._ask(inner, "reading", partial(self._system.ls, self._place(inner), detail=True))
        except FileNotFoundError:
            return []
        return [each["name"].rpartition("/")[2] for each in entries if each["type"] == "file"]

    def remove(self, name: str) -> None:
        """As declared."""
        with contextlib.suppress(FileNotFoundError):
            self._ask(name, "writing", partial(self._system.rm_file, self._place(name)))

    def tidy(self, inner: str | None = None) -> None:
        """As declared: nothing, for an upload that was cut off is no object, and there are no empty folders."""

    def _place(self, name: str) -> str:
        return f"{self._path}/{name}".rstrip("/")

    def _describe(self, name: str) -> dict[str, Any] | None:
        try:
            return self._ask(name, "reading", partial(self._system.info, self._place(name)))
        except FileNotFoundError:
            return None

    def _ask(self, name: str, doing: str, question: Callable[[], Any]) -> Any:
        """What the store answers; FileNotFoundError and FileExistsError as they are, unless there is no bucket."""
        try:
            return question()
        except FileExistsError:
            raise
        except FileNotFoundError as error:
            reason = explain(self._url, error, doing)
            if "bucket '" in str(reason):
                raise InputError(f"{self._url}: {reason}") from error
            raise
        except BUGS:
            raise
        except Exception as error:  # each library has its own
            raise InputError(f"{self._url}/{name}: {explain(self._url, error, doing)}") from error
