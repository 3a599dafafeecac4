"""Spectra: how much of each frequency a sound holds at each moment, on a linear or on a mel axis.

Magnitudes are divided by the root of the window's energy, so that white noise of variance 1 has mean square 1 in every
bin whatever the window's length, and resolutions can be added up.
"""

from typing import Any, Literal

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

FLOOR = 1e-5
"""The smallest magnitude that a logarithm sees: −100 dB."""


def transform(signals: Tensor, taper: Tensor, step: int, beyond: Literal["constant", "reflect"]) -> Tensor:
    """The short-time Fourier transform: (batch, samples) -> (batch, window // 2 + 1, frames) complex.

    Frames are centred on every step from the first sample on.

    Args:
        signals: float32, (batch, samples).
        taper: What each frame is multiplied by, (window,).
        step: Samples from one frame to the next.
        beyond: What lies beyond both ends: silence, or the signal mirrored.
    """
    return torch.stft(signals, len(taper), step, window=taper, center=True, pad_mode=beyond, return_complex=True)


def transform_pieces(signal: NDArray[numpy.floating], taper: NDArray[numpy.floating], step: int) -> NDArray[Any]:
    """The same in float64 and without centring: (samples,) -> (frames, window // 2 + 1), frames that fit whole."""
    windows = numpy.lib.stride_tricks.sliding_window_view(signal, len(taper))[::step]
    return numpy.fft.rfft(windows * taper)


class Spectrogram(nn.Module):
    """Short-time Fourier magnitudes with a Hann window.

    Args:
        window: Samples of the window and of the transform, at least 4. A step is a quarter of it.

    Raises:
        ValueError: The window has under 4 samples.
    """

    taper: Tensor

    def __init__(self, window: int) -> None:
        super().__init__()
        if window < 4:
            raise ValueError(f"a window of {window} samples is too short, expected at least 4")
        self.window = window
        hann = torch.hann_window(window, dtype=torch.float64)
        self.register_buffer("taper", (hann / hann.square().sum().sqrt()).float(), persistent=False)

    def forward(self, signal: Tensor) -> Tensor:
        """signal: (batch, channels, samples) -> magnitudes: (batch, channels, window // 2 + 1, frames) float32.

        Frames are centred on every step from the first sample on, with silence beyond both ends.
        """
        return self.spectrum(signal).abs()

    def spectrum(self, signal: Tensor) -> Tensor:
        """signal: (batch, channels, samples) -> (batch, channels, window // 2 + 1, frames) complex64."""
        with torch.autocast(signal.device.type, enabled=False):
            spectrum = transform(signal.float().flatten(0, 1), self.taper, self.window // 4, "constant")
            return spectrum.unflatten(0, signal.shape[:2])


class MelSpectrogram(nn.Module):
    """Magnitudes summed into bands that are equally wide to the ear.

    Args:
        sample_rate: In Hz.
        window: Samples of the transform.
        bands: Triangles with peak 1, equally spaced in mel = 2595·log10(1 + f/700) from 0 Hz to half the sample rate.
    """

    bank: Tensor

    def __init__(self, sample_rate: int, window: int, bands: int) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(window)
        self.register_buffer("bank", mel_bank(sample_rate, window, bands), persistent=False)

    def forward(self, signal: Tensor) -> Tensor:
        """signal: (batch, channels, samples) -> magnitudes: (batch, channels, bands, frames) float32."""
        magnitudes = self.spectrogram(signal)
        with torch.autocast(signal.device.type, enabled=False):
            return self.bank @ magnitudes


def mel_bank(sample_rate: int, window: int, bands: int) -> Tensor:
    """The weight of each frequency in each band: (bands, window // 2 + 1) float32.

    Raises ValueError for a sample rate or a number of bands that is not positive.
    """
    if sample_rate < 1 or bands < 1:
        raise ValueError(f"{bands} mel bands at {sample_rate} Hz cannot be built, expected positive numbers")
    frequencies = torch.linspace(0, sample_rate / 2, window // 2 + 1, dtype=torch.float64)
    highest = 2595 * torch.log10(torch.tensor(1 + sample_rate / 2 / 700, dtype=torch.float64))
    edges = 700 * (10 ** (torch.linspace(0, 1, bands + 2, dtype=torch.float64) * highest / 2595) - 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    return torch.minimum(rising, falling).clamp(min=0).float()
