"""PatchGAN: a small convolutional network that judges every patch of an image by itself.

Texture and sharpness are local, so a discriminator that sees 70 × 70 pixels at a time learns them with few parameters
and gives a dense signal. Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial Networks"
(arXiv 1611.07004); VQGAN (arXiv 2012.09841) trains tokenizers against it.
"""

import math
from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from tokcli.contracts import Discriminator, ModalityName, Verdict
from tokcli.discriminators.features import run_layers
from tokcli.errors import InputError
from tokcli.schema import Count

Norm = Literal["batch", "group", "spectral"]

CHANNELS = 3
MOST_WIDTHS = 8
"""Channels double with every layer up to this many times the width."""
GROUPS = 8
WEIGHT_SCALE = 0.02
"""Standard deviation of the initial weights, as published."""


class PatchDiscriminator(Discriminator):
    """RGB images to one logit per patch.

    Args:
        width: channels of the first layer.
        layers: 4 × 4 convolutions that halve the resolution; two more keep it. With 3 a patch is 70 pixels wide, with 2
            it is 34, with 1 it is 16.
        norm: `batch` as published (over the images of one process, originals apart from reconstructions); `group` does
            not depend on the batch; `spectral` bounds the slope of every convolution instead (arXiv 1802.05957).
    """

    modality: ClassVar[ModalityName] = "image"

    def __init__(self, width: Count = 64, layers: Count = 3, norm: Norm = "batch") -> None:
        super().__init__()
        widths = [width * min(2**index, MOST_WIDTHS) for index in range(layers + 1)]
        parts: list[nn.Module] = [_build_convolution(CHANNELS, width, 2, norm), nn.LeakyReLU(0.2)]
        for index in range(1, layers + 1):
            stride = 2 if index < layers else 1
            parts.append(_build_convolution(widths[index - 1], widths[index], stride, norm))
            parts += [*_build_norm(widths[index], norm), nn.LeakyReLU(0.2)]
        parts.append(_build_convolution(widths[-1], 1, 1, norm))
        self.network = nn.Sequential(*parts)
        self.smallest_side = 3 * 2**layers

    def discriminate(self, signals: Tensor) -> Verdict:
        """signals: (batch, 3, height, width) in [-1, 1] -> logits (batch, 1, rows, columns), of one scale.

        Rows and columns are height and width halved `layers` times, less two.

        Raises:
            InputError: for images that would leave none.
        """
        height, width = signals.shape[2:]
        if min(height, width) < self.smallest_side:
            raise InputError(
                f"the discriminator cannot judge images of {height}x{width} pixels; train on crops of at least "
                f"{self.smallest_side} pixels a side, or with fewer adversary.discriminator.layers"
            )
        logits, features = run_layers(self.network, signals)
        return Verdict((logits,), tuple(features))


def _build_convolution(inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, 4, stride=stride, padding=1)
    nn.init.normal_(convolution.weight, std=WEIGHT_SCALE)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return spectral_norm(convolution) if norm == "spectral" else convolution


def _build_norm(channels: int, norm: Norm) -> list[nn.Module]:
    if norm == "batch":
        # Running statistics would only be needed in evaluation mode.
        layer = nn.BatchNorm2d(channels, track_running_stats=False)
        nn.init.normal_(layer.weight, mean=1.0, std=WEIGHT_SCALE)
        return [layer]
    return [nn.GroupNorm(math.gcd(channels, GROUPS), channels)] if norm == "group" else []
