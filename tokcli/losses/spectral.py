"""Losses that compare the spectra of two signals: at several resolutions, on a linear and on a mel axis.

A waveform difference alone leaves the quiet, high half of speech to chance. Long windows tell pitches apart, short
ones tell moments apart, hence several of them. Yamamoto et al. 2020 (Parallel WaveGAN, arXiv 1910.11480) for the
resolutions, Kumar et al. 2023 (DAC, arXiv 2306.06546) for the multi-scale mel bands.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from tokcli.backbones.spectra import FLOOR, MelSpectrogram, Spectrogram
from tokcli.contracts import Loss, ModalityName
from tokcli.errors import ArgumentError
from tokcli.schema import Count, Counts, NotNegative

WINDOWS = (2048, 1024, 512, 256, 128)
MEL_WINDOWS = (2048, 1024, 512, 256, 128, 64, 32)
MEL_BANDS = (320, 160, 80, 40, 20, 10, 5)


Windows = Annotated[Sequence[Annotated[int, Field(ge=4)]], Field(min_length=1)]


class SpectralLoss(Loss):
    """Mean over `views` of linear · mean|S − Ŝ| + logarithmic · mean|ln S − ln Ŝ|.

    Args:
        weight: the factor by which training multiplies it.
        views: each makes magnitudes (batch, channels, bands, frames) of signals; a weightless module.
        linear: the factor of the difference of magnitudes.
        logarithmic: the factor of the difference of their logarithms.

    Raises:
        ArgumentError: where both factors are 0.
    """

    modality: ClassVar[ModalityName | None] = "audio"

    def __init__(
        self, weight: NotNegative, views: Iterable[nn.Module], linear: NotNegative, logarithmic: NotNegative
    ) -> None:
        super().__init__(weight)
        if linear + logarithmic == 0:
            raise ArgumentError(f"linear and logarithmic are {linear} and {logarithmic}, expected one to be positive")
        self.views = nn.ModuleList(views)
        self.linear, self.logarithmic = linear, logarithmic

    def forward(self, reconstruction: Tensor, reference: Tensor) -> Tensor:
        """Both (batch, channels, samples) in [-1, 1] -> scalar float32, not yet weighted."""
        total = torch.zeros((), device=reference.device)
        for view in self.views:
            magnitudes = view(reconstruction), view(reference)
            if self.linear:
                total = total + self.linear * functional.l1_loss(*magnitudes)
            if self.logarithmic:
                logarithms = (part.clamp(min=FLOOR).log() for part in magnitudes)
                total = total + self.logarithmic * functional.l1_loss(*logarithms)
        return total / len(self.views)


class MultiResolutionStft(SpectralLoss):
    """Differences of short-time Fourier magnitudes at several resolutions.

    Args:
        weight: the factor by which training multiplies it.
        windows: samples of each window; a step is a quarter of it.
        linear: the factor of the difference of magnitudes.
        logarithmic: the factor of the difference of their logarithms.
    """

    def __init__(
        self,
        weight: NotNegative = 1.0,
        windows: Windows = WINDOWS,
        linear: NotNegative = 1.0,
        logarithmic: NotNegative = 1.0,
    ) -> None:
        super().__init__(weight, [Spectrogram(window) for window in windows], linear, logarithmic)


class Mel(SpectralLoss):
    """Differences of mel magnitudes at several scales, from many narrow slow bands to few wide fast ones.

    Args:
        weight: the factor by which training multiplies it.
        sample_rate: of the signals, in Hz.
        windows: samples of the window of each scale.
        bands: mel bands of each scale.
        linear: the factor of the difference of magnitudes.
        logarithmic: the factor of the difference of their logarithms.

    Raises:
        ArgumentError: where windows and bands are not equally many, or both factors are 0.
    """

    def __init__(
        self,
        weight: NotNegative = 1.0,
        sample_rate: Count = 16_000,
        windows: Windows = MEL_WINDOWS,
        bands: Counts = MEL_BANDS,
        linear: NotNegative = 0.0,
        logarithmic: NotNegative = 1.0,
    ) -> None:
        if len(windows) != len(bands):
            raise ArgumentError(
                f"there are {len(windows)} windows and {len(bands)} bands, expected one of each per scale"
            )
        views = [MelSpectrogram(sample_rate, *scale) for scale in zip(windows, bands, strict=True)]
        super().__init__(weight, views, linear, logarithmic)
        self.sample_rate = sample_rate
