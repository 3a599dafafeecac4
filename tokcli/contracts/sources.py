"""Where signals come from."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokcli.contracts.parts import ModalityName, Part


@dataclass(frozen=True)
class Item:
    """One signal read from a source.

    Attributes:
        name: unique within the source, relative, with `/`.
        signal: (channels, *size) float32 in [-1, 1].
        original_size: the sizes before cropping; of an image before resizing too, of audio at its new sample rate.
        about: what else the source knows of it, as its label or caption; plain JSON values.
        returned: what another program made of the signal, of its shape, where the source has that too.
        lacks: what most others beside it are about and this one is not, as `label`.
    """

    name: str
    signal: Tensor
    original_size: tuple[int, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    returned: Tensor | None = None
    lacks: Sequence[str] = ()


@dataclass(frozen=True)
class Stream:
    """One signal that is too long to be held, whole and at its own size.

    Attributes:
        name: as an item's.
        blocks: starts reading; gives pieces (channels, samples) float32 in [-1, 1] of any lengths, in order, and raises
            InputError, naming the item, where the signal cannot be read on. It can cross processes.
        samples: that there will be; None where that shows at the end.
        returned: likewise what another program made of the signal, where the source has that too.
        about: as an item's.
        lacks: as an item's.
    """

    name: str
    blocks: Callable[[], Iterator[Tensor]]
    samples: int | None = None
    returned: Callable[[], Iterator[Tensor]] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    lacks: Sequence[str] = ()


def make_mark(words: Iterable[str]) -> str:
    """One word for many, the same for the same ones in the same order."""
    digest = hashlib.sha256()
    for word in words:
        digest.update(word.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()[:16]


class SourceFiles(Protocol):
    """Where the items of a source lie, as far as anybody asks."""

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many files were passed over because no decoder here reads them, by suffix."""
        ...

    def resolved(self, count: int | None = None) -> Iterable[str]:
        """Where the first `count` items (None: all) lie once links are followed."""
        ...


@dataclass(frozen=True)
class SourceDescription:
    """What there is to say of a source's items before any is read.

    Attributes:
        size: the side of an image in pixels or the samples of a sound; None where every item has its own.
        made: what makes them, where they are no recordings but endless; None otherwise.
        crop: which part of the original an item is; None where it is all of it.
    """

    size: int | None = None
    made: str | None = None
    crop: Literal["center", "random", "start"] | None = None


class Source(Part, torch.utils.data.Dataset[Any], ABC):
    """Items that can be read in any order, by any worker process.

    `load(index, draw)` is a pure function: `draw` seeds all that is random in it (crop, flip), so that a resumed
    run reads exactly what an uninterrupted one would have read.

    Attributes:
        modality: what its signals are.
        names: of the items, each once.
        sample_rate: of audio, in Hz; None for images.
        files: where the items lie; None where they are no files. Training warns of files that it would be evaluated on.
        starts: the number of the first item of each shard, (shards + 1,) with the number of items at the end; training
            reads few shards at a time. None where any item is as near as the next.
    """

    modality: ClassVar[ModalityName]
    names: Sequence[str]
    sample_rate: int | None = None
    files: SourceFiles | None = None
    starts: NDArray[numpy.int64] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def load(self, index: int, draw: int = 0) -> Item:
        """Item `index`; raises InputError, naming it, where it cannot be read."""

    def load_or_stream(self, index: int, draw: int = 0) -> Item | Stream:
        """Item `index`, or a stream of the same signal where that is long; for readers that can do with pieces."""
        return self.load(index, draw)

    @abstractmethod
    def protocol(self) -> Mapping[str, object]:
        """What was done to the signals (resize, crop), for the record; plain JSON values.

        `size`, `crop` and `made` are, where they say anything, those of `describe`.
        """

    def mark(self, items: range) -> str:
        """A word for these items that is another one when any of them, or its name, changes.

        Here of names alone; files have a size and a time beside it, and those of an archive the archive's.
        """
        return make_mark(self.names[index] for index in items)

    def describe(self) -> SourceDescription:
        """What a run says of its data before the first step."""
        return SourceDescription()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
