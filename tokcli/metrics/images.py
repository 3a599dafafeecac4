"""How close images are: PSNR, SSIM and LPIPS, each the mean over images of a score for one.

Images are compared as 8-bit pixels, because that is what a file or a screen would show.
"""

import math
import pathlib
from typing import ClassVar

import torch
from torch import Tensor

from tokcli.backbones.lpips import WEIGHT_FILES, Backbone, load_local_lpips, load_lpips
from tokcli.contracts import ModalityName, RoundTrip
from tokcli.metrics.base import ItemMean
from tokcli.numerics import to_float64, to_levels

ROUNDING = "8-bit, to nearest"

CEILING = 100.0
"""Decibels that an identical image scores. Infinity would swallow the mean of a whole set; 100 dB is a squared error
of 1e-10 of the peak's, less than one level in one sample of a 256×256 image."""

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
"""Of SSIM, as in the authors' own program."""


def psnr(reconstruction: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in decibels, −10·log10(mean squared error / peak²).

    Args:
        reconstruction: (batch, channels, height, width) in [-1, 1], compared as 8-bit pixels (peak 255).
        reference: Of the same shape. The mean is over pixels and channels.

    Returns:
        (batch,) float64, at most `CEILING`.
    """
    # Squares of whole levels are exact in float32; their sum is not.
    squares = to_float64((to_levels(reconstruction) - to_levels(reference)).square())
    error = squares.flatten(1).mean(1) / 255**2
    return (-10 * error.log10()).clamp(max=CEILING)


def ssim(reconstruction: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity of each image, averaged over positions and channels.

    Wang, Bovik, Sheikh and Simoncelli 2004, "Image Quality Assessment: From Error Visibility to Structural
    Similarity", equation 13. Only positions where the whole 11×11 Gaussian window lies inside the image count, as in
    the authors' own program; the image is not downsampled first.

    Args:
        reconstruction: (batch, channels, height, width) in [-1, 1], at least 11 pixels a side, compared as 8-bit
            pixels on [0, 1] with data range 1.
        reference: Of the same shape.

    Returns:
        (batch,) float64 in [-1, 1].
    """
    # E[x²] − E[x]² cancels where an image is flat, so float64 it is.
    x, y = to_float64(to_levels(reconstruction)) / 255, to_float64(to_levels(reference)) / 255
    batch, _, height, width = x.shape
    moments = _blur(torch.stack([x, y, x * x, y * y, x * y]).reshape(-1, height, width))
    mean_x, mean_y, square_x, square_y, product = moments.reshape(5, batch, -1)
    variance_x, variance_y = square_x - mean_x**2, square_y - mean_y**2
    covariance = product - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).mean(1)


def _blur(planes: Tensor) -> Tensor:
    """(count, height, width) -> Gaussian averages where the window fits: (count, height − 10, width − 10).

    Sums of shifted slices, one axis after the other: 15 times faster in float64 on a CPU than a convolution.
    """
    taps = [math.exp(-((offset - WINDOW // 2) ** 2) / (2 * SIGMA**2)) for offset in range(WINDOW)]
    for axis in (1, 2):
        kept = planes.shape[axis] - WINDOW + 1
        blurred = torch.zeros_like(planes.narrow(axis, 0, kept))
        for offset, tap in enumerate(taps):
            blurred.add_(planes.narrow(axis, offset, kept), alpha=tap / sum(taps))
        planes = blurred
    return planes


class Psnr(ItemMean):
    """Mean over images of their PSNR in decibels; higher is better."""

    modality: ClassVar[ModalityName | None] = "image"
    higher_is_better: ClassVar[bool | None] = True
    unit: ClassVar[str] = "dB"
    meaning: ClassVar[str] = "how close the pixels are: 20 dB is coarse, at 35 dB few people see a difference"

    def scores(self, round_trip: RoundTrip) -> Tensor:
        """(batch,) decibels."""
        return psnr(round_trip.reconstruction, round_trip.reference)

    def protocol(self) -> dict[str, object]:
        """Rounding, peak, and what an identical image scores."""
        return {"rounding": ROUNDING, "data_range": 255, "identical_images_db": CEILING, "average": "per image"}


class Ssim(ItemMean):
    """Mean over images of their SSIM; 1 is identical. An image under 11 pixels a side is unscored."""

    modality: ClassVar[ModalityName | None] = "image"
    higher_is_better: ClassVar[bool | None] = True
    meaning: ClassVar[str] = "how alike local structure is: 1 is identical"

    def scores(self, round_trip: RoundTrip) -> Tensor:
        """(batch,) in [-1, 1]."""
        if min(round_trip.reference.shape[2:]) < WINDOW:
            return _unscored(round_trip)
        return ssim(round_trip.reconstruction, round_trip.reference)

    def protocol(self) -> dict[str, object]:
        """Rounding, window, constants, border and averaging."""
        return {
            "rounding": ROUNDING,
            "data_range": 1,
            "window": f"{WINDOW}x{WINDOW} Gaussian, sigma {SIGMA}",
            "k1": K1,
            "k2": K2,
            "border": "whole windows only",
            "channels": "averaged",
            "average": "per image",
        }


class LpipsVgg(ItemMean):
    """Mean over images of their LPIPS distance (Zhang et al. 2018); 0 is identical.

    Its figures depend on the backbone, so the metric's name carries it: `lpips` is VGG, as the papers report. Images
    too small for the backbone are unscored.

    Args:
        weights: A safetensors file of the backbone's features; None takes the official file.

    Raises:
        InputError: The weight file is not to be had, or wrong.
    """

    modality: ClassVar[ModalityName | None] = "image"
    higher_is_better: ClassVar[bool | None] = False
    backbone: ClassVar[Backbone] = "vgg"
    meaning: ClassVar[str] = "how different images look to a network trained on photographs: 0 is identical"

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self._file: dict[str, object] = {"backbone_weights": WEIGHT_FILES[self.backbone]}
        if weights is None:
            self.network = load_lpips(self.backbone)
        else:
            self.network, digest = load_local_lpips(self.backbone, weights)
            self._file = {"backbone_weights": pathlib.Path(weights).name, "backbone_weights_sha256": digest}

    def scores(self, round_trip: RoundTrip) -> Tensor:
        """(batch,), not negative."""
        if min(round_trip.reference.shape[2:]) < self.network.smallest_side:
            return _unscored(round_trip)
        self.network.to(round_trip.reference.device)
        reconstruction, reference = (
            to_levels(signal) / 127.5 - 1 for signal in (round_trip.reconstruction, round_trip.reference)
        )
        return self.network(reconstruction, reference)

    def protocol(self) -> dict[str, object]:
        """Rounding, backbone with its weight file, and averaging."""
        return {
            "rounding": ROUNDING,
            "backbone": self.backbone,
            **self._file,
            "version": "0.1",
            "average": "per image",
        }


class LpipsAlex(LpipsVgg):
    """LPIPS with the AlexNet backbone."""

    backbone: ClassVar[Backbone] = "alex"


class LpipsSqueeze(LpipsVgg):
    """LPIPS with the SqueezeNet backbone."""

    backbone: ClassVar[Backbone] = "squeeze"


def _unscored(round_trip: RoundTrip) -> Tensor:
    """The scores (batch,) of items that cannot be scored."""
    reference = round_trip.reference
    return torch.full((reference.shape[0],), torch.nan, device=reference.device)
