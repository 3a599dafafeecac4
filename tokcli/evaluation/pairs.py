"""Files that other programs made, judged like a model: an original and what came back, matched by name.

reference/cat/1.jpg  -  reconstruction/cat/1.png     the suffix may differ, the folders within may not
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from tokcli.contracts import Candidate, Item, ModalityName, RoundTrip, Source, SourceDescription, Stream
from tokcli.data.items import Failure
from tokcli.data.modality import Modality, find_modality
from tokcli.errors import InputError, MismatchError
from tokcli.windows import pair_blocks

NAMED = 3
"""Names that a message gives as examples."""


class PairedFiles(Source):
    """Originals that come with what one program made of them.

    An item that any of the programs has no readable file of the same size for fails, so that all are judged alike.

    Args:
        reference: The originals.
        others: What each program made, a source each.
        number: Which of them items come with.
        indices: For each original that all have: its index, and that of its file among each of `others`.
    """

    modality: ClassVar[ModalityName]

    def __init__(
        self, reference: Source, others: Sequence[Source], number: int, indices: Sequence[tuple[int, ...]]
    ) -> None:
        self.modality = reference.modality  # pyright: ignore[reportAttributeAccessIssue] - that of its files
        self.names = [reference.names[own] for own, *_ in indices]
        self.sample_rate = reference.sample_rate
        self._reference = reference
        self._others = others
        self._number = number
        self._indices = indices

    def load(self, index: int, draw: int = 0) -> Item:
        """Original `index` with its reconstruction. Raises InputError, naming it, where one cannot be read."""
        own, *theirs = self._indices[index]
        item = self._reference.load(own, draw)
        found = [other.load(their, draw) for other, their in zip(self._others, theirs, strict=True)]
        for each in found:
            _check_same_size(item.name, item.signal.shape[1:], each.signal.shape[1:])
        return replace(item, returned=found[self._number].signal)

    def load_or_stream(self, index: int, draw: int = 0) -> Item | Stream:
        """Original `index` with its reconstruction, in blocks where the original is long."""
        own, *theirs = self._indices[index]
        item = self._reference.load_or_stream(own, draw)
        found = [other.load_or_stream(their, draw) for other, their in zip(self._others, theirs, strict=True)]
        for each in found:
            _check_same_size(item.name, _size_of(item), _size_of(each))
        mine = found[self._number]
        if isinstance(item, Item) and isinstance(mine, Item):
            return replace(item, returned=mine.signal)
        original, returned = _as_stream(item), _as_stream(mine)
        return replace(original, returned=returned.blocks)

    def protocol(self) -> Mapping[str, object]:
        """What was done to the originals, and to the reconstructions as well."""
        return self._reference.protocol()

    def describe(self) -> SourceDescription:
        """As the originals are."""
        return self._reference.describe()


class FilesOfOthers(Candidate):
    """What another program made, as it comes with the items: there are no tokens and no rate."""

    def __init__(self, source: PairedFiles, device: torch.device) -> None:
        self._source = source
        self._device = device

    @property
    def modality(self) -> ModalityName:
        """Of the files."""
        return self._source.modality

    @property
    def sample_rate(self) -> int | None:
        """Of audio, in Hz."""
        return self._source.sample_rate

    @property
    def codebook_size(self) -> int:
        """1: there are no tokens."""
        return 1

    @property
    def device(self) -> torch.device:
        """Where metrics compute."""
        return self._device

    def round_trip(self, signals: Tensor) -> RoundTrip:
        """Files answer to items (`answer`); of signals alone nobody knows whose they are."""
        raise TypeError("what came back is with the items")

    def answer(self, items: Sequence[Item]) -> RoundTrip:
        """The originals and what came with them."""
        returned = [item.returned for item in items if item.returned is not None]
        signals, reconstructions = (
            torch.stack(part).to(self.device) for part in ([item.signal for item in items], returned)
        )
        return RoundTrip(signals, reconstructions, None, 1, self.sample_rate)

    def round_trip_parts(self, stream: Stream) -> Iterator[RoundTrip]:
        """The original, block by block, and what came with it."""
        assert stream.returned is not None, "what came back is with the items"
        for original, returned in pair_blocks(stream.blocks(), stream.returned()):
            signals, reconstructions = (block[None].to(self.device) for block in (original, returned))
            yield RoundTrip(signals, reconstructions, None, 1, self.sample_rate)


def open_pairs(
    reference: str, reconstructions: Sequence[str], size: int | None
) -> tuple[list[PairedFiles], list[Failure], list[str]]:
    """A source for each folder of reconstructions, all of the same originals.

    Args:
        reference: A folder, file or list.
        reconstructions: The same, of what each program made.
        size: That all are resized and cropped to; None leaves them whole.

    Returns:
        The sources, the originals that some folder has no file for, and a remark for each folder with files that
        have no original.

    Raises:
        InputError: There are no files, or none of the names match.
    """
    modality = find_modality(reference)
    sample_rate = modality.read_sample_rate(reference)
    originals, *others = (modality.open_source([path], size, sample_rate) for path in (reference, *reconstructions))
    names = _index(modality, originals)
    found = [_index(modality, other) for other in others]
    shared = [name for name in names if all(name in each for each in found)]
    if not shared:
        shown = [", ".join(list(each.names)[:NAMED]) for each in (originals, *others)]
        raise InputError(
            f"no file of {reference} ({shown[0]}, …) has its name, but for the suffix, in "
            f"{' and '.join(f'{path} ({name}, …)' for path, name in zip(reconstructions, shown[1:], strict=True))}"
        )
    indices = [(names[name], *(each[name] for each in found)) for name in shared]
    missing = [
        Failure(originals.names[index], f"no file of this name in {', '.join(lacking)}")
        for name, index in names.items()
        if (lacking := [path for path, each in zip(reconstructions, found, strict=True) if name not in each])
    ]
    remarks = [
        _remark_on_rest(path, [name for name in each if name not in names])
        for path, each in zip(reconstructions, found, strict=True)
    ]
    sources = [PairedFiles(originals, others, number, indices) for number in range(len(others))]
    return sources, missing, remarks


def _index(modality: Modality, source: Source) -> dict[str, int]:
    """Where each item lies in a source, by its name without the suffix."""
    bare = modality.strip_suffixes(list(source.names))
    if len(set(bare)) < len(bare):
        raise MismatchError(f"two files are called {next(name for name in bare if bare.count(name) > 1)}")
    return {name: index for index, name in enumerate(bare)}


def _remark_on_rest(path: str, rest: Sequence[str]) -> str:
    """What to know of files without an original; empty where there are none."""
    if not rest:
        return ""
    shown = ", ".join(rest[:NAMED]) + (", …" if len(rest) > NAMED else "")
    return f"{len(rest)} file{'s' * (len(rest) != 1)} of {path} without an original (left out): {shown}"


def _check_same_size(name: str, original: Sequence[int], returned: Sequence[int]) -> None:
    """Raises InputError, naming the item, where what came back is of another size."""
    if tuple(original) != tuple(returned):
        raise InputError(
            f"{name}: the original has {_say_size(original)}, the reconstruction {_say_size(returned)}; "
            "--size N brings both to one size"
        )


def _size_of(reading: Item | Stream) -> Sequence[int]:
    if isinstance(reading, Item):
        return reading.signal.shape[1:]
    assert reading.samples is not None, "a file says how long it is"
    return (reading.samples,)


def _as_stream(reading: Item | Stream) -> Stream:
    """An item in one block, where the other side of the pair comes in many."""
    return Stream(reading.name, partial(iter, [reading.signal])) if isinstance(reading, Item) else reading


def _say_size(size: Sequence[int]) -> str:
    """`256x288 pixels` (height first), `16000 samples`."""
    return f"{size[0]} samples" if len(size) == 1 else f"{size[0]}x{size[1]} pixels"
