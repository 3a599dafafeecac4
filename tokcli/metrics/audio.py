"""How close sounds are: SI-SDR, mel distance, and how speech would be rated (PESQ) and understood (STOI).

Each is the mean over clips of a score for one. Clips are compared as a file would hold them: clipped to [-1, 1], and
their channels averaged.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from tokcli.backbones import speech
from tokcli.backbones.spectra import FLOOR, MelSpectrogram
from tokcli.contracts import ModalityName, RoundTrip
from tokcli.metrics.base import ItemMean, require_sample_rate
from tokcli.numerics import to_float64
from tokcli.optional import require

LIMIT = 100.0
"""Decibels beyond which SI-SDR is not told apart: a perfect clip would make the mean of a set infinite."""

MEL_WINDOW = 1024
MEL_BANDS = 80


def to_mono(signal: Tensor) -> Tensor:
    """(batch, channels, samples) -> (batch, samples) float32: clipped to [-1, 1], channels averaged."""
    return signal.float().clamp(-1, 1).mean(1)


def si_sdr(reconstruction: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio of each clip in decibels (Le Roux et al. 2019, arXiv 1811.02508).

    The reconstruction is split into its projection onto the reference and the rest; the ratio is that of their
    energies.

    Args:
        reconstruction: (batch, samples); the mean of each clip is removed first.
        reference: Of the same shape.

    Returns:
        (batch,) float64 within ±`LIMIT`, NaN where either is silent.
    """
    reconstruction, reference = (to_float64(clip) for clip in (reconstruction, reference))
    reconstruction, reference = (clip - clip.mean(1, keepdim=True) for clip in (reconstruction, reference))
    scale = (reconstruction * reference).sum(1, keepdim=True) / reference.square().sum(1, keepdim=True)
    target = scale * reference
    ratio = target.square().sum(1) / (reconstruction - target).square().sum(1)
    return (10 * ratio.log10()).clamp(-LIMIT, LIMIT)


class SiSdr(ItemMean):
    """Mean over clips of their SI-SDR in decibels; higher is better. A silent clip is unscored."""

    modality: ClassVar[ModalityName | None] = "audio"
    higher_is_better: ClassVar[bool | None] = True

    def scores(self, round_trip: RoundTrip) -> Tensor:
        """(batch,) decibels."""
        return si_sdr(to_mono(round_trip.reconstruction), to_mono(round_trip.reference))

    def protocol(self) -> dict[str, object]:
        """Means, limit and averaging."""
        return {"zero_mean": True, "limit_db": LIMIT, "average": "per clip"}


class MelDistance(ItemMean):
    """Mean over clips of the mean absolute difference of their log-mel magnitudes, in decibels; lower is better."""

    modality: ClassVar[ModalityName | None] = "audio"
    higher_is_better: ClassVar[bool | None] = False

    def __init__(self) -> None:
        super().__init__()
        self._spectrograms: dict[int, MelSpectrogram] = {}

    def scores(self, round_trip: RoundTrip) -> Tensor:
        """(batch,) decibels."""
        sample_rate = require_sample_rate(round_trip)
        if sample_rate not in self._spectrograms:
            self._spectrograms[sample_rate] = MelSpectrogram(sample_rate, MEL_WINDOW, MEL_BANDS)
        spectrogram = self._spectrograms[sample_rate].to(round_trip.reference.device)
        reconstruction, reference = (
            20 * spectrogram(to_mono(signal)[:, None]).clamp(min=FLOOR).log10()
            for signal in (round_trip.reconstruction, round_trip.reference)
        )
        return (reconstruction - reference).abs().flatten(1).mean(1)

    def protocol(self) -> dict[str, object]:
        """Bands, window, floor and averaging."""
        return {
            "bands": MEL_BANDS,
            "window": f"{MEL_WINDOW} samples, Hann, step {MEL_WINDOW // 4}",
            "magnitude_floor": FLOOR,
            "unit": "dB",
            "average": "per clip",
        }


class SpeechScore(ItemMean):
    """The mean over clips of a score that worker processes compute while the model goes on; a subclass names it.

    Attributes:
        score: Of one clip: reference and reconstruction, (samples,), and their sample rate -> NaN where it cannot be
            scored.
        package: What it needs installed.

    Raises:
        UsageError: The package is absent.
    """

    modality: ClassVar[ModalityName | None] = "audio"
    higher_is_better: ClassVar[bool | None] = True
    score: ClassVar[Callable[..., float]]
    package: ClassVar[str]

    def __init__(self) -> None:
        require(self.package, extra="audio")
        super().__init__()
        self._pending = speech.ClipScores(type(self).score)

    def scores(self, round_trip: RoundTrip) -> Tensor:
        """Hand one batch to the worker processes; what they have finished by now, waiting only if very much is left."""
        sample_rate = require_sample_rate(round_trip)
        pair = (to_mono(signal).cpu().numpy() for signal in (round_trip.reference, round_trip.reconstruction))
        for reference, reconstruction in zip(*pair, strict=True):
            self._pending.submit(reference, reconstruction, sample_rate)
        return torch.tensor(self._pending.collect(keep=4 * speech.count_workers()), dtype=torch.float64)

    def finish(self) -> None:
        """Wait for the clips that are still being scored, and take in their scores."""
        self.add_scores(torch.tensor(self._pending.collect(), dtype=torch.float64))

    def protocol(self) -> dict[str, object]:
        """Rate, package and averaging."""
        return {"sample_rate": speech.RATE, "package": self.package, "average": "per clip"}


class Pesq(SpeechScore):
    """Mean over clips of wide-band PESQ (MOS-LQO, 1 to about 4.64); higher is better."""

    score = staticmethod(speech.pesq)
    package: ClassVar[str] = "pesq"

    def protocol(self) -> dict[str, object]:
        """Rate, band, package and averaging."""
        return {**super().protocol(), "mode": "wide-band"}


class Stoi(SpeechScore):
    """Mean over clips of STOI; 1 is fully intelligible."""

    score = staticmethod(speech.stoi)
    package: ClassVar[str] = "pystoi"
