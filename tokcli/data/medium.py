"""What a modality can do with files, so that no workflow asks which modality it has: find, read, save and show."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

from PIL import Image
from torch import Tensor

from tokcli.contracts import Source
from tokcli.data.files import Files, find_files
from tokcli.errors import MismatchError, UsageError


class Medium(ABC):
    """One kind of signal, as files.

    noun: what its files are, in the plural. suffixes: of files it reads.
    saved_suffixes: of files it can write, the usual one first.
    """

    noun: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    saved_suffixes: ClassVar[tuple[str, ...]]

    def find(self, inputs: Sequence[str]) -> Files:
        """The files that folders, single files and .txt lists stand for. Raises InputError where there are none."""
        return find_files(inputs, self.suffixes, self.noun)

    def stems(self, names: Sequence[str]) -> list[str]:
        """Item names without their suffixes, to save results under; with them, where two would clash otherwise.

        Raises MismatchError for a name that would leave the folder it is saved in: names come from token files, and
        those may come from strangers.
        """
        for name in names:
            if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise MismatchError(f"the item name {name!r} does not stay within a folder; expected a relative path")
        bare = [os.path.splitext(name)[0] if name.lower().endswith(self.suffixes) else name for name in names]
        return bare if len(set(bare)) == len(bare) else list(names)

    def saved_suffix(self, file_format: str | None = None) -> str:
        """The suffix of files in `file_format` ("wav"; None: the usual one).

        Raises UsageError for a format that this medium is not written in.
        """
        suffix = self.saved_suffixes[0] if file_format is None else f".{file_format.lower()}"
        if suffix not in self.saved_suffixes:
            known = " or ".join(each[1:] for each in self.saved_suffixes)
            raise UsageError(f"{self.noun} are written as {known}, not as '{file_format}'")
        return suffix

    def usual_size(self, judged: int | None) -> int | None:
        """The size that files are brought to where nobody names one, given that which the recipe judges at."""
        return judged

    @abstractmethod
    def rate(self, bits: float, samples: int, sample_rate: int | None) -> dict[str, float]:
        """How much `bits` is for so many samples of signal (pixels, audio samples), under the name of its unit."""

    @abstractmethod
    def source(self, files: Files, size: int | None, sample_rate: int | None) -> Source:
        """Read `files`, each brought to `size`, or at its own size where that is None.

        sample_rate: of audio, in Hz, which files of another rate are brought to.
        """

    @abstractmethod
    def save(self, path: Path, pieces: Iterable[Tensor], sample_rate: int | None) -> None:
        """Write the signal that `pieces` (channels, *size) make up, as `path`'s suffix says, one of `saved_suffixes`.

        sample_rate: of audio, in Hz. Folders are made as needed. The file appears complete or not at all.
        Raises OSError where it cannot be written.
        """

    @abstractmethod
    def sheet(
        self, references: Sequence[Tensor], *reconstructions: Sequence[Tensor], labels: Sequence[str] = ()
    ) -> Image.Image:
        """A picture that shows each reference (channels, *size) over its reconstructions.

        reconstructions: one for each reference, or several such rows. labels: of all rows, the references' first.
        """
