"""A folder of safetensors files of so many items each, with `manifest.jsonl`, one line per item: for large sets."""

import itertools
import math
import os
import pathlib
import shutil
from dataclasses import asdict
from typing import Any

import numpy as np

from tokcli.errors import MismatchError, UsageError
from tokcli.files import find_problem, move_into_place, read_bytes, sync
from tokcli.tokens.format import TokenFormat
from tokcli.tokens.header import TokenHeader, dump_json, parse_json, read_entries
from tokcli.tokens.reading import TokenReader
from tokcli.tokens.safetensors import get_tensor, map_tensors, read_header, write_items
from tokcli.tokens.spool import Spool
from tokcli.untrusted import LONGEST_JSON

MANIFEST = "manifest.jsonl"


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
            if not any(path.iterdir()):
                return
            if not (path / MANIFEST).is_file():
                raise UsageError(f"{path} is a folder with other things in it; choose another name for the tokens")
        super().check_free(path, force)

    def publish(self, spool: Spool, header: TokenHeader, path: pathlib.Path) -> None:
        """Write the folder in the spool's, and let it take the place of an older one."""
        result, previous = spool.folder / "result", spool.folder / "previous"
        for leftover in (result, previous):
            shutil.rmtree(leftover, ignore_errors=True)
        result.mkdir()
        records, tokens = spool.records(), spool.tokens()
        with open(result / MANIFEST, "wb") as manifest:
            shards = math.ceil(spool.written / self._shard_items)
            manifest.write(dump_json({**header.to_json(), "items": spool.written, "shards": shards}) + b"\n")
            for number in range(shards):
                name = f"shard-{number:05d}.safetensors"
                shard = list(itertools.islice(records, self._shard_items))
                write_items(result / name, header, shard, [], tokens)
                manifest.writelines(dump_json({"shard": name, **record.to_json()}) + b"\n" for record in shard)
            manifest.writelines(dump_json(asdict(failure)) + b"\n" for failure in spool.failures())
            sync(manifest)
        if path.exists():
            os.rename(path, previous)
        move_into_place(result, path)

    def has_header(self, path: pathlib.Path) -> bool:
        """Whether the manifest is there."""
        return (path / MANIFEST).exists()

    def open(self, path: pathlib.Path) -> TokenReader:
        """Read the manifest and check every shard's header; one shard stays open at a time."""
        manifest = path / MANIFEST
        if not manifest.is_file():
            raise MismatchError(f"{path} is not a folder of tokens: it has no {MANIFEST}")
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
                raise MismatchError(f"{path}: the shard {shard}, which {MANIFEST} lists, is missing")
            if read_header(map_tensors(path / shard), path / shard) != header:
                raise MismatchError(f"{path / shard} comes from another encode than the {MANIFEST} beside it")
        latest: dict[str, Any] = {}

        def fetch(index: int) -> np.ndarray:
            shard = shards[index]
            if shard not in latest:
                latest.clear()
                latest[shard] = map_tensors(path / shard)
            return get_tensor(latest[shard], records[index].item, path / shard)

        return TokenReader(path, header, records, failed, fetch)
