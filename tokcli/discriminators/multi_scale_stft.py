"""Multi-scale STFT discriminator: convolutional networks that read a sound's complex spectrum at several resolutions.

Phase is where codecs sound metallic, and a magnitude loss cannot hear it; real and imaginary parts hold it. Long
windows show harmonics, short ones onsets. Défossez et al. 2022, "High Fidelity Neural Audio Compression" (EnCodec,
arXiv 2210.13438), §3.4.
"""

import torch
from torch import Tensor, nn

from tokcli.backbones.spectra import Spectrogram
from tokcli.discriminators.sounds import Norm, SoundDiscriminator, check_arguments, convolution

WINDOWS = (2048, 1024, 512, 256, 128)
DILATIONS = (1, 2, 4)
"""Along time, of the layers that halve the frequencies."""


class MultiScaleStftDiscriminator(SoundDiscriminator):
    """Sounds to logits over time and frequency at each resolution.

    windows: samples of each window; a step is a quarter of it, so that every resolution gives nearly as many logits.
    width: channels of every layer but the last. norm: `weight` as published, or `spectral`, which bounds the slope of
        every convolution (arXiv 1802.05957).

    Frames are centred and silence lies beyond both ends, so that sounds of any length can be judged; EnCodec's begin
    a whole window into the sound. Raises ValueError for an argument that does not fit.
    """

    def __init__(
        self,
        windows: list[int] = list(WINDOWS),  # noqa: B006 (read only; the recipe's schema shows it)
        width: int = 32,
        norm: Norm = "weight",
    ) -> None:
        check_arguments(width, norm)
        if not windows:
            raise ValueError("windows is empty, expected at least one window length in samples")
        super().__init__(SpectrumJudge(window, width, norm) for window in windows)


class SpectrumJudge(nn.Module):
    """One resolution: a complex spectrogram, and 2-D convolutions that each look further along time."""

    def __init__(self, window: int, width: int, norm: Norm) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(window)
        parts = [convolution(2, width, (9, 3), norm), nn.LeakyReLU(0.2)]
        for dilation in DILATIONS:
            parts += [convolution(width, width, (9, 3), norm, (2, 1), (1, dilation)), nn.LeakyReLU(0.2)]
        parts += [convolution(width, width, (3, 3), norm), nn.LeakyReLU(0.2), convolution(width, 1, (3, 3), norm)]
        self.network = nn.Sequential(*parts)

    def forward(self, sounds: Tensor) -> Tensor:
        """sounds: (batch, 1, samples) -> logits (batch, 1, rows, frames).

        Frames are 1 + samples // step; rows are the window // 2 + 1 frequencies halved three times, rounded up.
        """
        spectra = self.spectrogram.spectrum(sounds).squeeze(1)
        return self.network(torch.stack([spectra.real, spectra.imag], dim=1))
