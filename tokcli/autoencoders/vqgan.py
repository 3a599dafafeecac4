"""The convolutional autoencoder of VQGAN (Esser 2021, arXiv 2012.09841, table 7), at any width.

    signal -> unshuffle -> stem -> levels, each but the last halving the resolution -> middle -> head -> P↓ -> latents
    latents -> P↑ -> stem -> middle -> levels, each but the last doubling the resolution -> head -> shuffle -> signal

The published f = 8 setting is the default. With `patch` above 1 the network never works at full resolution: pixels of
a patch × patch square become channels before the first convolution and pixels again after the last, which makes it
several times faster on a CPU for the same stride.
"""

from torch import Tensor, nn

from tokcli.autoencoders.blocks import (
    Downsample,
    Upsample,
    channels_first,
    channels_last,
    check_positive,
    head,
    level,
    middle,
)
from tokcli.contracts import Autoencoder


class Encoder(nn.Module):
    """(batch, signal channels, height, width) -> (batch, outputs, height / stride, width / stride)."""

    def __init__(
        self,
        signal_channels: int,
        outputs: int,
        widths: list[int],
        blocks: int,
        attention: bool,
        patch: int,
        groups: int,
    ) -> None:
        super().__init__()
        lowest = len(widths) - 1
        self.unshuffle = nn.PixelUnshuffle(patch)
        self.stem = nn.Conv2d(signal_channels * patch**2, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(
            level(widths[max(index - 1, 0)], width, blocks, attention and index == lowest, groups)
            for index, width in enumerate(widths)
        )
        self.downsamples = nn.ModuleList(Downsample(width) for width in widths[:-1])
        self.middle = middle(widths[-1], attention, groups)
        self.head = head(widths[-1], outputs, groups)

    def forward(self, signal: Tensor) -> Tensor:
        features = self.levels[0](self.stem(self.unshuffle(signal)))
        for downsample, blocks in zip(self.downsamples, self.levels[1:], strict=True):
            features = blocks(downsample(features))
        return self.head(self.middle(features))


class Decoder(nn.Module):
    """(batch, inputs, height / stride, width / stride) -> (batch, signal channels, height, width).

    One residual block more per level than the encoder, as published. Levels are kept from the lowest resolution up.
    """

    def __init__(
        self,
        signal_channels: int,
        inputs: int,
        widths: list[int],
        blocks: int,
        attention: bool,
        patch: int,
        groups: int,
    ) -> None:
        super().__init__()
        widths = widths[::-1]
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.middle = middle(widths[0], attention, groups)
        self.levels = nn.ModuleList(
            level(widths[max(index - 1, 0)], width, blocks + 1, attention and index == 0, groups)
            for index, width in enumerate(widths)
        )
        self.upsamples = nn.ModuleList(Upsample(width) for width in widths[:-1])
        self.head = head(widths[-1], signal_channels * patch**2, groups)
        self.shuffle = nn.PixelShuffle(patch)

    def forward(self, features: Tensor) -> Tensor:
        features = self.levels[0](self.middle(self.stem(features)))
        for upsample, blocks in zip(self.upsamples, self.levels[1:], strict=True):
            features = blocks(upsample(features))
        return self.shuffle(self.head(features))


class VQGANAutoencoder(Autoencoder):
    """RGB images to latents and back; stride = patch · 2^(len(multipliers) − 1).

    latent_dim: channels that `encode` gives: the code dimension d, or 2·d where the quantizer reads mean and variance.
    width, multipliers: the channels of each level are width · multiplier, from the highest resolution down.
    blocks: residual blocks per level of the encoder; the decoder has one more.
    attention: self-attention after every block at the lowest resolution.
    patch: side of the square of pixels that becomes channels before the first convolution (1: none).
    groups: most groups of a GroupNorm; fewer where they would not divide a width or would hold under 4 channels. On a
        CPU in channels_last a group of fewer than 16 channels costs twenty times as much: small networks want width/16.
    feature_dim: channels C of the encoder's output before the projection P↓ to latent_dim, and of the decoder's input
        after the projection P↑ (VP-VAE eq. 1). None: no projection on either side, C = d.
    decoder_dim: channels that `decode` reads; None: latent_dim.

    Nothing bounds the reconstruction to [-1, 1]; whoever writes or judges it clamps.
    Raises ValueError for an argument that does not fit.
    """

    modality = "image"
    channels = 3

    def __init__(
        self,
        latent_dim: int,
        width: int = 128,
        multipliers: list[int] = [1, 2, 2, 4],  # noqa: B006 (never changed; a recipe's list is a list)
        blocks: int = 2,
        attention: bool = False,
        patch: int = 1,
        groups: int = 32,
        feature_dim: int | None = None,
        decoder_dim: int | None = None,
    ) -> None:
        super().__init__()
        if not multipliers or min(multipliers) < 1:
            raise ValueError(f"multipliers must be one or more numbers of at least 1, got {multipliers}")
        decoder_dim = latent_dim if decoder_dim is None else decoder_dim
        check_positive(
            latent_dim=latent_dim, width=width, blocks=blocks, patch=patch, groups=groups, decoder_dim=decoder_dim
        )
        encoded = latent_dim if feature_dim is None else feature_dim
        decoded = decoder_dim if feature_dim is None else feature_dim
        check_positive(feature_dim=encoded)

        self.stride = patch * 2 ** (len(multipliers) - 1)
        self.latent_dim = latent_dim
        self.decoder_dim = decoder_dim
        widths = [width * multiplier for multiplier in multipliers]
        self.encoder = Encoder(self.channels, encoded, widths, blocks, attention, patch, groups)
        self.down_projection = nn.Identity() if encoded == latent_dim else nn.Linear(encoded, latent_dim)
        self.up_projection = nn.Identity() if decoded == decoder_dim else nn.Linear(decoder_dim, decoded)
        self.decoder = Decoder(self.channels, decoded, widths, blocks, attention, patch, groups)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight of the last convolution, where VQGAN balances the adversarial gradient against the others."""
        return self.decoder.head[-1].weight

    def encode(self, signal: Tensor) -> Tensor:
        """signal: (batch, 3, height, width) in [-1, 1] -> latents: (batch, *positions, latent_dim).

        A position covers stride × stride pixels.

        Raises ValueError where height or width is not a multiple of the stride.
        """
        height, width = signal.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"an image of {height}×{width} does not divide into squares of {self.stride}×{self.stride} pixels; "
                f"pad its sides to multiples of the stride, {self.stride}"
            )
        return self.down_projection(channels_last(self.encoder(signal)))

    def decode(self, latents: Tensor) -> Tensor:
        """latents: (batch, height, width, decoder_dim) -> image: (batch, 3, height · stride, width · stride)."""
        return self.decoder(channels_first(self.up_projection(latents)))
