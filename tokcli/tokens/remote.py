"""Tokens wherever they lie; those that lie elsewhere (`s3://`, `gs://`) are on the disk for as long as they are read.

Tokens are small beside what they stand for, and a reader goes through all of them, often twice: so they are fetched
whole, several shards at a time, and only those that the manifest lists.
"""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from tokcli.data.places import is_remote
from tokcli.data.remote_folder import RemoteFolder
from tokcli.errors import InputError, MismatchError
from tokcli.shards.plan import PLAN
from tokcli.tokens.manifest import MANIFEST, read_tally

FILES = (".npy", ".safetensors")
"""Endings of tokens in one file; its header may lie beside it, as `X.npy.json`."""


@contextlib.contextmanager
def fetch_tokens(address: str) -> Iterator[pathlib.Path]:
    """A path on the disk at which tokens lie, until the context is left: their own, or, of a URL, a copy's.

    Args:
        address: a path, or the URL of a folder that `tok encode` finished or of a file.

    Raises:
        InputError: where there are none, or they are not finished, or cannot be fetched.
        MismatchError: where the manifest is damaged.
        UsageError: where the library for such a URL is absent.
        OSError: where the disk is full.
    """
    if not is_remote(address):
        yield pathlib.Path(address)
        return
    above, _, name = address.rstrip("/").rpartition("/")
    with tempfile.TemporaryDirectory(prefix="tok-tokens-") as place:
        path = pathlib.Path(place) / name
        if path.suffix in FILES:
            _fetch(RemoteFolder(above), _list_file(RemoteFolder(above), name), path.parent)
        else:
            path.mkdir()
            _fetch(RemoteFolder(address), _list_folder(RemoteFolder(address)), path)
        yield path


def holds_tokens(url: str) -> bool:
    """Whether a folder that lies elsewhere is one of tokens, finished or not. Raises as `fetch_tokens` does."""
    folder = RemoteFolder(url)
    return folder.exists(MANIFEST) or folder.exists(PLAN)


def _list_folder(folder: RemoteFolder) -> list[str]:
    if not folder.exists(MANIFEST):
        if folder.exists(PLAN):
            raise InputError(f"{folder} is not finished: tok encode -o {folder} --status says how far it is")
        raise InputError(f"there are no tokens at {folder}: it has no {MANIFEST}")
    names = [shard.name for shard in read_tally(folder)[2]]
    strange = [name for name in names if pathlib.PurePath(name).name != name]
    if strange:
        raise MismatchError(f"{folder}/{MANIFEST} is damaged: it lists {strange[0][:100]!r}; encode again")
    return [MANIFEST, *names]


def _list_file(folder: RemoteFolder, name: str) -> list[str]:
    if not folder.exists(name):
        raise InputError(f"there is no file {folder}/{name}")
    return [name, *(beside for beside in (f"{name}.json",) if folder.exists(beside))]


def _fetch(folder: RemoteFolder, names: Sequence[str], to: pathlib.Path) -> None:
    with ThreadPoolExecutor(folder.at_once) as readers:
        for _ in readers.map(lambda name: folder.fetch(name, to / name), names):
            pass
