"""The parts of convolutional audio networks: padded and strided convolutions, Snake, residual units.

Every layer knows its `span`, the inputs that a stretch of its outputs depends on, so that a network can say exactly how
much context a position needs. Weight normalisation is that of Salimans & Kingma 2016 (arXiv 1602.07868).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm


class Layer(nn.Module):
    """A layer over time, (batch, channels, length). By default each output depends on the input at its own place."""

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
