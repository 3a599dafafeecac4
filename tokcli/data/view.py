"""How signals are shown to people: as images, as sound, and on sheets that lay originals over reconstructions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

LETTERS = 14
"""Height of a label's letters, in pixels."""

LABEL = 20
"""Height of a label with its space."""


class View(ABC):
    """What people see and hear of the signals of one modality.

    Attributes:
        limits: What of an item a report shows, in words.
        wide: Whether its images are much wider than high.
    """

    limits: ClassVar[str]
    wide: ClassVar[bool]

    @abstractmethod
    def draw(self, reference: Tensor, reconstructions: Sequence[Tensor], sample_rate: int | None) -> list[Image.Image]:
        """Images that can be compared: the reference's, then one for each reconstruction, (channels, *size) each."""

    @abstractmethod
    def play(self, signals: Sequence[Tensor], sample_rate: int | None) -> list[bytes]:
        """What can be heard of each signal (channels, *size), as FLAC files; empty for what is silent by nature."""

    @abstractmethod
    def visible_part(self, grid: Tensor, samples: int, sample_rate: int | None) -> Tensor:
        """The positions of `grid` (*positions, width) that `draw` shows, as (rows, columns, width).

        Args:
            grid: Values at the positions of one item.
            samples: Of the item's signal along its last axis.
            sample_rate: Of audio, in Hz.
        """

    def describe_axes(self, signals: Sequence[Tensor], sample_rate: int | None) -> str:
        """What the axes of a sheet of these signals say, to stand behind a label; empty for pictures."""
        return ""

    @abstractmethod
    def sheet(
        self, references: Sequence[Tensor], *reconstructions: Sequence[Tensor], labels: Sequence[str] = ()
    ) -> Image.Image:
        """An image that shows each reference (channels, *size) over its reconstructions.

        Args:
            references: The originals.
            reconstructions: One for each reference; one or several such rows.
            labels: Of all rows, the references' first; or none.
        """


def lay_out(rows: Sequence[Sequence[Image.Image]], columns: int, gap: int, labels: Sequence[str] = ()) -> Image.Image:
    """Bands of at most so many columns, in each a part of every row, one under the other, on white.

    Args:
        rows: The originals, then what became of each of them, once or several times.
        columns: At most so many images side by side.
        gap: Pixels between images; twice as many between bands.
        labels: Of the rows, written above each; or none.
    """
    count = len(rows[0])
    columns = min(count, columns)
    bands = -(-count // columns)
    heading = LABEL if labels else 0
    width = max(image.width for row in rows for image in row) + gap
    height = max(image.height for row in rows for image in row) + gap + heading
    band_height = len(rows) * height + gap
    font = ImageFont.load_default(LETTERS)
    widest = max((round(font.getlength(label)) for label in labels), default=0)
    size = (max(columns * width - gap, widest), bands * band_height - 2 * gap)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for band in range(bands):
        for number, row in enumerate(rows):
            top = band * band_height + number * height
            if labels:
                pen.text((0, top), labels[number], fill="black", font=font)
            for column, image in enumerate(row[band * columns : (band + 1) * columns]):
                sheet.paste(image, (column * width, top + heading))
    return sheet
