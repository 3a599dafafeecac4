"""JPEG and WebP through Pillow, at their best for small files."""

import io
from typing import ClassVar

import PIL
from PIL import Image
from torch import Tensor

from tokcli.codecs.base import ClassicalCodec
from tokcli.contracts import ModalityName
from tokcli.data.image.decoding import to_image, to_signal

JPEG_SCAN = 0xDA
"""The marker behind which a JPEG's coded pixels begin."""

WEBP_CHUNK = 20
"""Bytes of the RIFF header and of the head of the one chunk that a plain lossy WebP holds."""


class ImageCodec(ClassicalCodec):
    """A format that Pillow writes; a subclass names it and its options."""

    modality: ClassVar[ModalityName] = "image"
    file_format: ClassVar[str]
    options: ClassVar[dict[str, object]]

    def compress(self, signal: Tensor, setting: int, sample_rate: int | None) -> bytes:
        """The file of (3, height, width), at quality `setting`."""
        file = io.BytesIO()
        to_image(signal).save(file, format=self.file_format, quality=setting, **self.options)
        return file.getvalue()

    def decompress(self, data: bytes) -> Tensor:
        """(3, height, width) float32."""
        return to_signal(Image.open(io.BytesIO(data)).convert("RGB"))

    def protocol(self) -> dict[str, object]:
        """Library and options."""
        return {"library": f"Pillow {PIL.__version__}", **self.options}


class Jpeg(ImageCodec):
    """JPEG: colour at half resolution, Huffman tables fitted to each image."""

    settings: ClassVar[range] = range(1, 96)
    file_format: ClassVar[str] = "JPEG"
    options: ClassVar[dict[str, object]] = {"optimize": True, "subsampling": "4:2:0"}

    def header_bytes(self, data: bytes) -> int:
        """Everything up to the coded pixels, and the two bytes that end the file."""
        start = 2
        while data[start + 1] != JPEG_SCAN:
            start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        return start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") + 2


class WebP(ImageCodec):
    """Lossy WebP, the slowest and smallest way."""

    settings: ClassVar[range] = range(0, 101)
    file_format: ClassVar[str] = "WEBP"
    options: ClassVar[dict[str, object]] = {"method": 6}

    def header_bytes(self, data: bytes) -> int:
        """The container; what a frame says about itself is coded signal."""
        return WEBP_CHUNK
