"""Discriminators of audio: several networks side by side, each of which reads the signal in its own way.

Multi-period: voiced sound repeats itself. Laid out in rows of p samples, a period becomes a column, and networks for
several prime numbers p together notice what is wrong with it. Kong et al. 2020, "HiFi-GAN" (arXiv 2010.05646), §2.3.

Multi-scale STFT: phase is where codecs sound metallic, and a magnitude loss cannot tell it; real and imaginary parts
hold it. Long windows show harmonics, short ones onsets. Défossez et al. 2022, "High Fidelity Neural Audio Compression"
(EnCodec, arXiv 2210.13438), §3.4.

Multi-band STFT: the same with networks of their own for parts of the spectrum, so that what is wrong above 10 kHz,
where there is little energy, is seen as well. Kumar et al. 2023 (DAC, arXiv 2306.06546), §3.4.
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
from tokcli.contracts import Discriminator, ModalityName, Verdict
from tokcli.discriminators.features import run_layers
from tokcli.errors import ArgumentError
from tokcli.schema import Count, Counts, Share

Norm = Literal["weight", "spectral"]
NORMS = {"weight": weight_norm, "spectral": spectral_norm}
"""`weight` as published. `spectral` bounds every slope (arXiv 1802.05957), so that quiet audio hardly moves a logit."""

PERIODS = (2, 3, 5, 7, 11)
WIDTHS = (1, 4, 16, 32)
"""Channels of the layers that read a third of the rows, as multiples of the width."""

WINDOWS = (2048, 1024, 512, 256, 128)
CUTS = (0.1, 0.25, 0.5, 0.75)
"""Shares of the spectrum at which DAC cuts it into bands."""
DILATIONS = (1, 2, 4)
"""Along time, of the layers that halve the frequencies."""


class AudioDiscriminator(Discriminator):
    """Networks whose logits are kept apart, so that each weighs the same however many it gives.

    A signal of several channels is judged channel by channel.

    Args:
        judges: the networks, (batch, 1, samples) -> logits of any shape, and a list of features.
    """

    modality: ClassVar[ModalityName] = "audio"

    def __init__(self, judges: Iterable[nn.Module]) -> None:
        super().__init__()
        self.judges = nn.ModuleList(judges)

    def discriminate(self, signals: Tensor) -> Verdict:
        """signals: (batch, channels, samples) in [-1, 1], any length -> logits (batch, 1, n) of each network."""
        mono = signals.flatten(0, 1).unsqueeze(1)
        opinions = [network(mono) for network in self.judges]
        logits = tuple(logits.reshape(len(signals), 1, -1) for logits, _ in opinions)
        # Those of a signal's channels belong to it.
        return Verdict(logits, tuple(each.unflatten(0, signals.shape[:2]) for _, found in opinions for each in found))


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

    def forward(self, signals: Tensor) -> tuple[Tensor, list[Tensor]]:
        """signals: (batch, 1, samples) -> logits (batch, 1, rows, period), and features.

        Rows are samples / period, divided by three four times, rounded up each time.
        """
        whole = functional.pad(signals, (0, -signals.shape[-1] % self.period), mode="replicate")
        return run_layers(self.network, whole.unflatten(-1, (-1, self.period)))


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

    def forward(self, signals: Tensor) -> tuple[Tensor, list[Tensor]]:
        """signals: (batch, 1, samples) -> logits (batch, 1, rows, frames), and features.

        Frames are 1 + samples // step; rows are the window // 2 + 1 frequencies halved three times, rounded up.
        """
        return run_layers(self.network, _spectra(self.spectrogram, signals))


class MultiBandStftDiscriminator(AudioDiscriminator):
    """Audio to logits over time and frequency at each resolution, read band by band; and at periods, if any are named.

    With periods 2, 3, 5, 7 and 11 it is what DAC trains against.

    Args:
        windows: samples of each window; a step is a quarter of it.
        cuts: where one band ends and the next begins, as shares of the spectrum, increasing.
        periods: those of multi-period networks beside.
        width: channels of every layer but the last.
        norm: `weight` as published, or `spectral`, which bounds the slope of every convolution (arXiv 1802.05957).
    """

    def __init__(
        self,
        windows: Annotated[Sequence[Annotated[int, Field(ge=32)]], Field(min_length=1)] = WINDOWS[:3],
        cuts: Sequence[Share] = CUTS,
        periods: Sequence[Count] = (),
        width: Count = 32,
        norm: Norm = "weight",
    ) -> None:
        networks: list[nn.Module] = [PeriodNetwork(period, width, norm) for period in periods]
        super().__init__([*networks, *(BandNetwork(window, cuts, width, norm) for window in windows)])


class BandNetwork(nn.Module):
    """One resolution: each band of a complex spectrogram through layers of its own, all of them through the last."""

    def __init__(self, window: int, cuts: Sequence[float], width: int, norm: Norm) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(window)
        rows = window // 2 + 1
        ends = [0, *(int(cut * rows) for cut in cuts), rows]
        self.rows = [upper - lower for lower, upper in itertools.pairwise(ends)]
        if min(self.rows) < 1:
            raise ArgumentError(
                f"cuts: expected increasing shares, each band at least one of the {rows} rows that a window of {window}"
                f" gives, got {list(cuts)}"
            )
        self.bands = nn.ModuleList([self._build_band(width, norm) for _ in self.rows])
        self.last = build_convolution(width, 1, (3, 3), norm)

    @staticmethod
    def _build_band(width: int, norm: Norm) -> nn.Sequential:
        parts = [build_convolution(2, width, (9, 3), norm), nn.LeakyReLU(0.1)]
        for _ in range(3):
            parts += [build_convolution(width, width, (9, 3), norm, (2, 1)), nn.LeakyReLU(0.1)]
        return nn.Sequential(*parts, build_convolution(width, width, (3, 3), norm), nn.LeakyReLU(0.1))

    def forward(self, signals: Tensor) -> tuple[Tensor, list[Tensor]]:
        """signals: (batch, 1, samples) -> logits (batch, 1, rows, frames), and the features of all bands.

        Frames are 1 + samples // step; rows are those of each band halved three times, rounded up, together.
        """
        parts = _spectra(self.spectrogram, signals).split(self.rows, dim=2)
        seen = [run_layers(band, part) for band, part in zip(self.bands, parts, strict=True)]  # pyright: ignore[reportArgumentType]
        return self.last(torch.cat([last for last, _ in seen], dim=2)), [each for _, found in seen for each in found]


def _spectra(spectrogram: Spectrogram, signals: Tensor) -> Tensor:
    """(batch, 1, samples) -> real and imaginary parts, (batch, 2, frequencies, frames)."""
    spectra = spectrogram.spectrum(signals).squeeze(1)
    return torch.stack([spectra.real, spectra.imag], dim=1)


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
