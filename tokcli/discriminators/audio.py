"""Discriminators of audio: several networks side by side, each of which reads the signal in its own way.

Multi-period: voiced sound repeats itself. Laid out in rows of p samples, a period becomes a column, and networks for
several prime numbers p together notice what is wrong with it. Kong et al. 2020, "HiFi-GAN" (arXiv 2010.05646), §2.3.

Multi-scale STFT: phase is where codecs sound metallic, and a magnitude loss cannot tell it; real and imaginary parts
hold it. Long windows show harmonics, short ones onsets. Défossez et al. 2022, "High Fidelity Neural Audio Compression"
(EnCodec, arXiv 2210.13438), §3.4.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from tokcli.backbones.spectra import Spectrogram
from tokcli.contracts import Discriminator, ModalityName
from tokcli.schema import Count, Counts

Norm = Literal["weight", "spectral"]
NORMS = {"weight": weight_norm, "spectral": spectral_norm}
"""`weight` as published. `spectral` bounds every slope (arXiv 1802.05957), so that quiet audio hardly moves a logit."""

PERIODS = (2, 3, 5, 7, 11)
WIDTHS = (1, 4, 16, 32)
"""Channels of the layers that read a third of the rows, as multiples of the width."""

WINDOWS = (2048, 1024, 512, 256, 128)
DILATIONS = (1, 2, 4)
"""Along time, of the layers that halve the frequencies."""


class AudioDiscriminator(Discriminator):
    """Networks whose logits are kept apart, so that each weighs the same however many it gives.

    A signal of several channels is judged channel by channel.

    Args:
        judges: the networks, (batch, 1, samples) -> logits of any shape.
    """

    modality: ClassVar[ModalityName] = "audio"

    def __init__(self, judges: Iterable[nn.Module]) -> None:
        super().__init__()
        self.judges = nn.ModuleList(judges)

    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        """signals: (batch, channels, samples) in [-1, 1], any length -> logits (batch, 1, n) of each network."""
        mono = signals.flatten(0, 1).unsqueeze(1)
        return tuple(network(mono).reshape(len(signals), 1, -1) for network in self.judges)


class MultiPeriodDiscriminator(AudioDiscriminator):
    """Audio to logits at each period.

    A signal's last sample is repeated to fill the last row, where the paper's code reflects, so that audio of any
    length can be judged.

    Args:
        periods: samples from one column's entry to its next; primes share the fewest samples.
        width: channels of the first layer; the last has 32 times as many, which at the published 32 makes 8 million
            parameters a period.
        norm: `weight` as published, or `spectral`, which bounds the slope of every convolution (arXiv 1802.05957).
    """

    def __init__(self, periods: Counts = PERIODS, width: Count = 32, norm: Norm = "weight") -> None:
        super().__init__(PeriodNetwork(period, width, norm) for period in periods)


class PeriodNetwork(nn.Module):
    """One period: convolutions along the columns alone, so that phases are judged by the same weights and apart."""

    def __init__(self, period: int, width: int, norm: Norm) -> None:
        super().__init__()
        self.period = period
        widths = [1, *(width * factor for factor in WIDTHS)]
        parts: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            parts += [build_convolution(inputs, outputs, (5, 1), norm, stride=(3, 1)), nn.LeakyReLU(0.1)]
        parts += [build_convolution(widths[-1], widths[-1], (5, 1), norm), nn.LeakyReLU(0.1)]
        parts.append(build_convolution(widths[-1], 1, (3, 1), norm))
        self.network = nn.Sequential(*parts)

    def forward(self, signals: Tensor) -> Tensor:
        """signals: (batch, 1, samples) -> logits (batch, 1, rows, period).

        Rows are samples / period, divided by three four times, rounded up each time.
        """
        whole = functional.pad(signals, (0, -signals.shape[-1] % self.period), mode="replicate")
        return self.network(whole.unflatten(-1, (-1, self.period)))


class MultiScaleStftDiscriminator(AudioDiscriminator):
    """Audio to logits over time and frequency at each resolution.

    Frames are centred and silence lies beyond both ends, so that audio of any length can be judged; EnCodec's begin a
    whole window into the signal.

    Args:
        windows: samples of each window; a step is a quarter of it, so that every resolution gives nearly as many
            logits.
        width: channels of every layer but the last.
        norm: `weight` as published, or `spectral`, which bounds the slope of every convolution (arXiv 1802.05957).
    """

    def __init__(
        self,
        windows: Annotated[Sequence[Annotated[int, Field(ge=4)]], Field(min_length=1)] = WINDOWS,
        width: Count = 32,
        norm: Norm = "weight",
    ) -> None:
        super().__init__(SpectrumNetwork(window, width, norm) for window in windows)


class SpectrumNetwork(nn.Module):
    """One resolution: a complex spectrogram, and 2-D convolutions that each look further along time."""

    def __init__(self, window: int, width: int, norm: Norm) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(window)
        parts = [build_convolution(2, width, (9, 3), norm), nn.LeakyReLU(0.2)]
        for dilation in DILATIONS:
            parts += [build_convolution(width, width, (9, 3), norm, (2, 1), (1, dilation)), nn.LeakyReLU(0.2)]
        parts += [
            build_convolution(width, width, (3, 3), norm),
            nn.LeakyReLU(0.2),
            build_convolution(width, 1, (3, 3), norm),
        ]
        self.network = nn.Sequential(*parts)

    def forward(self, signals: Tensor) -> Tensor:
        """signals: (batch, 1, samples) -> logits (batch, 1, rows, frames).

        Frames are 1 + samples // step; rows are the window // 2 + 1 frequencies halved three times, rounded up.
        """
        spectra = self.spectrogram.spectrum(signals).squeeze(1)
        return self.network(torch.stack([spectra.real, spectra.imag], dim=1))


def build_convolution(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int],
    norm: Norm,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
) -> nn.Module:
    """A normalised convolution that keeps the size where its stride is 1, and never leaves less than one position."""
    padding = dilation[0] * (kernel[0] // 2), dilation[1] * (kernel[1] // 2)
    return NORMS[norm](nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation))
