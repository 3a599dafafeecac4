"""Sheets: rows of pictures in bands, so that eyes can compare an original with the reconstructions under it."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

LETTERS = 14
"""Height of a label's letters, in pixels."""

LABEL = 20
"""Height of a label with its space."""


def banded(rows: Sequence[Sequence[Image.Image]], columns: int, gap: int, labels: Sequence[str] = ()) -> Image.Image:
    """Bands of at most so many columns, in each a part of every row, one under the other, on white.

    rows: the originals, then what became of each of them, once or several times.
    gap: pixels between pictures; twice as many between bands. labels: of the rows, written above each; or none.
    """
    count = len(rows[0])
    columns = min(count, columns)
    bands = -(-count // columns)
    heading = LABEL if labels else 0
    width = max(picture.width for row in rows for picture in row) + gap
    height = max(picture.height for row in rows for picture in row) + gap + heading
    band_height = len(rows) * height + gap
    font = ImageFont.load_default(LETTERS)
    widest = max((round(font.getlength(label)) for label in labels), default=0)
    size = (max(columns * width - gap, widest), bands * band_height - 2 * gap)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for band in range(bands):
        for place, row in enumerate(rows):
            top = band * band_height + place * height
            if labels:
                draw.text((0, top), labels[place], fill="black", font=font)
            for column, picture in enumerate(row[band * columns : (band + 1) * columns]):
                sheet.paste(picture, (column * width, top + heading))
    return sheet
