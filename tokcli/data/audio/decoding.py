"""Any sound file to one channel of float32 samples, a piece at a time.

WAV, FLAC, MP3, Ogg (Vorbis, Opus) and AIFF of any depth are read through libsndfile. Channels are averaged into one.
A piece is found by seeking, which is exact but for one case: in the last page of an Ogg Vorbis file libsndfile lands
a few dozen samples off. An MP3 of variable bit rate without a table of contents is read as far as libsndfile
estimates it to go.
"""

import os
import re
from collections.abc import Iterator
from types import TracebackType

import numpy
import soundfile
from numpy.typing import NDArray

from tokcli.errors import InputError

Samples = NDArray[numpy.float32]

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff")
FORMATS = ("WAV", "FLAC", "MP3", "Ogg", "Opus", "AIFF")

VALUES_AT_ONCE = 2**18
"""Frames times channels that are decoded at a time: 16 seconds of one channel at 16 kHz, a megabyte."""

_ANNOUNCED = re.compile(r"^\s*(?:data|SSND)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_LENGTH = 0x7FFFF000
"""Programs that write to a pipe announce this many bytes of sound or more, and mean that they cannot know."""

_ENDLESS = 2**48
"""Frames; libsndfile gives the largest number it has where a file does not tell."""


class AudioReader:
    """An open sound file, as a context manager.

    frames: in the file, of all channels together. sample_rate: of the file, in Hz. channels: in the file.
    Raises InputError, with the reason but without the path, where it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._file = _opened(path)
        self.frames: int = self._file.frames
        self.sample_rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        problem = _problem(self._file)
        if problem:
            self._file.close()
            raise InputError(problem)

    def blocks(self, start: int = 0, frames: int | None = None) -> Iterator[Samples]:
        """`frames` frames from `start` on (None: all that follow) as pieces (samples,), averaged over the channels.

        Raises InputError where there are fewer frames than the file announces, or values that are not finite.
        """
        wanted = self.frames - start if frames is None else frames
        position, end = start, start + wanted
        try:
            if start:
                self._file.seek(start)
            while position < end:
                count = min(end - position, max(1, VALUES_AT_ONCE // self.channels))
                block = self._file.read(count, dtype="float32", always_2d=True)
                if len(block) < count:
                    read = position + len(block)
                    raise InputError(f"the sound is damaged or cut short: {read} of {self.frames} frames can be read")
                position += count
                yield _averaged(block, position - count, self.sample_rate)
        except soundfile.LibsndfileError as error:
            raise InputError(f"the sound is damaged or cut short: {error.error_string.strip()}") from error

    def __enter__(self) -> "AudioReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _opened(path: str) -> soundfile.SoundFile:
    """libsndfile names neither an empty file nor one that it may not open."""
    try:
        with open(path, "rb") as file:
            if not file.read(1):
                raise InputError("the file is empty (0 bytes)")
    except OSError as error:
        raise InputError(f"the file cannot be opened: {error.strerror}") from error
    try:
        return soundfile.SoundFile(os.fspath(path))
    except soundfile.LibsndfileError as error:
        raise InputError(f"the content is not sound that this can read ({', '.join(FORMATS)})") from error


def _problem(file: soundfile.SoundFile) -> str | None:
    """Why not to read the file. Of a WAV or AIFF file that was cut off libsndfile only notes it in its log."""
    if not file.frames:
        return "the file holds no samples"
    if file.frames >= _ENDLESS:
        return "the file does not say how long it is; write it anew with a program that can go back to its header"
    for announced, there in _ANNOUNCED.findall(file.extra_info):
        if int(there) < int(announced) < _UNKNOWN_LENGTH:
            return f"the sound is cut short: the file holds {there} of the {announced} bytes that it announces"
    return None


def _averaged(block: Samples, start: int, sample_rate: int) -> Samples:
    """(frames, channels) -> (frames,). Raises InputError for values that are not finite."""
    mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
    if not numpy.isfinite(mono).all():
        first = start + int(numpy.argmin(numpy.isfinite(mono)))
        raise InputError(
            f"the sound holds values that are not finite (NaN or infinity), the first at frame {first} "
            f"({first / sample_rate:.2f} s)"
        )
    return mono
