"""The convolutional autoencoder of VQGAN (Esser 2021, arXiv 2012.09841, table 7), at any width.

    signal -> unshuffle -> stem -> levels, each but the last halving the resolution -> middle -> head -> P↓ -> latents
    latents -> P↑ -> stem -> middle -> levels, each but the last doubling the resolution -> head -> shuffle -> signal

The published f = 8 setting is the default. With `patch` above 1 the network never works at full resolution: pixels of
a patch × patch square become channels before the first convolution and pixels again after the last, which makes it
several times faster on a CPU for the same stride.

Every layer keeps the memory format of what it is given, so a network in channels_last stays in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokcli.contracts import Autoencoder, ModalityName
from tokcli.schema import NOT_WRITTEN, Count, Counts

CHANNELS = 3
"""Of an RGB image."""

Places = bool | Literal["middle"]
"""Where self-attention is: nowhere, at the lowest resolution, or there between the levels alone."""


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """GroupNorm with the most groups, up to `groups`, that divide `channels` and hold at least 4 channels each.

    VQGAN's narrowest layer has 128 channels in 32 groups; a narrower one keeps groups that wide, because a group of one
    or two channels would normalise away what the channel carries.
    """
    fitting = [count for count in range(1, min(groups, channels // 4) + 1) if channels % count == 0]
    return nn.GroupNorm(max(fitting, default=1), channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, each after GroupNorm and SiLU, around a shortcut (1×1 where the width changes)."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.first_norm = group_norm(inputs, groups)
        self.first_convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second_norm = group_norm(outputs, groups)
        self.second_convolution = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """features: (batch, inputs, height, width) -> (batch, outputs, height, width)."""
        hidden = self.first_convolution(functional.silu(self.first_norm(features)))
        hidden = self.second_convolution(functional.silu(self.second_norm(hidden)))
        return self.shortcut(features) + hidden


class Attention(nn.Module):
    """Single-head self-attention over all positions, with a shortcut."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.projection = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """features: (batch, channels, height, width), both ways."""
        height, width = features.shape[-2:]
        # (batch, one head, height · width, channels) each
        query, key, value = (
            part.flatten(2).transpose(1, 2).unsqueeze(1)
            for part in self.query_key_value(self.norm(features)).chunk(3, dim=1)
        )
        attended = functional.scaled_dot_product_attention(query, key, value).squeeze(1)
        return features + self.projection(attended.transpose(1, 2).unflatten(2, (height, width)))


class Downsample(nn.Module):
    """Halve height and width by a strided 3×3 convolution, padded by one on the right and the bottom alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """features: (batch, channels, height, width) -> (batch, channels, height / 2, width / 2)."""
        return self.convolution(functional.pad(features, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double height and width by repetition, then a 3×3 convolution (no checkerboard, unlike a transposed one)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """features: (batch, channels, height, width) -> (batch, channels, 2 · height, 2 · width)."""
        return self.convolution(functional.interpolate(features, scale_factor=2.0, mode="nearest"))


def build_middle(channels: int, attention: bool, groups: int) -> nn.Sequential:
    """What lies between encoder and decoder levels at the lowest resolution: block, attention if wanted, block."""
    between: list[nn.Module] = [Attention(channels, groups)] if attention else []
    return nn.Sequential(ResidualBlock(channels, channels, groups), *between, ResidualBlock(channels, channels, groups))


def build_level(inputs: int, outputs: int, blocks: int, attention: bool, groups: int) -> nn.Sequential:
    """`blocks` residual blocks at one resolution, each followed by self-attention if wanted."""
    parts: list[nn.Module] = []
    for index in range(blocks):
        parts.append(ResidualBlock(inputs if index == 0 else outputs, outputs, groups))
        if attention:
            parts.append(Attention(outputs, groups))
    return nn.Sequential(*parts)


def build_head(inputs: int, outputs: int, groups: int) -> nn.Sequential:
    """The end of a network: GroupNorm, SiLU and a 3×3 convolution to `outputs` channels."""
    return nn.Sequential(group_norm(inputs, groups), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))


@dataclass(frozen=True)
class Layout:
    """What the encoder and the decoder of one network have in common.

    Attributes:
        widths: channels of each level, from the highest resolution down.
        blocks: residual blocks per level of the encoder.
        attention: self-attention after every block at the lowest resolution; `middle`: between the levels alone.
        patch: side of the square of pixels that becomes channels.
        groups: most groups of a GroupNorm.
    """

    widths: Sequence[int]
    blocks: int
    attention: Places
    patch: int
    groups: int

    def attends(self, level: int, lowest: int) -> bool:
        """Whether the blocks of a level are followed by self-attention."""
        return self.attention is True and level == lowest


class Encoder(nn.Module):
    """Images to features.

    Args:
        outputs: channels of the features.
        layout: shared with the decoder.
    """

    def __init__(self, outputs: int, layout: Layout) -> None:
        super().__init__()
        widths, groups = layout.widths, layout.groups
        lowest = len(widths) - 1
        self.unshuffle = nn.PixelUnshuffle(layout.patch)
        self.stem = nn.Conv2d(CHANNELS * layout.patch**2, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(
            build_level(widths[max(index - 1, 0)], width, layout.blocks, layout.attends(index, lowest), groups)
            for index, width in enumerate(widths)
        )
        self.downsamples = nn.ModuleList(Downsample(width) for width in widths[:-1])
        self.middle = build_middle(widths[-1], bool(layout.attention), groups)
        self.head = build_head(widths[-1], outputs, groups)

    def forward(self, signal: Tensor) -> Tensor:
        """signal: (batch, 3, height, width) -> (batch, outputs, height / stride, width / stride)."""
        features = self.levels[0](self.stem(self.unshuffle(signal)))
        for downsample, blocks in zip(self.downsamples, self.levels[1:], strict=True):
            features = blocks(downsample(features))
        return self.head(self.middle(features))


class Decoder(nn.Module):
    """Features to images.

    One residual block more per level than the encoder, as published. Levels are kept from the lowest resolution up.

    Args:
        inputs: channels of the features.
        layout: shared with the encoder.
    """

    def __init__(self, inputs: int, layout: Layout) -> None:
        super().__init__()
        widths, groups = layout.widths[::-1], layout.groups
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.middle = build_middle(widths[0], bool(layout.attention), groups)
        self.levels = nn.ModuleList(
            build_level(widths[max(index - 1, 0)], width, layout.blocks + 1, layout.attends(index, 0), groups)
            for index, width in enumerate(widths)
        )
        self.upsamples = nn.ModuleList(Upsample(width) for width in widths[:-1])
        self.head = build_head(widths[-1], CHANNELS * layout.patch**2, groups)
        self.shuffle = nn.PixelShuffle(layout.patch)

    def forward(self, features: Tensor) -> Tensor:
        """features: (batch, inputs, height / stride, width / stride) -> (batch, 3, height, width)."""
        features = self.levels[0](self.middle(self.stem(features)))
        for upsample, blocks in zip(self.upsamples, self.levels[1:], strict=True):
            features = blocks(upsample(features))
        return self.shuffle(self.head(features))


class VQGANAutoencoder(Autoencoder):
    """RGB images to latents and back; stride = patch · 2^(len(multipliers) − 1).

    Nothing bounds the reconstruction to [-1, 1]; whoever writes or evaluates it clamps.

    Args:
        latent_dim: channels that `encode` gives: the code dimension d, or 2·d where the quantizer reads mean and
            variance.
        width: channels of a level whose multiplier is 1.
        multipliers: the channels of each level are width · multiplier, from the highest resolution down.
        blocks: residual blocks per level of the encoder; the decoder has one more.
        attention: self-attention after every block at the lowest resolution; `middle`: only between the two blocks
            that lie between the levels of encoder and decoder.
        patch: side of the square of pixels that becomes channels before the first convolution (1: none).
        groups: most groups of a GroupNorm; fewer where they would not divide a width or would hold under 4 channels. On
            a CPU in channels_last a group of fewer than 16 channels costs twenty times as much: small networks want
            width/16.
        feature_dim: channels C of the encoder's output before the projection P↓ to latent_dim, and of the decoder's
            input after the projection P↑ (VP-VAE eq. 1). None: no projection on either side, C = d.
        decoder_dim: channels that `decode` reads; None: latent_dim.
        always_project: both projections are there even where feature_dim is latent_dim, as in Esser's own network.
    """

    modality: ClassVar[ModalityName] = "image"
    channels: ClassVar[int] = CHANNELS

    def __init__(
        self,
        latent_dim: Count,
        width: Count = 128,
        multipliers: Counts = (1, 2, 2, 4),
        blocks: Count = 2,
        attention: Places = False,
        patch: Count = 1,
        groups: Count = 32,
        feature_dim: Count | None = None,
        decoder_dim: Count | None = None,
        always_project: Annotated[bool, NOT_WRITTEN] = False,
    ) -> None:
        super().__init__(patch * 2 ** (len(multipliers) - 1), latent_dim, decoder_dim)
        encoded = latent_dim if feature_dim is None else feature_dim
        decoded = self.decoder_dim if feature_dim is None else feature_dim
        layout = Layout([width * multiplier for multiplier in multipliers], blocks, attention, patch, groups)
        self.encoder = Encoder(encoded, layout)
        self.down_projection = _build_projection(encoded, latent_dim, always_project)
        self.up_projection = _build_projection(self.decoder_dim, decoded, always_project)
        self.decoder = Decoder(decoded, layout)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight of the last convolution, where VQGAN balances the adversarial gradient against the others."""
        return self.get_parameter("decoder.head.2.weight")

    def encode(self, signal: Tensor) -> Tensor:
        """signal: (batch, 3, height, width) in [-1, 1] -> latents: (batch, *positions, latent_dim).

        A position covers stride × stride pixels.

        Raises:
            ValueError: where height or width is not a multiple of the stride.
        """
        height, width = signal.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"an image of {height}×{width} does not divide into squares of {self.stride}×{self.stride} pixels; "
                f"pad its sides to multiples of the stride, {self.stride}"
            )
        return self.down_projection(torch.movedim(self.encoder(signal), 1, -1))

    def decode(self, latents: Tensor) -> Tensor:
        """latents: (batch, height, width, decoder_dim) -> image: (batch, 3, height · stride, width · stride)."""
        return self.decoder(torch.movedim(self.up_projection(latents), -1, 1))


def _build_projection(inputs: int, outputs: int, always: bool) -> nn.Module:
    """A linear layer on the channels; where it would change no number of them, only if it is wanted `always`."""
    return nn.Linear(inputs, outputs) if always or inputs != outputs else nn.Identity()
