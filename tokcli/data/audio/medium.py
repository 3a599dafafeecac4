"""Sounds as files: read from any format, saved as 16-bit WAV or FLAC, shown as spectrograms."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy
import soundfile
import torch
from PIL import Image
from torch import Tensor

from tokcli.data.audio.decoding import SUFFIXES
from tokcli.data.audio.files import ListedAudio
from tokcli.data.audio.spectrograms import decibels, to_colours
from tokcli.data.files import Files
from tokcli.data.medium import Medium
from tokcli.data.sheets import banded
from tokcli.files import replacing

SHEET_SOUNDS, SHEET_COLUMNS = 8, 4
SHEET_GAP = 6
"""Pixels of white between the spectrograms of a sheet; twice as many between its bands."""

SHEET_SAMPLES = 48_000
"""Of each sound, from its beginning: three seconds at 16 kHz."""


class AudioMedium(Medium):
    """Speech, music and noise, of one channel; saved with 16 bits."""

    noun = "audio files"
    suffixes = SUFFIXES
    saved_suffixes = (".wav", ".flac")

    def usual_size(self, judged: int | None) -> None:
        """None, each file whole: a recipe may be judged on short pieces, but who names a file means all of it."""
        return None

    def rate(self, bits: float, samples: int, sample_rate: int | None) -> dict[str, float]:
        """Kilobits per second."""
        return {"kbps": bits / 1000 * sample_rate / samples}

    def source(self, files: Files, size: int | None, sample_rate: int | None) -> ListedAudio:
        """The middle `size` samples of each file; whole files where it is None."""
        return ListedAudio(files, size, sample_rate)

    def save(self, path: Path, pieces: Iterable[Tensor], sample_rate: int | None) -> None:
        """Write pieces (channels, samples) in [-1, 1], one after another, rounded to 16 bits."""
        with replacing(path) as unfinished:
            try:
                _write(unfinished, path.suffix[1:].upper(), pieces, sample_rate)
            except soundfile.LibsndfileError as error:
                raise OSError(f"{path} cannot be written: {error.error_string}") from error

    def sheet(
        self, references: Sequence[Tensor], *reconstructions: Sequence[Tensor], labels: Sequence[str] = ()
    ) -> Image.Image:
        """Bands of up to four: spectrograms of the originals, and right under them those of their reconstructions.

        Eight sounds are shown at most, three seconds of each (at 16 kHz), on one scale of time. Frequency rises from
        bottom to top, up to half the sample rate; brightness is in decibels below the loudest of the original.
        """
        rows = [
            [signal.mean(dim=0)[:SHEET_SAMPLES].numpy() for signal in row[:SHEET_SOUNDS]]
            for row in (references, *reconstructions)
        ]
        longest = max(len(sound) for sound in rows[0])
        loudness = [[decibels(sound, longest) for sound in row] for row in rows]
        loudest = [original.max() for original in loudness[0]]
        pictures = [[to_colours(each - top) for each, top in zip(row, loudest, strict=True)] for row in loudness]
        return banded(pictures, SHEET_COLUMNS, SHEET_GAP, labels)


def _write(path: Path, file_format: str, pieces: Iterable[Tensor], sample_rate: int | None) -> None:
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
