"""The parts of audio networks: padded and strided convolutions, Snake, residual units, local self-attention.

Every layer knows its `span`, the inputs that a stretch of its outputs depends on, so that a network can say exactly how
much context a position needs. Weight normalisation is that of Salimans & Kingma 2016 (arXiv 1602.07868).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

MASKED = -1e9
"""The score of what is not to be seen: its softmax is exactly 0, and a row of nothing else is not NaN."""

HEAD = 64
"""Channels per head, where the width divides into such heads."""


class Layer(nn.Module):
    """A layer over time, (batch, channels, length). By default each output depends on the input at its own position."""

    def span(self, first: int, last: int) -> tuple[int, int]:
        """The first and the last input that the outputs `first` to `last` depend on; beyond the ends is silence."""
        return first, last


class Chain(Layer):
    """Layers one after the other."""

    def __init__(self, *layers: Layer) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, features: Tensor) -> Tensor:
        """Through all layers."""
        for layer in self.layers:
            features = layer(features)
        return features

    def span(self, first: int, last: int) -> tuple[int, int]:
        """From the last layer back to the first."""
        for layer in reversed(self.layers):
            assert isinstance(layer, Layer)
            first, last = layer.span(first, last)
        return first, last


class Snake(Layer):
    """x + sin²(αx) / α with α > 0 learnt for each channel (Ziyin 2020, arXiv 2006.08195): periodic, never decreasing.

    What is learnt is ln α, from 0 on, so that no step can bring α to zero.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_frequency = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        """features: (batch, channels, length), both ways."""
        frequency = self.log_frequency.exp().to(features.dtype)
        return features + (frequency * features).sin().square() / frequency


class Convolution(Layer):
    """A convolution of length / stride outputs, padded with silence; causal: with all of it before the signal."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, causal: bool = False
    ) -> None:
        super().__init__()
        self.convolution = weight_norm(nn.Conv1d(inputs, outputs, kernel, stride=stride, dilation=dilation))
        self.stride = stride
        self.reach = dilation * (kernel - 1)
        padding = self.reach + 1 - stride
        self.before = padding if causal else padding // 2
        self.after = padding - self.before

    def forward(self, features: Tensor) -> Tensor:
        """(batch, inputs, length), a multiple of the stride -> (batch, outputs, length / stride)."""
        return self.convolution(functional.pad(features, (self.before, self.after)))

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Output i depends on the inputs from i · stride − before on, as far as the kernel reaches."""
        return first * self.stride - self.before, last * self.stride - self.before + self.reach


class Upsampling(Layer):
    """A transposed convolution of length · stride outputs, each made of two inputs; causal: none of the next."""

    def __init__(self, inputs: int, outputs: int, stride: int, causal: bool = False) -> None:
        super().__init__()
        self.convolution = weight_norm(nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride=stride), dim=1)
        self.stride = stride
        self.cut = 0 if causal else stride // 2

    def forward(self, features: Tensor) -> Tensor:
        """(batch, inputs, length) -> (batch, outputs, length · stride)."""
        return self.convolution(features)[..., self.cut : self.cut + features.shape[-1] * self.stride]

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Input i spreads over the 2 · stride outputs from i · stride − cut on."""
        return (first + self.cut) // self.stride - 1, (last + self.cut) // self.stride


class ResidualUnit(Layer):
    """Snake, a dilated convolution of width 7, Snake, a pointwise convolution, around a shortcut."""

    def __init__(self, channels: int, dilation: int, causal: bool) -> None:
        super().__init__()
        self.branch = Chain(
            Snake(channels),
            Convolution(channels, channels, 7, dilation=dilation, causal=causal),
            Snake(channels),
            Convolution(channels, channels, 1, causal=causal),
        )

    def forward(self, features: Tensor) -> Tensor:
        """features: (batch, channels, length), both ways."""
        return features + self.branch(features)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """The branch's: the shortcut lies within it."""
        return self.branch.span(first, last)


class LocalAttention(Layer):
    """A pre-norm transformer block: attention to the positions within reach, then two linear layers, with shortcuts.

    Where a key lies relative to its query is learnt as a bias for each head and offset, as in T5 (Raffel 2020, arXiv
    1910.10683) without its buckets: it depends on nothing but the offset, so a stretch of a signal gives what it
    gives within the whole.

    Queries are taken in blocks as long as the reach; the keys of a block are then in it and in its two neighbours, and
    memory grows with the length of the signal, not with its square.

    Args:
        width: channels.
        reach: positions on each side of a position that it attends to.
        causal: it attends to those before it alone.
    """

    def __init__(self, width: int, reach: int, causal: bool) -> None:
        super().__init__()
        self.reach, self.causal = reach, causal
        self.heads = width // HEAD if width % HEAD == 0 else 1
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.offsets = nn.Parameter(torch.zeros(self.heads, 2 * reach + 1))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, features: Tensor) -> Tensor:
        """features: (batch, width, positions), both ways."""
        rows = features.transpose(1, 2)
        rows = rows + self.projection(self._attended(self.query_key_value(self.norm(rows))))
        return (rows + self.feed_forward(rows)).transpose(1, 2)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """As far as the reach."""
        return first - self.reach, last if self.causal else last + self.reach

    def _attended(self, projected: Tensor) -> Tensor:
        """projected: (batch, positions, 3 · width) -> (batch, positions, width)."""
        positions, reach = projected.shape[1], self.reach
        padded = functional.pad(projected, (0, 0, 0, -positions % reach))
        # (batch, blocks, reach, width) each; keys and values with both neighbours: (batch, blocks, 3 · reach, width)
        query, key, value = (part.unflatten(1, (-1, reach)) for part in padded.chunk(3, dim=-1))
        key, value = (_with_neighbours(part) for part in (key, value))
        # (batch, blocks, heads, positions of the block, width / heads) each
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(2, 3) for part in (query, key, value))
        scores = self._scores(query.shape[1], positions).to(query.dtype)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=scores)
        return attended.transpose(2, 3).flatten(3).flatten(1, 2)[:, :positions]

    def _scores(self, blocks: int, positions: int) -> Tensor:
        """What is added to the scores: (blocks, heads, reach, 3 · reach)."""
        reach, device = self.reach, self.offsets.device
        queries = torch.arange(reach, device=device)
        offsets = torch.arange(-reach, 2 * reach, device=device) - queries[:, None]
        seen = (offsets.abs() <= reach) & (offsets <= (0 if self.causal else reach))
        bias = self.offsets[:, offsets.clamp(-reach, reach) + reach]
        keys = torch.arange(blocks, device=device)[:, None] * reach + torch.arange(-reach, 2 * reach, device=device)
        present = (keys >= 0) & (keys < positions)
        return bias.masked_fill(~(seen & present[:, None, None]), MASKED)


def _with_neighbours(blocks: Tensor) -> Tensor:
    """(batch, blocks, reach, width) -> each block between the one before and the one after it, zeros at the ends."""
    padded = functional.pad(blocks, (0, 0, 0, 0, 1, 1))
    return torch.cat([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], dim=2)
