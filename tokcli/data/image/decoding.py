"""Any image file to 8-bit RGB, and 8-bit RGB to signals and back.

Whatever a file holds (grey, palette, alpha, CMYK, 16 bits, a rotation in its EXIF tags) becomes upright 8-bit RGB.
Transparent parts are composited on white; colour profiles are ignored; of several frames the first is read. Of 16-bit
colour the upper 8 bits are kept, while 16-bit grey is scaled and rounded.
"""

import struct
import warnings
from typing import BinaryIO

import numpy
import torch
from PIL import Image
from torch import Tensor

from tokcli.errors import InputError
from tokcli.numerics import to_levels, unpack_levels

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
MAX_PIXELS = 100_000_000
"""Larger images are refused from their header: a small file can claim a size that no memory holds. To decode as many
takes 0.4 GB, and 0.8 GB where they are converted."""

MAX_WHOLE_PIXELS = 25_000_000
"""Larger images are refused at their own size, from their header: the tokenizers of the small recipes take some 80
bytes for each pixel, 2 GB for as many. Cut into tiles they would get other tokens: networks for images normalise over
all positions, so that each token depends on every pixel."""

BAND_PIXELS = 1 << 22
"""Converted to RGB at a time, so that what a conversion needs beside its result does not grow with the image."""

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BROKEN = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error),
    *(AssertionError, AttributeError, BufferError, RuntimeError),
)
"""What decoders raise on damaged files; Pillow promises no single exception."""


def read_image(file: BinaryIO, most_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image in an open file, upright, mode RGB.

    Args:
        file: Its bytes.
        most_pixels: Larger images are refused from their header, before memory is taken.

    Raises:
        InputError: It cannot be read; with the reason but without the name.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _decode(file, most_pixels)
        except Image.DecompressionBombError as error:
            raise InputError(_too_large(most_pixels)) from error


def _too_large(most_pixels: int) -> str:
    """What is said of a picture of more pixels."""
    most = f"{most_pixels // 1_000_000} million pixels"
    if most_pixels < MAX_PIXELS:
        return f"the picture is too large to be taken whole: at most {most}; give it a --size, or cut it in parts"
    return f"the picture is too large to decode safely: at most {most} are read"


def _decode(file: BinaryIO, most_pixels: int) -> Image.Image:
    if not file.read(1):
        raise InputError("the file is empty (0 bytes)")
    file.seek(0)
    try:
        image = Image.open(file, formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise InputError(f"the content is not a picture this can read ({', '.join(FORMATS)})") from error
    except _BROKEN as error:
        raise InputError(f"the picture's header is damaged: {error}") from error
    if image.width * image.height > most_pixels:
        raise InputError(f"{_too_large(most_pixels)}; this one has {image.width}x{image.height}")
    try:
        image.load()
        return to_upright_rgb(image)
    except _BROKEN as error:
        raise InputError(f"the picture is damaged or cut short: {error}") from error


def to_upright_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB, turned as its tags say. Raises InputError for values of unknown range."""
    orientation = _orientation(image)
    image = _to_rgb_in_bands(image)
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION_TAG, 1)
    except _BROKEN:
        return 1  # damaged tags do not make the pixels unreadable


def _to_rgb_in_bands(image: Image.Image) -> Image.Image:
    """The same as `_to_rgb`, pixel by pixel, in as much memory as the result and a band take."""
    if image.mode == "RGB" or image.width * image.height <= BAND_PIXELS:
        return _to_rgb(image)
    whole, rows = Image.new("RGB", image.size), max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        whole.paste(_to_rgb(image.crop((0, top, image.width, bottom))), (0, top))
    return whole


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_sixteen_bits(image)
    if image.mode == "F":
        raise InputError("the picture holds floating point values of unknown range; convert it to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    """Pillow's own conversion clips 16-bit grey at 255 instead of scaling it."""
    values = numpy.asarray(image).astype(numpy.int64)
    if values.min() < 0 or values.max() > 65535:
        raise InputError(f"the picture holds values from {values.min()} to {values.max()}; convert it to 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(numpy.uint8)).convert("RGB")


def to_signal(image: Image.Image) -> Tensor:
    """An RGB image -> (3, height, width) float32 in [-1, 1]."""
    pixels = torch.from_numpy(numpy.array(image))
    return unpack_levels(pixels.permute(2, 0, 1).contiguous())


def to_pixels(signal: Tensor) -> Tensor:
    """(..., 3, height, width) in [-1, 1] -> the same shape in uint8, rounded to the nearest level and clamped."""
    return to_levels(signal.detach()).to(torch.uint8)


def to_image(signal: Tensor) -> Image.Image:
    """(3, height, width) in [-1, 1] -> an 8-bit RGB image."""
    return Image.fromarray(to_pixels(signal).permute(1, 2, 0).contiguous().cpu().numpy())
