"""Images for people: side by side on a sheet, and on the page of a report."""

from collections.abc import Sequence
from typing import ClassVar

from PIL import Image
from torch import Tensor

from tokcli.data.image.decoding import to_image
from tokcli.data.view import View, lay_out

LONGEST_SIDE = 640
"""Pixels of an image on a page; larger ones are shown smaller."""

SHEET_COLUMNS = 8
SHEET_GAP = 2
"""Pixels of white between the images of a sheet; twice as many between its bands."""


ENLARGED_TO = 192
"""Pixels that the longest side of the images of a sheet is brought to, if it is shorter."""
LARGEST_PIXEL = 4


class ImageView(View):
    """Images are shown as they are, as 8-bit RGB."""

    limits: ClassVar[str] = f"Pictures are stored without loss; those over {LONGEST_SIDE} pixels are shown smaller."
    wide: ClassVar[bool] = False

    def draw(self, reference: Tensor, reconstructions: Sequence[Tensor], sample_rate: int | None) -> list[Image.Image]:
        """The images themselves, at most LONGEST_SIDE pixels a side."""
        images = [to_image(signal) for signal in (reference, *reconstructions)]
        for image in images:
            image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
        return images

    def play(self, signals: Sequence[Tensor], sample_rate: int | None) -> list[bytes]:
        """Nothing: images are silent."""
        return []

    def visible_part(self, grid: Tensor, samples: int, sample_rate: int | None) -> Tensor:
        """All of it, (rows, columns, width)."""
        return grid

    def sheet(
        self, references: Sequence[Tensor], *reconstructions: Sequence[Tensor], labels: Sequence[str] = ()
    ) -> Image.Image:
        """Bands of up to eight: a row of originals, and right under it the rows of their reconstructions.

        Small images are enlarged, each pixel to a square.
        """
        longest = max(max(signal.shape[1:]) for signal in references)
        times = min(LARGEST_PIXEL, max(1, ENLARGED_TO // longest))
        rows = [[_enlarge(to_image(signal), times) for signal in row] for row in (references, *reconstructions)]
        return lay_out(rows, SHEET_COLUMNS, SHEET_GAP, labels)


def _enlarge(image: Image.Image, times: int) -> Image.Image:
    """The image with each pixel as a square of so many."""
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST) if times > 1 else image
