"""Sounds from files: a folder, single files or lists, at one sample rate, cut to equal lengths or whole.

Training of a speech tokenizer reads `size: 9600, crop: random`, 0.6 seconds at 16 kHz; it is judged on whole files.
"""

from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Literal

import numpy
import torch
from torch import Tensor

from tokcli.contracts import Item, ModalityName, Source, SourceDescription, Stream
from tokcli.data.audio.decoding import SUFFIXES, SoundReader
from tokcli.data.audio.resampling import QUALITY, Samples, resampled, resampled_length, span_of
from tokcli.data.files import Files, find_files
from tokcli.errors import InputError

LONG_SECONDS = 60
"""Whole files longer than this are offered as streams."""

Crop = Literal["center", "random", "start"]


class ListedAudio(Source):
    """Sounds of known files, as (1, samples) float32 in [-1, 1].

    size: samples to take, at `sample_rate`; None keeps every file whole. A shorter file is followed by silence.
    sample_rate: in Hz; files of another rate are resampled.
    crop: where the samples are taken. Only what they depend on is read, however long the file is.

    Channels are averaged; values beyond full scale are clamped. The original size of an item is the number of samples
    that the whole file has at `sample_rate`.
    """

    modality: ClassVar[ModalityName] = "audio"

    def __init__(self, files: Files, size: int | None = None, sample_rate: int = 16000, crop: Crop = "center") -> None:
        if size is not None and size < 1:
            raise ValueError(f"size must be at least 1 sample, got {size}")
        if sample_rate < 1:
            raise ValueError(f"sample_rate must be at least 1 Hz, got {sample_rate}")
        if crop not in ("center", "random", "start"):
            raise ValueError(f"crop must be 'center', 'random' or 'start', got {crop!r}")
        self.names = files.names
        self.sample_rate = sample_rate
        self.files = files
        self._size = size
        self._crop = crop

    def load(self, index: int, draw: int = 0) -> Item:
        """Item `index`; `draw` seeds its random crop. Raises InputError, naming it, if it is unreadable."""
        try:
            with SoundReader(self.files.path(index)) as reader:
                length = _whole_length(reader, self.sample_rate)
                if self._size is None:
                    signal = torch.cat(list(_pieces(reader, self.sample_rate)), dim=1)
                else:
                    signal = _part(reader, self.sample_rate, self._start(length, index, draw), self._size, length)
        except InputError as error:
            raise InputError(f"{self.names[index]}: {error}") from error
        return Item(self.names[index], signal, (length,))

    def load_or_stream(self, index: int, draw: int = 0) -> Item | Stream:
        """Item `index`, as a stream where it is whole and longer than a minute."""
        if self._size is not None:
            return self.load(index, draw)
        path, name = self.files.path(index), self.names[index]
        try:
            with SoundReader(path) as reader:
                is_long = reader.frames > LONG_SECONDS * reader.sample_rate
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        return Stream(name, partial(_stream, path, name, self.sample_rate)) if is_long else self.load(index, draw)

    def describe(self) -> SourceDescription:
        """Size and crop, as they were asked for."""
        return SourceDescription(self._size, crop=None if self._size is None else self._crop)

    def protocol(self) -> dict[str, object]:
        """What was done to the sounds, for the record."""
        return {
            "size": self._size,
            "sample_rate": self.sample_rate,
            "resampler": f"soxr {QUALITY}",
            "crop": None if self._size is None else self._crop,
            "channels": "averaged",
            "beyond_full_scale": "clamped",
        }

    def _start(self, length: int, index: int, draw: int) -> int:
        """The first sample of the crop, given the length of the whole."""
        spare = max(0, length - (self._size or 0))
        if self._crop == "random":
            return int(numpy.random.default_rng([index, draw]).integers(spare + 1))
        return spare // 2 if self._crop == "center" else 0


class AudioFiles(ListedAudio):
    """The sounds that a path stands for; the other arguments are those of `ListedAudio`.

    path: a folder (with its subfolders), a sound file, a .txt list of them, or several of these.
    Raises InputError where the path is missing or holds no audio files.
    """

    def __init__(
        self, path: str | list[str], size: int | None = None, sample_rate: int = 16000, crop: Crop = "center"
    ) -> None:
        files = find_files([path] if isinstance(path, str) else path, SUFFIXES, "audio files")
        super().__init__(files, size, sample_rate, crop)


def _whole_length(reader: SoundReader, sample_rate: int) -> int:
    length = resampled_length(reader.frames, reader.sample_rate, sample_rate)
    if not length:
        raise InputError(
            f"the file holds {reader.frames} frames at {reader.sample_rate} Hz, which is less than one sample at "
            f"{sample_rate} Hz"
        )
    return length


def _part(reader: SoundReader, sample_rate: int, start: int, size: int, length: int) -> Tensor:
    """`size` samples of the file from `start` on, followed by silence where it ends before: (1, size)."""
    span = span_of(start, size, reader.frames, reader.sample_rate, sample_rate)
    blocks = resampled(reader.blocks(span.start, span.samples), reader.sample_rate, sample_rate)
    samples = numpy.concatenate(list(blocks))[span.skip : span.skip + min(size, length - start)]
    return torch.nn.functional.pad(_signal(samples), (0, size - len(samples)))


def _pieces(reader: SoundReader, sample_rate: int) -> Iterator[Tensor]:
    """The whole file as pieces (1, samples) in [-1, 1]."""
    return map(_signal, resampled(reader.blocks(), reader.sample_rate, sample_rate))


def _stream(path: str, name: str, sample_rate: int) -> Iterator[Tensor]:
    """The pieces of a file that is opened when the first is asked for. Raises InputError, naming the item."""
    try:
        with SoundReader(path) as reader:
            yield from _pieces(reader, sample_rate)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _signal(samples: Samples) -> Tensor:
    return torch.from_numpy(samples).clamp(-1, 1)[None]
