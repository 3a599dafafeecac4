"""PSNR: peak signal-to-noise ratio, the mean squared error of an image on a logarithmic scale."""

from typing import ClassVar

from torch import Tensor

from tokcli.contracts import ModalityName, RoundTrip
from tokcli.metrics.base import ItemMean
from tokcli.metrics.images import ROUNDING, to_levels
from tokcli.numerics import to_float64

CEILING = 100.0
"""Decibels that an identical image scores. Infinity would swallow the mean of a whole set; 100 dB is a squared error
of 1e-10 of the peak's, less than one level in one sample of a 256×256 image."""


def psnr(reconstruction: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in decibels, −10·log10(mean squared error / peak²).

    Both (batch, channels, height, width) in [-1, 1], compared as 8-bit pixels (peak 255); the mean is over pixels
    and channels. Returns (batch,) float64, at most `CEILING`.
    """
    # Squares of whole levels are exact in float32; their sum is not.
    squares = to_float64((to_levels(reconstruction) - to_levels(reference)).square())
    error = squares.flatten(1).mean(1) / 255**2
    return (-10 * error.log10()).clamp(max=CEILING)


class Psnr(ItemMean):
    """Mean over images of their PSNR in decibels; higher is better."""

    modality: ClassVar[ModalityName | None] = "image"

    def scores(self, round_trip: RoundTrip) -> Tensor:
        """(batch,) decibels."""
        return psnr(round_trip.reconstruction, round_trip.reference)

    def protocol(self) -> dict[str, object]:
        """Rounding, peak, and what an identical image scores."""
        return {"rounding": ROUNDING, "data_range": 255, "identical_images_db": CEILING, "average": "per image"}
