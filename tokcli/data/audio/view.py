"""Audio for people: FLAC to listen to, and spectrograms to look at.

A spectrogram shows how loud each frequency is at each moment, in colours that grow brighter as it grows louder.
"""

import io
from collections.abc import Sequence
from typing import ClassVar

import numpy
import soundfile
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tokcli.backbones.spectra import transform_pieces
from tokcli.data.view import View, lay_out

Floats = NDArray[numpy.float64]

WINDOW = 512
"""Samples of a Hann window, 32 ms at 16 kHz: 256 rows of an image."""

COLUMNS = 300
"""Of the longest recording on a sheet."""

FLOOR = -80.0
"""Decibels that are black; digital silence is far below."""

PAGE_SECONDS = 6
"""Of a recording on a page, from its beginning."""

SHEET_ITEMS, SHEET_COLUMNS = 8, 4
SHEET_GAP = 6
"""Pixels of white between the spectrograms of a sheet; twice as many between its bands."""

SHEET_SAMPLES = 48_000
"""Of each recording, from its beginning: three seconds at 16 kHz."""


class AudioView(View):
    """Audio is played, and shown as spectrograms on one scale of loudness."""

    limits: ClassVar[str] = f"Of each sound the first {PAGE_SECONDS} seconds are kept, with 16 bits and without loss."
    wide: ClassVar[bool] = True

    def draw(self, reference: Tensor, reconstructions: Sequence[Tensor], sample_rate: int | None) -> list[Image.Image]:
        """Spectrograms, brightness in decibels below the loudest of the reference."""
        clips = [_beginning(signal, sample_rate).mean(0).numpy() for signal in (reference, *reconstructions)]
        loudness = [decibels(clip, len(clip)) for clip in clips]
        return [to_colours(levels - loudness[0].max()) for levels in loudness]

    def play(self, signals: Sequence[Tensor], sample_rate: int | None) -> list[bytes]:
        """FLAC files of 16 bits."""
        assert sample_rate is not None, "audio has a sample rate"
        contents = []
        for signal in signals:
            file = io.BytesIO()
            samples = _beginning(signal, sample_rate).T.numpy()
            soundfile.write(file, samples, sample_rate, "PCM_16", format="FLAC")
            contents.append(file.getvalue())
        return contents

    def visible_part(self, grid: Tensor, samples: int, sample_rate: int | None) -> Tensor:
        """The beginning, as one row: (1, columns, width)."""
        share = min(1.0, _page_samples(sample_rate) / samples)
        return grid[None, : max(1, round(len(grid) * share))]

    def describe_axes(self, signals: Sequence[Tensor], sample_rate: int | None) -> str:
        """Seconds from left to right, and frequencies from bottom to top."""
        if sample_rate is None:
            return ""
        seconds = min(SHEET_SAMPLES, max(signal.shape[1] for signal in signals)) / sample_rate
        return f" (left to right {seconds:.3g} s, bottom to top 0 to {sample_rate / 2000:.3g} kHz)"

    def sheet(
        self, references: Sequence[Tensor], *reconstructions: Sequence[Tensor], labels: Sequence[str] = ()
    ) -> Image.Image:
        """Bands of up to four: spectrograms of the originals, and right under them those of their reconstructions.

        Eight are shown at most, three seconds of each (at 16 kHz), on one scale of time. Frequency rises from bottom
        to top, up to half the sample rate; brightness is in decibels below the loudest of the original.
        """
        rows = [
            [signal.mean(dim=0)[:SHEET_SAMPLES].numpy() for signal in row[:SHEET_ITEMS]]
            for row in (references, *reconstructions)
        ]
        longest = max(len(clip) for clip in rows[0])
        loudness = [[decibels(clip, longest) for clip in row] for row in rows]
        loudest = [original.max() for original in loudness[0]]
        images = [[to_colours(levels - top) for levels, top in zip(row, loudest, strict=True)] for row in loudness]
        return lay_out(images, SHEET_COLUMNS, SHEET_GAP, labels)


def _page_samples(sample_rate: int | None) -> int:
    """Samples of a recording that a page keeps."""
    assert sample_rate is not None, "audio has a sample rate"
    return PAGE_SECONDS * sample_rate


def _beginning(signal: Tensor, sample_rate: int | None) -> Tensor:
    """What a page keeps of a signal (channels, samples), in [-1, 1] on the CPU."""
    return signal.detach().cpu().float().clamp(-1, 1)[:, : _page_samples(sample_rate)]


def decibels(clip: NDArray[numpy.float32], longest: int) -> Floats:
    """How loud each frequency is at each moment: (WINDOW // 2, columns) decibels, high frequencies first.

    Args:
        clip: (samples,).
        longest: Samples that take COLUMNS columns; the step between columns follows from it.
    """
    step = max(1, -(-longest // COLUMNS))
    padded = numpy.pad(clip.astype(numpy.float64), (WINDOW // 2, WINDOW))
    spectra = transform_pieces(padded[: len(clip) + WINDOW - 1], numpy.hanning(WINDOW), step)
    magnitudes = numpy.abs(spectra)[:, 1:]
    return 20 * numpy.log10(numpy.maximum(magnitudes, 1e-6)).T[::-1]


def to_colours(loudness: Floats) -> Image.Image:
    """loudness: (rows, columns) in decibels, from FLOOR to 0 -> an image from black through colours to white."""
    levels = numpy.clip(1 - loudness / FLOOR, 0, 1)
    return Image.fromarray(helix()[numpy.rint(levels * 255).astype(numpy.uint8)])


def helix() -> NDArray[numpy.uint8]:
    """256 colours (256, 3) whose perceived brightness rises evenly while their hue turns.

    Green, "A colour scheme for the display of astronomical intensity images", 2011, with start 0.5 and -1.5 turns.
    """
    brightness = numpy.linspace(0, 1, 256)[:, None]
    angle = 2 * numpy.pi * (0.5 / 3 + 1 - 1.5 * brightness)
    weights = numpy.array([[-0.14861, -0.29227, 1.97294], [1.78277, -0.90649, 0.0]])
    turn = numpy.cos(angle) * weights[0] + numpy.sin(angle) * weights[1]
    colours = brightness + brightness * (1 - brightness) / 2 * turn
    return numpy.rint(numpy.clip(colours, 0, 1) * 255).astype(numpy.uint8)
