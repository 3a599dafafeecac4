"""Pictures as files: read from any format, saved as PNG, shown side by side."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from tokcli.data.files import Files
from tokcli.data.image.decoding import SUFFIXES, to_picture
from tokcli.data.image.files import ListedImages
from tokcli.data.medium import Medium
from tokcli.data.sheets import banded
from tokcli.files import replacing

SHEET_COLUMNS = 8
SHEET_GAP = 2
"""Pixels of white between the pictures of a sheet; twice as many between its bands."""


class ImageMedium(Medium):
    """Photographs and drawings; saved as PNG, which loses nothing."""

    noun = "images"
    suffixes = SUFFIXES
    saved_suffixes = (".png",)

    def rate(self, bits: float, samples: int, sample_rate: int | None) -> dict[str, float]:
        """Bits per pixel."""
        return {"bits_per_pixel": bits / samples}

    def source(self, files: Files, size: int | None, sample_rate: int | None) -> ListedImages:
        """Shorter side resized to `size`, then the centre square; whole images where it is None."""
        return ListedImages(files, size)

    def save(self, path: Path, pieces: Iterable[Tensor], sample_rate: int | None) -> None:
        """Write a picture, the one piece (3, height, width) in [-1, 1], rounded to 8 bits."""
        (signal,) = pieces
        with replacing(path) as unfinished:
            # Level 3 takes 7 ms for 256x256 where the default takes 17, for files 3 % larger.
            to_picture(signal).save(unfinished, format="PNG", compress_level=3)

    def sheet(
        self, references: Sequence[Tensor], *reconstructions: Sequence[Tensor], labels: Sequence[str] = ()
    ) -> Image.Image:
        """Bands of up to eight: a row of originals, and right under it the rows of their reconstructions."""
        rows = [[to_picture(signal) for signal in row] for row in (references, *reconstructions)]
        return banded(rows, SHEET_COLUMNS, SHEET_GAP, labels)
