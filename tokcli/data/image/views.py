"""Augmented copies of images, encoded once so that a generator's training need not: a flip, or ten crops.

Item NAME becomes NAME#view-0, NAME#view-1, and so on, one behind another, as exporters for LlamaGen expect them.
"""

import re
from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor

from tokcli.contracts import Item, ModalityName, Source, SourceDescription
from tokcli.data.image.files import ImageFiles
from tokcli.errors import UsageError

Views = Literal["flip", "ten-crop"]

COUNTS: dict[Views, int] = {"flip": 2, "ten-crop": 10}

MARGIN = 1.1
"""Ten crops are taken of an image whose shorter side is so many times theirs."""

VIEW = re.compile(r"^(?P<name>.*)#view-(?P<view>\d+)$")


def name_view(name: str, view: int) -> str:
    """What a view of an item is called."""
    return f"{name}#view-{view}"


def strip_view(name: str) -> str:
    """A name without the number of its view."""
    match = VIEW.match(name)
    return match["name"] if match else name


class ImageViews(Source):
    """Every view of every image.

    Args:
        paths: folders, images and .txt lists.
        size: side of the square crop; None keeps every image whole.
        views: `flip`: the image and its mirror image; `ten-crop`: the four corners and the centre of a larger one, in
            this order, and the mirror images of these five.

    Raises:
        UsageError: for ten crops of no size.
        InputError: where there are no images.
    """

    modality: ClassVar[ModalityName] = "image"

    def __init__(self, paths: list[str], size: int | None, views: Views) -> None:
        if views == "ten-crop" and size is None:
            raise UsageError("--views ten-crop takes crops of one size; say it with --size N")
        self._views: Views = views
        self._size = size
        wider = round(size * MARGIN) if views == "ten-crop" and size is not None else size
        self._images = ImageFiles(paths, wider)
        self.files = self._images.files
        self.names = [name_view(name, view) for name in self._images.names for view in range(COUNTS[views])]
        self._latest: tuple[int, Item] | None = None

    def load(self, index: int, draw: int = 0) -> Item:
        """View `index`; the image that it is of is kept for the next ones."""
        number, view = divmod(index, COUNTS[self._views])
        if self._latest is None or self._latest[0] != number:
            self._latest = number, self._images.load(number, draw)
        item = self._latest[1]
        signal = self._cut(item.signal, view)
        return Item(self.names[index], signal, item.original_size, item.about, lacks=item.lacks)

    def mark(self, items: range) -> str:
        """That of the images that the views are of."""
        count = COUNTS[self._views]
        return self._images.mark(range(items.start // count, -(-items.stop // count)))

    def describe(self) -> SourceDescription:
        """The size of a view."""
        return SourceDescription(self._size, crop=None if self._size is None else "center")

    def protocol(self) -> Mapping[str, object]:
        """What was done to the images, for the record."""
        return {**self._images.protocol(), "size": self._size, "views": self._views}

    def _cut(self, signal: Tensor, view: int) -> Tensor:
        """A view of (channels, height, width)."""
        half = COUNTS[self._views] // 2
        mirrored = view >= half
        if self._views == "ten-crop" and self._size is not None:
            spare = signal.shape[-1] - self._size
            top, left = [(0, 0), (0, spare), (spare, 0), (spare, spare), (spare // 2, spare // 2)][view % half]
            signal = signal[:, top : top + self._size, left : left + self._size]
        return (signal.flip(-1) if mirrored else signal).contiguous()
