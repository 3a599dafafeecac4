"""A folder of safetensors files of so many items each, with `manifest.json`, which adds them up: for large sets.

Workers write the shards one by one (`tokcli/shards` says how); here a finished spool is cut into them. Folders of
older versions have `manifest.jsonl`, a line for each item, and are read as before.
"""

import itertools
import math
import os
import pathlib
import shutil
from typing import Any

import numpy as np

from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.files import find_problem, is_unfinished, move_into_place, read_bytes
from tokcli.shards.folder import Folder, LocalFolder
from tokcli.shards.ledger import OUTPUT
from tokcli.shards.plan import PLAN, read_plan
from tokcli.tokens.format import TokenFormat
from tokcli.tokens.header import TokenHeader, parse_json, read_entries
from tokcli.tokens.manifest import MANIFEST, Shard, open_folder, write_manifest
from tokcli.tokens.reading import TokenReader
from tokcli.tokens.spool import Spool
from tokcli.tokens.stacked import write_shard
from tokcli.tokens.tally import Tally
from tokcli.tokens.tensors import get_tensor, map_tensors, read_header
from tokcli.untrusted import LONGEST_JSON

OLDER = "manifest.jsonl"


class Shards(TokenFormat):
    """Every shard is a token file of its own.

    Args:
        shard_items: items in each shard but the last.
    """

    name = "folder"
    suffix = ""
    usage = "a folder of shards (a name without an ending)"

    def __init__(self, shard_items: int = 1000) -> None:
        self._shard_items = shard_items

    def accepts(self, path: pathlib.Path) -> bool:
        """Every folder, and every name without an ending."""
        return path.name not in ("", "..") and (path.is_dir() or not path.suffix)

    def settings(self) -> dict[str, Any]:
        """How the items are shared out."""
        return {"shard_items": self._shard_items}

    def check_free(self, path: pathlib.Path, force: bool) -> None:
        """An empty folder is free; one of other things than tokens is never replaced."""
        if path.is_dir():
            if all(map(is_unfinished, path.iterdir())):  # the plan, perhaps, that another worker writes
                return
            if not is_folder_of_tokens(path):
                raise UsageError(f"{path} is a folder with other things in it; choose another name for the tokens")
        super().check_free(path, force)

    def publish(self, spool: Spool, header: TokenHeader, path: pathlib.Path) -> None:
        """Write the folder in the spool's, and let it take the place of an older one."""
        result, previous = spool.folder / "result", spool.folder / "previous"
        for leftover in (result, previous):
            shutil.rmtree(leftover, ignore_errors=True)
        result.mkdir()
        records, tokens, failures = spool.records(), spool.tokens(), spool.failures()
        lines, tally = [], Tally(header)
        for number in range(math.ceil(spool.written / self._shard_items)):
            name = f"shard-{number:05d}.safetensors"
            own = list(itertools.islice(records, self._shard_items))
            values = list(itertools.islice(tokens, self._shard_items))
            written = write_shard(result / name, header, own, failures, values)
            tally.add(own, values)
            lines.append(Shard(name, len(own), len(failures), written.bytes, written.sha256))
            failures = []  # the first shard names them all
        write_manifest(LocalFolder(result), header, lines, tally)
        if path.exists():
            os.rename(path, previous)
        move_into_place(result, path)

    def has_header(self, path: pathlib.Path) -> bool:
        """Whether it is one of tokens, finished or not."""
        return is_folder_of_tokens(path)

    def open(self, path: pathlib.Path) -> TokenReader:
        """Read the manifest, and each shard when an item of it is asked for."""
        if (path / MANIFEST).is_file():
            return open_folder(path)
        if (path / OLDER).is_file():
            return _open_older(path)
        if (path / PLAN).is_file():
            done = sum(1 for entry in path.iterdir() if OUTPUT.fullmatch(entry.name) and entry.suffix == ".json")
            raise InputError(
                f"{path} is not finished: {done} of its {read_plan(LocalFolder(path)).shards} shards are done; go on "
                f"with the same tok encode command, or see how far it is: tok encode -o {path} --status"
            )
        raise MismatchError(f"{path} is not a folder of tokens: it has no {MANIFEST}")


def is_folder_of_tokens(path: pathlib.Path) -> bool:
    """Whether a folder holds tokens, or a plan to make some."""
    return any((path / name).is_file() for name in (MANIFEST, OLDER, PLAN))


def clear_manifest(folder: Folder) -> None:
    """Remove what makes a folder look finished."""
    for name in (MANIFEST, OLDER):
        folder.remove(name)


def _open_older(path: pathlib.Path) -> TokenReader:
    """A folder of an older version: check every shard's header; one shard stays open at a time."""
    manifest = path / OLDER
    first, *lines = read_bytes(manifest, LONGEST_JSON).splitlines() or [b"null"]
    about = parse_json(first, manifest)
    header = TokenHeader.from_json(about, manifest)
    entries = [parse_json(line, manifest) for line in lines]
    records, failed = read_entries([entries], manifest)
    if len(records) != about.get("items"):
        raise MismatchError(f"{manifest} lists {len(records)} items of {about.get('items')}: it was cut off")
    shards = [str(entry.get("shard")) for entry in entries if "reason" not in entry]
    for shard in sorted(set(shards)):
        if pathlib.PurePath(shard).name != shard or find_problem(path / shard):
            raise MismatchError(f"{path}: the shard {shard}, which {OLDER} lists, is missing")
        if read_header(map_tensors(path / shard), path / shard) != header:
            raise MismatchError(f"{path / shard} comes from another encode than the {OLDER} beside it")
    latest: dict[str, Any] = {}

    def fetch(index: int) -> np.ndarray:
        shard = shards[index]
        if shard not in latest:
            latest.clear()
            latest[shard] = map_tensors(path / shard)
        return get_tensor(latest[shard], records[index].item, path / shard)

    return TokenReader(path, header, records, failed, fetch)
