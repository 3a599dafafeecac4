"""Sheets: pairs of pictures in bands, so that eyes can compare an original with the reconstruction under it."""

from collections.abc import Sequence

from PIL import Image


def banded(pairs: Sequence[tuple[Image.Image, Image.Image]], columns: int, gap: int) -> Image.Image:
    """Bands of at most so many pairs, the second picture of each under the first, on white.

    gap: pixels between pictures; twice as many between bands.
    """
    columns = min(len(pairs), columns)
    bands = -(-len(pairs) // columns)
    width = max(picture.width for pair in pairs for picture in pair) + gap
    height = max(picture.height for pair in pairs for picture in pair) + gap
    band_height = 2 * height + gap
    sheet = Image.new("RGB", (columns * width - gap, bands * band_height - 2 * gap), "white")
    for place, pair in enumerate(pairs):
        band, column = divmod(place, columns)
        for row, picture in enumerate(pair):
            sheet.paste(picture, (column * width, band * band_height + row * height))
    return sheet
