"""How far a sound is from the original, sample by sample and band by band: SI-SDR and mel distance."""

from typing import ClassVar

from torch import Tensor

from tokcli.backbones.spectra import FLOOR, MelSpectrogram
from tokcli.contracts import ModalityName, RoundTrip
from tokcli.metrics.base import ItemMean
from tokcli.metrics.sounds import heard, rate_of
from tokcli.numerics import to_float64

LIMIT = 100.0
"""Decibels beyond which SI-SDR is not told apart: a perfect clip would make the mean of a set infinite."""

MEL_WINDOW = 1024
MEL_BANDS = 80


def si_sdr(reconstruction: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio of each clip in decibels (Le Roux et al. 2019, arXiv 1811.02508).

    Both (batch, samples); their means are removed first. The reconstruction is split into its projection onto the
    reference and the rest; the ratio is that of their energies. Returns (batch,) float64 within ±`LIMIT`, NaN where
    either is silent.
    """
    found, wanted = (to_float64(clip) for clip in (reconstruction, reference))
    found, wanted = (clip - clip.mean(1, keepdim=True) for clip in (found, wanted))
    target = (found * wanted).sum(1, keepdim=True) / wanted.square().sum(1, keepdim=True) * wanted
    ratio = target.square().sum(1) / (found - target).square().sum(1)
    return (10 * ratio.log10()).clamp(-LIMIT, LIMIT)


class SiSdr(ItemMean):
    """Mean over clips of their SI-SDR in decibels; higher is better. A silent clip is unscored."""

    modality: ClassVar[ModalityName | None] = "audio"

    def scores(self, round_trip: RoundTrip) -> Tensor:
        """(batch,) decibels."""
        return si_sdr(heard(round_trip.reconstruction), heard(round_trip.reference))

    def protocol(self) -> dict[str, object]:
        """Means, limit and averaging."""
        return {"zero_mean": True, "limit_db": LIMIT, "average": "per clip"}


class MelDistance(ItemMean):
    """Mean over clips of the mean absolute difference of their log-mel magnitudes, in decibels; lower is better."""

    modality: ClassVar[ModalityName | None] = "audio"
    higher_is_better: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self._spectrograms: dict[int, MelSpectrogram] = {}

    def scores(self, round_trip: RoundTrip) -> Tensor:
        """(batch,) decibels."""
        rate = rate_of(round_trip)
        if rate not in self._spectrograms:
            self._spectrograms[rate] = MelSpectrogram(rate, MEL_WINDOW, MEL_BANDS)
        spectrogram = self._spectrograms[rate].to(round_trip.reference.device)
        found, wanted = (
            20 * spectrogram(heard(signal)[:, None]).clamp(min=FLOOR).log10()
            for signal in (round_trip.reconstruction, round_trip.reference)
        )
        return (found - wanted).abs().flatten(1).mean(1)

    def protocol(self) -> dict[str, object]:
        """Bands, window, floor and averaging."""
        return {
            "bands": MEL_BANDS,
            "window": f"{MEL_WINDOW} samples, Hann, step {MEL_WINDOW // 4}",
            "magnitude_floor": FLOOR,
            "unit": "dB",
            "average": "per clip",
        }
