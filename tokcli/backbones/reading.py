"""Text in pictures, as the package rapidocr reads it: PP-OCR's networks, which come with it, in onnxruntime."""

from importlib.metadata import version

import numpy as np

from tokcli.optional import require


class TextReader:
    """Reads what is written in a picture.

    Attributes:
        name: the package and its version, which brings the weights.

    Raises:
        UsageError: a package is absent.
    """

    def __init__(self) -> None:
        require("onnxruntime", extra="text")
        package = require("rapidocr", extra="text")
        self.name = f"rapidocr {version('rapidocr')}"
        self._engine = package.RapidOCR(params={"Global.log_level": "critical"})

    def read(self, pixels: np.ndarray) -> str:
        """pixels: (height, width, 3) uint8, red first -> what is read, line after line; empty where there is none."""
        found = self._engine(np.ascontiguousarray(pixels[..., ::-1]))  # it expects blue first
        return "\n".join(found.txts or ())
