"""The fully convolutional audio autoencoder of neural codecs: waveform in, waveform out, Snake between.

    signal -> convolution -> stages, each of residual units and a strided convolution -> attention -> P↓ -> latents
    latents -> P↑ -> attention -> stages, each of a transposed convolution and residual units -> convolution -> signal

The layout is that of DAC (Kumar 2023, arXiv 2306.06546), which SQCodec and the papers' audio experiments follow;
local attention around the waist is optional. Width doubles at each stage.
"""

import math

from torch import Tensor, nn

from tokcli.autoencoders.blocks import check_positive
from tokcli.autoencoders.convolutions import Chain, Convolution, Layer, ResidualUnit, Snake, Upsampling
from tokcli.autoencoders.local_attention import LocalAttention
from tokcli.contracts import Autoencoder


class WaveformAutoencoder(Autoencoder):
    """Mono sound to latents and back, at one position per product of strides.

    latent_dim: channels that `encode` gives: the code dimension d, or 2·d where the quantizer reads mean and variance.
    width: channels at the sample rate. strides: of the stages, from the sample rate down; their product is the hop,
    and the papers' 96 at 16 kHz makes 166.67 positions a second.
    dilations: of the residual units of each stage.
    attention: local attention blocks on each side of the waist. attention_reach: positions that each of them sees on
    each side of its own.
    causal: nothing depends on what comes later than its own position.
    sample_rate: in Hz. decoder_dim: channels that `decode` reads; None: latent_dim.
    window: positions computed at a time; longer signals are coded window by window, each with its whole context.

    Nothing bounds the reconstruction to [-1, 1]; whoever writes or judges it clamps.
    Raises ValueError for an argument that does not fit.
    """

    modality = "audio"
    channels = 1

    def __init__(
        self,
        latent_dim: int,
        width: int = 32,
        strides: list[int] = [2, 2, 4, 6],  # noqa: B006 (never changed; a recipe's list is a list)
        dilations: list[int] = [1, 3, 9],  # noqa: B006
        attention: int = 0,
        attention_reach: int = 32,
        causal: bool = False,
        sample_rate: int = 16_000,
        decoder_dim: int | None = None,
        window: int = 1000,
    ) -> None:
        super().__init__()
        decoder_dim = latent_dim if decoder_dim is None else decoder_dim
        check_positive(latent_dim=latent_dim, width=width, attention_reach=attention_reach)
        check_positive(sample_rate=sample_rate, decoder_dim=decoder_dim, window=window)
        for name, values in (("strides", strides), ("dilations", dilations)):
            if not values or min(values) < 1:
                raise ValueError(f"{name} must be one or more numbers of at least 1, got {values}")
        if attention < 0:
            raise ValueError(f"attention must be at least 0 blocks, got {attention}")
        self.sample_rate = sample_rate
        self.stride = math.prod(strides)
        self.latent_dim = latent_dim
        self.decoder_dim = decoder_dim
        self.window = window

        waist = width * 2 ** len(strides)
        blocks = [[LocalAttention(waist, attention_reach, causal) for _ in range(attention)] for _ in range(2)]
        self.encoder = Chain(*_downwards(width, strides, dilations, causal), *blocks[0])
        self.down_projection = nn.Linear(waist, latent_dim)
        self.up_projection = nn.Linear(decoder_dim, waist)
        self.decoder = Chain(*blocks[1], *_upwards(width, strides, dilations, causal))
        self.context = self._context()

    @property
    def last_layer(self) -> nn.Parameter:
        """The direction of the last convolution's weight, where an adversary's gradient is balanced."""
        return self.decoder.layers[-1].convolution.parametrizations.weight.original1

    def encode(self, signal: Tensor) -> Tensor:
        """signal: (batch, 1, samples) in [-1, 1] -> latents: (batch, positions, latent_dim).

        Raises ValueError where the samples are not a multiple of the hop.
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

    def _context(self) -> int:
        """The most positions on either side on which a position's latents, or its samples, depend."""
        earliest, latest = self.encoder.span(0, 0)
        first, last = self.decoder.span(0, self.stride - 1)
        return max(-(earliest // self.stride), latest // self.stride, -first, last)


def _downwards(width: int, strides: list[int], dilations: list[int], causal: bool) -> list[Layer]:
    """From the waveform to the width of the waist."""
    layers: list[Layer] = [Convolution(1, width, 7, causal=causal)]
    for stride in strides:
        layers += [ResidualUnit(width, dilation, causal) for dilation in dilations]
        layers += [Snake(width), Convolution(width, 2 * width, 2 * stride, stride=stride, causal=causal)]
        width *= 2
    return [*layers, Snake(width), Convolution(width, width, 3, causal=causal)]


def _upwards(width: int, strides: list[int], dilations: list[int], causal: bool) -> list[Layer]:
    """From the width of the waist to the waveform."""
    wide = width * 2 ** len(strides)
    layers: list[Layer] = [Convolution(wide, wide, 7, causal=causal)]
    for stride in reversed(strides):
        layers += [Snake(wide), Upsampling(wide, wide // 2, stride, causal=causal)]
        wide //= 2
        layers += [ResidualUnit(wide, dilation, causal) for dilation in dilations]
    return [*layers, Snake(wide), Convolution(wide, 1, 7, causal=causal)]
