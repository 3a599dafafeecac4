"""Images from files: a folder, single files or lists, resized and cropped to squares, or at their own size.

The usual preparation of a tokenizer paper is `size: 256` alone: the shorter side is resized to 256 (bicubic,
antialiased) and the centre square is taken.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy
from PIL import Image
from torch import Tensor

from tokcli.contracts import Item, ModalityName, Source, SourceDescription
from tokcli.data.files import find_files, naming_item
from tokcli.data.image.decoding import MAX_PIXELS, MAX_WHOLE_PIXELS, SUFFIXES, read_image, to_image, to_signal
from tokcli.errors import ArgumentError, InputError
from tokcli.files import replacing
from tokcli.schema import Count

Crop = Literal["center", "random"]


class ImageFiles(Source):
    """The images that a path stands for, as (3, height, width) float32 in [-1, 1].

    Args:
        path: A folder (with its subfolders), an image, a .txt list of images, a tar or parquet file of
            them, or several of these.
        size: Side of the square crop; None keeps every image whole.
        resize: True resizes the shorter side to `size` first; false crops the image as it is; a number resizes the
            shorter side to that many pixels. An image smaller than the crop is always enlarged to it.
        crop: Where the square is taken.
        flip: Mirror half of the images, picked at random.

    Raises:
        InputError: The path is missing or holds no images.
    """

    modality: ClassVar[ModalityName] = "image"

    def __init__(
        self,
        path: str | list[str],
        size: Count | None = None,
        resize: int | bool = True,
        crop: Crop = "center",
        flip: bool = False,
    ) -> None:
        if not isinstance(resize, bool) and resize < (size or 1):
            raise ArgumentError(f"resize must be true, false or at least the crop's size ({size or 1}), got {resize}")
        self._files = find_files([path] if isinstance(path, str) else path, SUFFIXES, "images")
        self.files = self._files
        self.names = self._files.names
        self.starts = self._files.starts
        self._size = size
        self._resize = resize
        self._crop: Crop = crop
        self._flip = flip

    def load(self, index: int, draw: int = 0) -> Item:
        """Item `index`; `draw` seeds its random crop and flip. Raises InputError, naming it, if it is unreadable."""
        with naming_item(self.names[index]):
            with self._files.open(index) as file:
                image = read_image(file, MAX_PIXELS if self._size else MAX_WHOLE_PIXELS)
            original_size = (image.height, image.width)
            signal = to_signal(self._prepare(image, index, draw))
            about, lacks = self._files.about(index), self._files.lacks(index)
        return Item(self.names[index], signal, original_size, about, lacks=lacks)

    def mark(self, items: range) -> str:
        """What changes when one of the files does."""
        return self._files.mark(items)

    def describe(self) -> SourceDescription:
        """Size and crop, as they were asked for."""
        return SourceDescription(self._size, crop=None if self._size is None else self._crop)

    def protocol(self) -> dict[str, object]:
        """What was done to the images, for the record."""
        return {
            "size": self._size,
            "resize": self._size if self._resize is True else self._resize,
            "resize_filter": "bicubic, antialiased",
            "crop": None if self._size is None else self._crop,
            "flip": self._flip,
            "alpha": "composited on white",
        }

    def _prepare(self, image: Image.Image, index: int, draw: int) -> Image.Image:
        width, height = self._resized(image.width, image.height)
        if self._size is None:
            left, top, right, bottom = 0, 0, width, height
        else:
            left, top = self._corner(width - self._size, height - self._size, index, draw)
            right, bottom = left + self._size, top + self._size
        if (width, height) == image.size:
            image = image.crop((left, top, right, bottom))
        else:
            # Resizing only what the crop keeps gives the same pixels as resizing all of it.
            across, down = image.width / width, image.height / height
            box = (left * across, top * down, min(right * across, image.width), min(bottom * down, image.height))
            image = image.resize((right - left, bottom - top), Image.Resampling.BICUBIC, box=box)
        if self._flip and numpy.random.default_rng([index, draw, 1]).random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return image

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height before cropping."""
        shorter = min(width, height)
        if not isinstance(self._resize, bool):
            target = self._resize
        elif self._resize and self._size:
            target = self._size
        else:
            target = max(shorter, self._size or 0)
        resized = (max(target, round(width * target / shorter)), max(target, round(height * target / shorter)))
        if self._size is None and resized[0] * resized[1] > MAX_WHOLE_PIXELS:
            raise InputError(f"resized to {resized[0]}x{resized[1]} it would exceed {MAX_WHOLE_PIXELS} pixels")
        return resized

    def _corner(self, spare_width: int, spare_height: int, index: int, draw: int) -> tuple[int, int]:
        """Left and top of the crop, given by how much the image is larger than it."""
        if self._crop == "center":
            return spare_width // 2, spare_height // 2
        left, top = numpy.random.default_rng([index, draw]).integers((spare_width + 1, spare_height + 1))
        return int(left), int(top)


SAVED: dict[str, dict[str, Any]] = {
    # Level 3 takes 7 ms for 256x256 where the default takes 17, for files 3 % larger.
    ".png": {"format": "PNG", "compress_level": 3},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".webp": {"format": "WEBP", "lossless": True},
}
"""How Pillow writes an image, by suffix."""


def save_image(path: Path, pieces: Iterable[Tensor], sample_rate: int | None = None) -> None:
    """Write an image, the one piece (3, height, width) in [-1, 1], rounded to 8 bits, as the suffix says.

    PNG and WebP keep every level, JPEG is for looking at.
    """
    (signal,) = pieces
    with replacing(path) as unfinished:
        to_image(signal).save(unfinished, **SAVED[path.suffix.lower()])
