"""Sounds as pictures: how loud each frequency is at each moment, in colours that grow brighter as it grows louder."""

import numpy
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[numpy.float64]

WINDOW = 512
"""Samples of a Hann window, 32 ms at 16 kHz: 256 rows of a picture."""

COLUMNS = 300
"""Of the longest sound on a sheet."""

FLOOR = -80.0
"""Decibels that are black; digital silence is far below."""


def decibels(sound: NDArray[numpy.float32], longest: int) -> Floats:
    """sound: (samples,) -> (WINDOW // 2, columns) decibels, high frequencies first.

    longest: samples that take COLUMNS columns; the step between columns follows from it.
    """
    step = max(1, -(-longest // COLUMNS))
    padded = numpy.pad(sound.astype(numpy.float64), (WINDOW // 2, WINDOW))
    windows = numpy.lib.stride_tricks.sliding_window_view(padded, WINDOW)[: len(sound) : step]
    magnitudes = numpy.abs(numpy.fft.rfft(windows * numpy.hanning(WINDOW)))[:, 1:]
    return 20 * numpy.log10(numpy.maximum(magnitudes, 1e-6)).T[::-1]


def to_colours(loudness: Floats) -> Image.Image:
    """loudness: (rows, columns) in decibels, from FLOOR to 0 -> a picture from black through colours to white."""
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
