"""The files of many archives as one sequence: a shard is opened when one of its items is, and few are open at a time.

Memory grows with the archives (their paths, sizes and counts), not with what they hold. How many items each has is
found out once and kept in the cache.
"""

import bisect
import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any, BinaryIO

import numpy

from tokcli.contracts import make_mark
from tokcli.data.cache import recall
from tokcli.data.named_files import Files
from tokcli.data.places import Place, counting_troubles, find_shared_root, is_remote, measure
from tokcli.errors import InputError

READERS = 16
"""Remote archives that are asked about at a time."""

ITEMS_OPEN = 2**18
"""Items of the archives that are kept open, besides two of any size."""


class FilesInArchives(Files):
    """All files of several archives, in their order; the name of a file begins with that of its archive.

    Args:
        paths: Of the archives, each once; paths or URLs.
        suffixes: Of the files.
        open_one: Opens an archive; raises InputError, naming it, where it cannot.

    Raises:
        InputError: Archives are missing or cannot be read, all of which are named.
    """

    def __init__(self, paths: Sequence[str], suffixes: Sequence[str], open_one: Callable[[str], Files]) -> None:
        root = len(find_shared_root(paths))
        self._places = _for_each(_measure, paths)
        self._open_one = open_one
        self._stems = [path.replace("\\", "/")[root:] for path in paths]
        self._opened: OrderedDict[int, Files] = OrderedDict()
        identities = "\n".join(place.identity for place in self._places)
        told = json.loads(bytes(recall(f"archives 1 {suffixes} {identities}", self._count)))
        self._firsts = self.starts = numpy.cumsum([0, *told["counts"]], dtype=numpy.int64)
        self.skipped: Mapping[str, int] = told["skipped"]
        self.names = _NamesInArchives(self)

    def opener(self, index: int) -> Callable[[], BinaryIO]:
        """What opens file `index`."""
        archive, number = self.find(index)
        return archive.opener(number)

    def about(self, index: int) -> Mapping[str, Any]:
        """What the archive says of file `index`."""
        archive, number = self.find(index)
        return archive.about(number)

    def mark(self, items: range) -> str:
        """What changes when one of the archives does that these files lie in; none of them is opened."""
        first, last = (bisect.bisect_right(self._firsts, index) - 1 for index in (items.start, items.stop - 1))
        places = ((self._stems[shard], self._places[shard]) for shard in range(first, last + 1))
        return make_mark([str(items), *(f"{stem} {place.size} {place.mark}" for stem, place in places)])

    def lacks(self, index: int) -> Sequence[str]:
        """What most others of its archive are about."""
        archive, number = self.find(index)
        return archive.lacks(number)

    def resolved(self, count: int | None = None) -> Iterator[str]:
        """What the archives say, one after another."""
        return islice((each for shard in range(len(self._places)) for each in self.shard(shard).resolved()), count)

    @property
    def count(self) -> int:
        """How many files there are."""
        return int(self._firsts[-1])

    def find(self, index: int) -> tuple[Files, int]:
        """The archive of file `index`, and its number in it."""
        shard = bisect.bisect_right(self._firsts, index) - 1
        return self.shard(shard), index - int(self._firsts[shard])

    def name(self, index: int) -> str:
        """The name of file `index`: its archive's and its own."""
        shard = bisect.bisect_right(self._firsts, index) - 1
        return f"{self._stems[shard]}/{self.shard(shard).names[index - int(self._firsts[shard])]}"

    @counting_troubles()
    def shard(self, number: int) -> Files:
        """Archive `number`, opened. Raises InputError where it is no longer what it was."""
        archive = self._opened.get(number)
        if archive is None:
            place = self._places[number]
            archive = self._open_one(place.url)
            count = int(self._firsts[number + 1] - self._firsts[number])
            if len(archive.names) != count or measure(place.url) != place:
                raise InputError(f"'{place.url}' was changed while it was being read; give the command again")
            self._opened[number] = archive
            while len(self._opened) > 2 and sum(len(each.names) for each in self._opened.values()) > ITEMS_OPEN:
                self._opened.popitem(last=False)
        self._opened.move_to_end(number)
        return archive

    def _count(self) -> bytes:
        """How many files there are in each archive, and what is passed over in all."""
        opened = _for_each(partial(_look_into, self._open_one), [place.url for place in self._places])
        skipped: Counter[str] = Counter()
        for _, passed in opened:
            skipped.update(passed)
        return json.dumps({"counts": [count for count, _ in opened], "skipped": skipped}).encode()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": OrderedDict()}


class _NamesInArchives(Sequence[str]):
    """The names of all files, read when they are asked for."""

    def __init__(self, files: FilesInArchives) -> None:
        self._files = files

    def __len__(self) -> int:
        return self._files.count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._files.name(number) for number in range(len(self))[index]]
        return self._files.name(range(len(self))[index])


def _measure(path: str) -> Place:
    try:
        return measure(path)
    except InputError as error:
        raise InputError(f"'{path}': {error}") from error


def _look_into(open_one: Callable[[str], Files], path: str) -> tuple[int, Mapping[str, int]]:
    archive = open_one(path)
    return len(archive.names), archive.skipped


def _for_each(function: Callable[[str], Any], paths: Sequence[str]) -> list[Any]:
    """What a function gives for each path, remote ones several at a time. Raises InputError with all problems."""
    problems: list[str] = []

    def attempt(path: str) -> Any:
        try:
            return function(path)
        except InputError as error:
            problems.append(str(error))
            return None

    if any(map(is_remote, paths)):
        with ThreadPoolExecutor(READERS) as readers:
            results = list(readers.map(attempt, paths))
    else:
        results = list(map(attempt, paths))
    if problems:
        raise InputError("\n".join(sorted(problems)))
    return results
