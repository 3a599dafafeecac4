"""`manifest.json`: a folder of shards as one token file. It adds up what the shards say and reads none of them.

Names, sizes and labels live in the shards, so that a reader's memory holds those of one shard at a time.
"""

import bisect
import itertools
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, overload

import numpy as np

from tokcli.data.items import Failure
from tokcli.errors import MismatchError
from tokcli.files import find_problem, read_bytes
from tokcli.shards.folder import Folder, write_whole
from tokcli.tokens.header import TokenHeader, TokenRecord, parse_json
from tokcli.tokens.reading import TokenReader
from tokcli.tokens.stacked import read_shard
from tokcli.tokens.tally import Tally
from tokcli.tokens.tensors import map_tensors, read_header
from tokcli.untrusted import LONGEST_JSON

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Shard:
    """A line of the manifest.

    Attributes:
        name: of the file.
        items: in it.
        failed: items that could not be encoded, which it names too.
        bytes: that it has.
        sha256: of them.
    """

    name: str
    items: int
    failed: int
    bytes: int
    sha256: str


def write_manifest(folder: Folder, header: TokenHeader, shards: Sequence[Shard], tally: Tally) -> None:
    """Make a folder of shards one token file; the same shards make the same bytes."""
    lines = ",\n".join(json.dumps(asdict(shard), ensure_ascii=False) for shard in shards)
    about = {
        **header.to_json(),
        "items": tally.items,
        "failed": sum(shard.failed for shard in shards),
        **tally.to_json(),
    }
    text = json.dumps(about, ensure_ascii=False)[:-1] + f',\n"shards": [\n{lines}\n]}}\n'
    write_whole(folder, MANIFEST, text.encode())


def read_tally(folder: Folder) -> tuple[TokenHeader, Tally, list[Shard]]:
    """What the manifest of a folder adds up to.

    Raises:
        MismatchError: where it is damaged.
    """
    path = pathlib.Path(f"{folder}/{MANIFEST}")
    about = parse_json(folder.read(MANIFEST, LONGEST_JSON), path)
    header = TokenHeader.from_json(about, path)
    shards = _read_lines(about, path)
    tally = Tally(header)
    try:
        tally.add_json(sum(shard.items for shard in shards), about)
    except ValueError as error:
        raise MismatchError(f"{path} is damaged: {error}") from error
    return header, tally, shards


def _read_lines(about: Any, path: pathlib.Path) -> list[Shard]:
    kinds = {"name": str, "items": int, "failed": int, "bytes": int, "sha256": str}
    lines = about.get("shards")
    complete = isinstance(lines, list) and all(
        isinstance(line, dict)
        and all(type(line.get(name)) is kind for name, kind in kinds.items())
        and min(line["items"], line["failed"]) >= 0
        for line in lines
    )
    if not complete:
        raise MismatchError(f"{path} has a damaged list of shards; tok encode -o {path.parent} --finish makes it again")
    return [Shard(*(line[name] for name in kinds)) for line in lines]


class ShardReader:
    """The shards of a folder, one of them open at a time.

    Args:
        folder: that they lie in.
        header: that each must have.
        shards: their lines in the manifest.
    """

    def __init__(self, folder: pathlib.Path, header: TokenHeader, shards: Sequence[Shard]) -> None:
        self._folder = folder
        self._header = header
        self.shards = shards
        self.starts = [0, *itertools.accumulate(shard.items for shard in shards)]
        self._latest: tuple[int, Any] | None = None

    def check_files(self) -> None:
        """Raises MismatchError where a shard is missing, or has another size than the manifest says."""
        for shard in self.shards:
            path = self._folder / shard.name
            if pathlib.PurePath(shard.name).name != shard.name or find_problem(path):
                raise MismatchError(f"{self._folder}: the shard {shard.name}, which {MANIFEST} lists, is missing")
            if path.stat().st_size != shard.bytes:
                raise MismatchError(
                    f"{path} has {path.stat().st_size:,} bytes, and {MANIFEST} says {shard.bytes:,}: it was cut "
                    "off, or comes from another encode"
                )

    def find(self, index: int) -> tuple[int, int]:
        """The shard of item `index`, and the item's number in it."""
        number = bisect.bisect_right(self.starts, index) - 1
        return number, index - self.starts[number]

    def open(self, number: int) -> tuple[list[TokenRecord], list[Failure], Callable[[int], np.ndarray]]:
        """Records, failures and tokens of a shard. Raises MismatchError where it is not what the manifest says."""
        if self._latest is None or self._latest[0] != number:
            self._latest = None
            path, line = self._folder / self.shards[number].name, self.shards[number]
            file = map_tensors(path)
            if read_header(file, path) != self._header:
                raise MismatchError(f"{path} comes from another encode than the {MANIFEST} beside it")
            content = read_shard(file, self._header, path)
            if (len(content[0]), len(content[1])) != (line.items, line.failed):
                raise MismatchError(f"{path} holds other items than the {MANIFEST} beside it says")
            self._latest = number, content
        return self._latest[1]


class _Records(Sequence[TokenRecord]):
    """The records of all shards, read shard by shard when they are asked for."""

    def __init__(self, shards: ShardReader) -> None:
        self._shards = shards

    def __len__(self) -> int:
        return self._shards.starts[-1]

    @overload
    def __getitem__(self, index: int) -> TokenRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[TokenRecord]: ...
    def __getitem__(self, index: int | slice) -> TokenRecord | list[TokenRecord]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number, inside = self._shards.find(range(len(self))[index])
        return self._shards.open(number)[0][inside]


class _Failures(Sequence[Failure]):
    """The failures of all shards, likewise."""

    def __init__(self, shards: ShardReader) -> None:
        self._shards = shards
        self._count = sum(shard.failed for shard in shards.shards)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Failure]:
        for number, shard in enumerate(self._shards.shards):
            yield from self._shards.open(number)[1] if shard.failed else ()

    @overload
    def __getitem__(self, index: int) -> Failure: ...
    @overload
    def __getitem__(self, index: slice) -> list[Failure]: ...
    def __getitem__(self, index: int | slice) -> Failure | list[Failure]:
        return list(self)[index]


class FolderReader(TokenReader):
    """The items of a folder of shards."""

    def __init__(self, path: pathlib.Path, header: TokenHeader, grid: Any, shards: ShardReader) -> None:
        super().__init__(path, header, _Records(shards), _Failures(shards), self._fetch_from)
        self._shards = shards
        self._grid = tuple(grid) if isinstance(grid, list) and all(type(size) is int for size in grid) else None

    @property
    def grid(self) -> tuple[int, ...] | None:
        """The positions of an item; None where items differ."""
        return self._grid

    def _fetch_from(self, index: int) -> np.ndarray:
        number, inside = self._shards.find(index)
        return self._shards.open(number)[2](inside)


def open_folder(folder: pathlib.Path) -> FolderReader:
    """The items of a finished folder.

    Raises:
        MismatchError: where it is damaged.
    """
    path = folder / MANIFEST
    about = parse_json(read_bytes(path, LONGEST_JSON), path)
    header = TokenHeader.from_json(about, path)
    shards = ShardReader(folder, header, _read_lines(about, path))
    shards.check_files()
    return FolderReader(folder, header, about.get("grid"), shards)
