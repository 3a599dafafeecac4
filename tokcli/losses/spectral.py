"""Losses that compare the spectra of two sounds: at several resolutions, on a linear and on a mel axis.

A waveform difference alone leaves the quiet, high half of speech to chance. Long windows tell pitches apart, short
ones tell moments apart, hence several of them. Yamamoto et al. 2020 (Parallel WaveGAN, arXiv 1910.11480) for the
resolutions, Kumar et al. 2023 (DAC, arXiv 2306.06546) for the multi-scale mel bands.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokcli.backbones.spectra import FLOOR, MelSpectrogram, Spectrogram
from tokcli.contracts import ModalityName
from tokcli.losses.base import WeightedLoss

WINDOWS = (2048, 1024, 512, 256, 128)
MEL_WINDOWS = (2048, 1024, 512, 256, 128, 64, 32)
MEL_BANDS = (320, 160, 80, 40, 20, 10, 5)


class SpectralLoss(WeightedLoss):
    """Mean over `views` of linear · mean|S − Ŝ| + logarithmic · mean|ln S − ln Ŝ|.

    Raises ValueError where nothing is to be compared.
    """

    modality: ClassVar[ModalityName | None] = "audio"

    def __init__(self, weight: float, views: Sequence[nn.Module], linear: float, logarithmic: float) -> None:
        super().__init__(weight)
        if not views:
            raise ValueError("windows is empty, expected at least one window length in samples")
        if not (linear >= 0 and logarithmic >= 0 and linear + logarithmic > 0):
            raise ValueError(
                f"linear and logarithmic are {linear} and {logarithmic}, expected factors of which none is negative "
                "and one is positive"
            )
        self.views = nn.ModuleList(views)
        self.linear, self.logarithmic = linear, logarithmic

    def forward(self, reconstruction: Tensor, reference: Tensor) -> Tensor:
        """Both (batch, channels, samples) in [-1, 1] -> scalar float32, not yet weighted."""
        total = torch.zeros((), device=reference.device)
        for view in self.views:
            found, wanted = view(reconstruction), view(reference)
            if self.linear:
                total = total + self.linear * functional.l1_loss(found, wanted)
            if self.logarithmic:
                logarithms = (magnitudes.clamp(min=FLOOR).log() for magnitudes in (found, wanted))
                total = total + self.logarithmic * functional.l1_loss(*logarithms)
        return total / len(self.views)


class MultiResolutionStft(SpectralLoss):
    """Differences of short-time Fourier magnitudes at several resolutions.

    windows: samples of each window; a step is a quarter of it. linear, logarithmic: factors of the two differences.
    """

    def __init__(
        self,
        weight: float = 1.0,
        windows: list[int] = list(WINDOWS),  # noqa: B006 (read only; the recipe's schema shows it)
        linear: float = 1.0,
        logarithmic: float = 1.0,
    ) -> None:
        super().__init__(weight, [Spectrogram(window) for window in windows], linear, logarithmic)


class Mel(SpectralLoss):
    """Differences of mel magnitudes at several scales, from many narrow slow bands to few wide fast ones.

    sample_rate: of the signals, in Hz. windows, bands: samples of the window and mel bands of each scale.
    """

    def __init__(
        self,
        weight: float = 1.0,
        sample_rate: int = 16_000,
        windows: list[int] = list(MEL_WINDOWS),  # noqa: B006 (read only; the recipe's schema shows it)
        bands: list[int] = list(MEL_BANDS),  # noqa: B006
        linear: float = 0.0,
        logarithmic: float = 1.0,
    ) -> None:
        if len(windows) != len(bands):
            raise ValueError(f"there are {len(windows)} windows and {len(bands)} bands, expected one of each per scale")
        views = [MelSpectrogram(sample_rate, *scale) for scale in zip(windows, bands, strict=True)]
        super().__init__(weight, views, linear, logarithmic)
        self.sample_rate = sample_rate
