"""The fully convolutional audio autoencoder of neural codecs: waveform in, waveform out, Snake between.

    signal -> convolution -> stages, each of residual units and a strided convolution -> attention -> P↓ -> latents
    latents -> P↑ -> attention -> stages, each of a transposed convolution and residual units -> convolution -> signal

The layout is that of DAC (Kumar 2023, arXiv 2306.06546), which SQCodec and the papers' audio experiments follow;
local attention on both sides of the latents is optional. Width doubles at each stage.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from tokcli.autoencoders.layers import (
    Chain,
    Convolution,
    Layer,
    LocalAttention,
    ResidualUnit,
    Snake,
    Upsampling,
)
from tokcli.contracts import Autoencoder, ModalityName
from tokcli.schema import Count, CountOrZero, Counts


class WaveformAutoencoder(Autoencoder):
    """Mono audio to latents and back, at one position per product of strides.

    Nothing bounds the reconstruction to [-1, 1]; whoever writes or evaluates it clamps.

    Args:
        latent_dim: channels that `encode` gives: the code dimension d, or 2·d where the quantizer reads mean and
            variance.
        width: channels at the sample rate.
        strides: of the stages, from the sample rate down; their product is the hop, and the papers' 96 at 16 kHz makes
            166.67 positions a second.
        dilations: of the residual units of each stage.
        attention: local attention blocks on each side of the latents.
        attention_reach: positions that each of them sees on each side of its own.
        causal: nothing depends on what comes later than its own position.
        sample_rate: in Hz.
        decoder_dim: channels that `decode` reads; None: latent_dim.
        window: positions computed at a time; longer signals are coded window by window, each with its whole context.
    """

    modality: ClassVar[ModalityName] = "audio"
    channels: ClassVar[int] = 1

    def __init__(
        self,
        latent_dim: Count,
        width: Count = 32,
        strides: Counts = (2, 2, 4, 6),
        dilations: Counts = (1, 3, 9),
        attention: CountOrZero = 0,
        attention_reach: Count = 32,
        causal: bool = False,
        sample_rate: Count = 16_000,
        decoder_dim: Count | None = None,
        window: Count = 1000,
    ) -> None:
        super().__init__(math.prod(strides), latent_dim, decoder_dim, sample_rate, window)
        widest = width * 2 ** len(strides)
        blocks = [[LocalAttention(widest, attention_reach, causal) for _ in range(attention)] for _ in range(2)]
        self.encoder = Chain(*_build_encoder(width, strides, dilations, causal), *blocks[0])
        self.down_projection = nn.Linear(widest, latent_dim)
        self.up_projection = nn.Linear(self.decoder_dim, widest)
        self.decoder = Chain(*blocks[1], *_build_decoder(width, strides, dilations, causal))
        self.context = self._count_context()

    @property
    def last_layer(self) -> nn.Parameter:
        """The direction of the last convolution's weight, where an adversary's gradient is balanced."""
        last = len(self.decoder.layers) - 1
        return self.get_parameter(f"decoder.layers.{last}.convolution.parametrizations.weight.original1")

    def encode(self, signal: Tensor) -> Tensor:
        """signal: (batch, 1, samples) in [-1, 1] -> latents: (batch, positions, latent_dim).

        Raises:
            ValueError: where the samples are not a multiple of the hop.
        """
        if signal.shape[-1] % self.stride:
            raise ValueError(
                f"{signal.shape[-1]} samples do not divide into positions of {self.stride} samples; "
                f"pad the signal to a multiple of the product of strides, {self.stride}"
            )
        return self.down_projection(self.encoder(signal).transpose(1, 2))

    def decode(self, latents: Tensor) -> Tensor:
        """latents: (batch, positions, decoder_dim) -> signal: (batch, 1, positions · stride)."""
        return self.decoder(self.up_projection(latents).transpose(1, 2))

    def _count_context(self) -> int:
        """The most positions on either side on which a position's latents, or its samples, depend."""
        earliest, latest = self.encoder.span(0, 0)
        first, last = self.decoder.span(0, self.stride - 1)
        return max(-(earliest // self.stride), latest // self.stride, -first, last)


def _build_encoder(width: int, strides: Sequence[int], dilations: Sequence[int], causal: bool) -> list[Layer]:
    """From the waveform to the most channels."""
    layers: list[Layer] = [Convolution(1, width, 7, causal=causal)]
    for stride in strides:
        layers += [ResidualUnit(width, dilation, causal) for dilation in dilations]
        layers += [Snake(width), Convolution(width, 2 * width, 2 * stride, stride=stride, causal=causal)]
        width *= 2
    return [*layers, Snake(width), Convolution(width, width, 3, causal=causal)]


def _build_decoder(width: int, strides: Sequence[int], dilations: Sequence[int], causal: bool) -> list[Layer]:
    """From the most channels to the waveform."""
    wide = width * 2 ** len(strides)
    layers: list[Layer] = [Convolution(wide, wide, 7, causal=causal)]
    for stride in reversed(strides):
        layers += [Snake(wide), Upsampling(wide, wide // 2, stride, causal=causal)]
        wide //= 2
        layers += [ResidualUnit(wide, dilation, causal) for dilation in dilations]
    return [*layers, Snake(wide), Convolution(wide, 1, 7, causal=causal)]
