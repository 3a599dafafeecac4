"""Audio from files: a folder, single files or lists, at one sample rate, cut to equal lengths or whole.

Training of a speech tokenizer reads `size: 9600, crop: random`, 0.6 seconds at 16 kHz; it is judged on whole files.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal

import numpy
import soundfile
import torch
from torch import Tensor

from tokcli.contracts import Item, ModalityName, Source, SourceDescription, Stream
from tokcli.data.audio.decoding import SUFFIXES, AudioReader
from tokcli.data.audio.resampling import QUALITY, Samples, count_resampled, find_span, resample
from tokcli.data.files import find_files, naming_item
from tokcli.errors import InputError
from tokcli.files import explain, replacing
from tokcli.schema import Count

LONG_SECONDS = 60
"""Whole files longer than this are offered as streams."""

Crop = Literal["center", "random", "start"]


class AudioFiles(Source):
    """The recordings that a path stands for, as (1, samples) float32 in [-1, 1].

    Channels are averaged; values beyond full scale are clamped. The original size of an item is the number of samples
    that the whole file has at `sample_rate`.

    Args:
        path: A folder (with its subfolders), an audio file, a .txt list, a tar or a parquet file of them,
            or several of these.
        size: Samples to take, at `sample_rate`; None keeps every file whole. A shorter file is followed by silence.
        sample_rate: In Hz; files of another rate are resampled.
        crop: Where the samples are taken. Only what they depend on is read, however long the file is.

    Raises:
        InputError: The path is missing or holds no audio files.
    """

    modality: ClassVar[ModalityName] = "audio"

    def __init__(
        self, path: str | list[str], size: Count | None = None, sample_rate: Count = 16000, crop: Crop = "center"
    ) -> None:
        self._files = find_files([path] if isinstance(path, str) else path, SUFFIXES, "audio files")
        self.files = self._files
        self.names = self._files.names
        self.starts = self._files.starts
        self.sample_rate = self._rate = sample_rate
        self._size = size
        self._crop: Crop = crop

    def load(self, index: int, draw: int = 0) -> Item:
        """Item `index`; `draw` seeds its random crop. Raises InputError, naming it, if it is unreadable."""
        with naming_item(self.names[index]), AudioReader(self._files.open(index)) as reader:
            length = _measure(reader, self._rate)
            if self._size is None:
                signal = torch.cat(list(_read_pieces(reader, self._rate)), dim=1)
            else:
                start = self._start(length, self._size, index, draw)
                signal = _read_part(reader, self._rate, start, self._size, length)
            about, lacks = self._files.about(index), self._files.lacks(index)
        return Item(self.names[index], signal, (length,), about, lacks=lacks)

    def load_or_stream(self, index: int, draw: int = 0) -> Item | Stream:
        """Item `index`, as a stream where it is whole and longer than a minute."""
        if self._size is not None:
            return self.load(index, draw)
        name, opener = self.names[index], self._files.opener(index)
        with naming_item(name), AudioReader(opener()) as reader:
            is_long = reader.frames > LONG_SECONDS * reader.sample_rate
            samples = _measure(reader, self._rate) if is_long else 0
            about, lacks = self._files.about(index), self._files.lacks(index)
        if not is_long:
            return self.load(index, draw)
        return Stream(name, partial(_read_stream, opener, name, self._rate), samples, about=about, lacks=lacks)

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

    def mark(self, items: range) -> str:
        """What changes when one of the files does."""
        return self._files.mark(items)

    def describe(self) -> SourceDescription:
        """The size and where it is taken."""
        return SourceDescription(self._size, crop=None if self._size is None else self._crop)

    def _start(self, length: int, size: int, index: int, draw: int) -> int:
        """The first sample of a crop of `size`, given the length of the whole."""
        spare = max(0, length - size)
        if self._crop == "random":
            return int(numpy.random.default_rng([index, draw]).integers(spare + 1))
        return spare // 2 if self._crop == "center" else 0


def _measure(reader: AudioReader, sample_rate: int) -> int:
    """Samples of the whole file at `sample_rate`. Raises InputError where there is not one."""
    length = count_resampled(reader.frames, reader.sample_rate, sample_rate)
    if not length:
        raise InputError(
            f"the file holds {reader.frames} frames at {reader.sample_rate} Hz, which is less than one sample at "
            f"{sample_rate} Hz"
        )
    return length


def _read_part(reader: AudioReader, sample_rate: int, start: int, size: int, length: int) -> Tensor:
    """`size` samples of the file from `start` on, followed by silence where it ends before: (1, size)."""
    span = find_span(start, size, reader.frames, reader.sample_rate, sample_rate)
    blocks = resample(reader.blocks(span.start, span.samples), reader.sample_rate, sample_rate)
    samples = numpy.concatenate(list(blocks))[span.skip : span.skip + min(size, length - start)]
    return torch.nn.functional.pad(_to_signal(samples), (0, size - len(samples)))


def _read_pieces(reader: AudioReader, sample_rate: int) -> Iterator[Tensor]:
    """The whole file as pieces (1, samples) in [-1, 1]."""
    return map(_to_signal, resample(reader.blocks(), reader.sample_rate, sample_rate))


def _read_stream(opener: Callable[[], BinaryIO], name: str, sample_rate: int) -> Iterator[Tensor]:
    """The pieces of a file that is opened when the first is asked for. Raises InputError, naming the item."""
    with naming_item(name), AudioReader(opener()) as reader:
        yield from _read_pieces(reader, sample_rate)


def _to_signal(samples: Samples) -> Tensor:
    """(samples,) -> (1, samples) in [-1, 1]."""
    return torch.from_numpy(samples).clamp(-1, 1)[None]


def read_sample_rate(path: str) -> int:
    """The sample rate in Hz of the first file that `path` stands for. Raises InputError where it cannot be read."""
    files = find_files([path], SUFFIXES, "audio files")
    with naming_item(files.names[0]), AudioReader(files.open(0)) as reader:
        return reader.sample_rate


def save_audio(path: Path, pieces: Iterable[Tensor], sample_rate: int | None) -> None:
    """Write pieces (channels, samples) in [-1, 1], one after another, rounded to 16 bits, as `path`'s suffix says."""
    assert sample_rate is not None, "audio has a sample rate"
    with replacing(path) as unfinished:
        try:
            _write(unfinished, path.suffix[1:].upper(), pieces, sample_rate)
        except (soundfile.LibsndfileError, AssertionError) as error:  # it asserts that all samples were written
            raise explain(error, path) from error


def _write(path: Path, file_format: str, pieces: Iterable[Tensor], sample_rate: int) -> None:
    file = None
    try:
        for piece in pieces:
            if file is None:
                file = soundfile.SoundFile(path, "w", sample_rate, len(piece), "PCM_16", format=file_format)
            file.write(_to_sixteen_bits(piece))
    finally:
        if file is not None:
            file.close()


def _to_sixteen_bits(signal: Tensor) -> numpy.ndarray:
    """(channels, samples) in [-1, 1] -> (samples, channels) int16; what 16-bit files hold comes back unchanged."""
    levels = signal.detach().cpu().float().mul(32768).round_().clamp_(-32768, 32767)
    return levels.to(torch.int16).T.contiguous().numpy()
