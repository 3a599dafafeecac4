"""Dead leaves: endless pictures of overlapping textured shapes, with statistics close to those of photographs.

Leaves of random shape fall on one another; their radii follow the power law r^-3, so that the picture looks the same
at every scale and has the occlusion edges of natural images and their power spectrum, falling as 1/f² to 1/f³.
Lee, Mumford, Huang, "Occlusion models for natural images", IJCV 2001. No files, no licence.
"""

from typing import Annotated, ClassVar

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import Field

from tokcli.contracts import Item, ModalityName, Source, SourceDescription
from tokcli.data.items import NumberedNames
from tokcli.schema import Count, CountOrZero

Floats = NDArray[numpy.floating]

LEAVES = 180
"""In each picture; at most 256, so that a byte tells which leaf a pixel shows."""

SMALLEST, LARGEST = 0.06, 0.6
"""Radii, as fractions of the picture's side."""

OVERSAMPLING = 2
"""Pictures are drawn this much larger and averaged, which softens edges as a lens does."""

MARGIN = 0.2
"""Leaves may be centred this far outside the picture, so that its borders look like its middle."""

CORNERS = (3, 4, 5, 6, 24, 24, 24, 24)
"""Half of the leaves are polygons, half are discs and ellipses."""


class DeadLeaves(Source):
    """Images made from (seed, index, draw) alone, (3, size, size) float32 in [-1, 1].

    Draw 0 is the fixed set that evaluation reads. Training reads every item under a new draw in each epoch, and so
    never sees an image twice.

    Args:
        items: Images in the set.
        size: Side in pixels, at least 8.
        seed: Another seed is another set.
    """

    modality: ClassVar[ModalityName] = "image"

    def __init__(self, items: Count = 1000, size: Annotated[int, Field(ge=8)] = 64, seed: CountOrZero = 0) -> None:
        self.names = NumberedNames("dead-leaves-", items)
        self._size = size
        self._seed = seed

    def load(self, index: int, draw: int = 0) -> Item:
        """Image `index`; each draw is another image."""
        generator = numpy.random.default_rng([self._seed, index, draw])
        return Item(self.names[index], torch.from_numpy(paint(generator, self._size)), (self._size, self._size))

    def describe(self) -> SourceDescription:
        """What they are, and their size."""
        return SourceDescription(self._size, made="dead leaves")

    def protocol(self) -> dict[str, object]:
        """How the pictures are made, for the record."""
        return {"made": "dead leaves", "size": self._size, "seed": self._seed, "leaves": LEAVES}


def paint(generator: numpy.random.Generator, size: int) -> Floats:
    """One picture, (3, size, size) in [-1, 1]."""
    side = size * OVERSAMPLING
    fine = texture_leaves(generator, drop_leaves(generator, side))
    soft = fine.reshape(3, size, OVERSAMPLING, size, OVERSAMPLING).mean(axis=(2, 4))
    return numpy.clip(soft, -1, 1, dtype=numpy.float32)


def drop_leaves(generator: numpy.random.Generator, side: int) -> NDArray[numpy.uint8]:
    """Which leaf is seen at each pixel, (side, side): later leaves cover earlier ones, leaf 0 lies under them all."""
    least, most = LARGEST**-2, SMALLEST**-2
    radii = side * generator.uniform(least, most, (LEAVES, 1)) ** -0.5  # a density of r^-3 has 1/r² uniform
    widths = radii * generator.uniform(0.4, 1.0, (LEAVES, 1))
    centres = generator.uniform(-MARGIN, 1 + MARGIN, (2, LEAVES, 1)) * side
    turns = generator.uniform(0, 2 * numpy.pi, (LEAVES, 1))
    corners = generator.choice(CORNERS, (LEAVES, 1))
    steps = 2 * numpy.pi / corners * numpy.arange(max(CORNERS))
    along, across = radii * numpy.cos(steps), widths * numpy.sin(steps)
    x = centres[0] + numpy.cos(turns) * along - numpy.sin(turns) * across
    y = centres[1] + numpy.sin(turns) * along + numpy.cos(turns) * across
    outlines = numpy.stack([x, y], axis=-1).reshape(LEAVES, -1).tolist()

    seen = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(seen)
    for leaf in range(1, LEAVES):
        pen.polygon(outlines[leaf][: 2 * corners[leaf, 0]], fill=leaf)
    return numpy.asarray(seen)


def texture_leaves(generator: numpy.random.Generator, seen: NDArray[numpy.uint8]) -> Floats:
    """Give every leaf its colour, shading, stripes and grain: (side, side) leaf numbers -> (3, side, side)."""
    side = len(seen)
    colours = generator.normal(0, 0.4, (LEAVES, 1)) + generator.normal(0, 0.12, (LEAVES, 3))
    slopes = generator.normal(0, 0.4 / side, (2, LEAVES))
    lengths = side * numpy.exp(generator.uniform(numpy.log(0.04), numpy.log(0.5), LEAVES))
    directions = generator.uniform(0, 2 * numpy.pi, LEAVES)
    waves = 2 * numpy.pi / lengths * numpy.stack([numpy.sin(directions), numpy.cos(directions)])
    phases = generator.uniform(0, 2 * numpy.pi, LEAVES)
    contrasts = generator.uniform(0, 0.2, LEAVES) * (generator.random(LEAVES) < 0.5)
    grains = generator.uniform(0, 0.12, LEAVES)

    axis = numpy.arange(side, dtype=numpy.float32)
    y, x = axis[:, None], axis

    def of_pixel(table: NDArray[numpy.float64]) -> Floats:
        return table.astype(numpy.float32)[seen]

    shade = of_pixel(slopes[0]) * (y - side / 2) + of_pixel(slopes[1]) * (x - side / 2)
    shade += of_pixel(contrasts) * numpy.sin(of_pixel(waves[0]) * y + of_pixel(waves[1]) * x + of_pixel(phases))
    shade += of_pixel(grains) * generator.standard_normal((side, side), dtype=numpy.float32)
    return numpy.stack([of_pixel(colours[:, channel]) + shade for channel in range(3)])
