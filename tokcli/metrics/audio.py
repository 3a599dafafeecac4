"""How close sounds are: SI-SDR, mel distance, and how speech would be rated (PESQ) and understood (STOI).

Each is the mean over clips of a score for one. Clips are compared as a file would hold them: clipped to [-1, 1], and
their channels averaged.

A clip that is too long to be held comes in parts. SI-SDR and mel distance are sums, over samples and over frames, and
come out the same but for rounding. PESQ and STOI judge a clip as a whole and were made for sentences: of such a clip
they judge windows of `SPEECH_WINDOW` seconds, one behind the other from its beginning, and its score is their mean,
each weighed by its length; windows that cannot be scored are left out.
"""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from tokcli.backbones import speech
from tokcli.backbones.spectra import FLOOR, MelSpectrogram
from tokcli.contracts import ItemParts, ModalityName, RoundTrip
from tokcli.metrics.base import ItemMean, merge_states, require_sample_rate
from tokcli.numerics import to_float64
from tokcli.optional import require

LIMIT = 100.0
"""Decibels beyond which SI-SDR is not told apart: a perfect clip would make the mean of a set infinite."""

MEL_WINDOW = 1024
MEL_BANDS = 80
MEL_STEP = MEL_WINDOW // 4

SPEECH_WINDOW = 10
"""Seconds of a long clip that PESQ and STOI judge at a time: what recommendation P.862 was validated with, and far from
the number of pauses at which its code crashes."""


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
    unit: ClassVar[str] = "dB"
    meaning: ClassVar[str] = "energy of the signal over that of the error, at the best loudness: 0 is as much of each"

    def scores(self, round_trip: RoundTrip) -> Tensor:
        """(batch,) decibels."""
        return si_sdr(to_mono(round_trip.reconstruction), to_mono(round_trip.reference))

    def start_item(self) -> ItemParts:
        """Sums of products, from which the ratio follows."""
        return SiSdrOfItem(self)

    def protocol(self) -> dict[str, object]:
        """Means, limit and averaging."""
        return {"zero_mean": True, "limit_db": LIMIT, "average": "per clip"}


class SiSdrOfItem(ItemParts):
    """SI-SDR of a clip in parts: with both means removed, it depends on their energies and on their product alone."""

    def __init__(self, metric: SiSdr) -> None:
        self._metric = metric
        self._samples = 0
        self._sums = torch.zeros(2, 1, dtype=torch.float64)
        self._products = torch.zeros(2, 2, dtype=torch.float64)

    def add(self, part: RoundTrip) -> None:
        """Add up samples and their products."""
        pair = to_float64(torch.cat([to_mono(part.reference), to_mono(part.reconstruction)]))
        self._samples += pair.shape[1]
        self._sums = self._sums.to(pair.device) + pair.sum(1, keepdim=True)
        self._products = self._products.to(pair.device) + pair @ pair.T

    def finish(self) -> None:
        """The ratio, within ±`LIMIT`; NaN where either is silent."""
        (energy, product), (_, other) = self._products - self._sums @ self._sums.T / max(1, self._samples)
        target = product.square() / energy
        # Rounding may leave a little less than nothing of a perfect clip.
        ratio = target / (other - target).clamp(min=0)
        self._metric.add_scores((10 * ratio.log10()).clamp(-LIMIT, LIMIT)[None])


class MelDistance(ItemMean):
    """Mean over clips of the mean absolute difference of their log-mel magnitudes, in decibels; lower is better."""

    modality: ClassVar[ModalityName | None] = "audio"
    higher_is_better: ClassVar[bool | None] = False
    meaning: ClassVar[str] = "how far apart log-mel spectra are: 0 is identical"

    def __init__(self) -> None:
        super().__init__()
        self._spectrograms: dict[int, MelSpectrogram] = {}

    def scores(self, round_trip: RoundTrip) -> Tensor:
        """(batch,) decibels."""
        reconstruction, reference = to_mono(round_trip.reconstruction), to_mono(round_trip.reference)
        return self.compare(reconstruction, reference, require_sample_rate(round_trip)).flatten(1).mean(1)

    def compare(self, reconstruction: Tensor, reference: Tensor, sample_rate: int) -> Tensor:
        """Both (batch, samples) -> absolute differences (batch, 1, bands, frames) in decibels."""
        if sample_rate not in self._spectrograms:
            self._spectrograms[sample_rate] = MelSpectrogram(sample_rate, MEL_WINDOW, MEL_BANDS)
        spectrogram = self._spectrograms[sample_rate].to(reference.device)
        levels = [20 * spectrogram(clips[:, None]).clamp(min=FLOOR).log10() for clips in (reconstruction, reference)]
        return (levels[0] - levels[1]).abs()

    def start_item(self) -> ItemParts:
        """The mean over frames, of which each is computed as soon as its samples are there."""
        return MelDistanceOfItem(self)

    def protocol(self) -> dict[str, object]:
        """Bands, window, floor and averaging."""
        return {
            "bands": MEL_BANDS,
            "window": f"{MEL_WINDOW} samples, Hann, step {MEL_STEP}",
            "magnitude_floor": FLOOR,
            "unit": "dB",
            "average": "per clip",
        }


class MelDistanceOfItem(ItemParts):
    """Mel distance of a clip in parts. A frame is centred on a step and reaches half a window to both sides.

    `_held` begins half a window before the first frame that is still to be computed, or where the clip does: what a
    transform of it gives before that frame is thrown away, because it lacks the samples before.
    """

    def __init__(self, metric: MelDistance) -> None:
        self._metric = metric
        self._held: Tensor | None = None
        self._skipped = 0  # frames at the beginning of what is held that are done
        self._sample_rate = 0
        self._total = torch.zeros((), dtype=torch.float64)
        self._values = 0

    def add(self, part: RoundTrip) -> None:
        """Compute the frames that are complete, and keep what the next ones need."""
        self._sample_rate = require_sample_rate(part)
        pair = torch.cat([to_mono(part.reconstruction), to_mono(part.reference)])
        held = pair if self._held is None else torch.cat([self._held, pair], dim=1)
        complete = (held.shape[1] - MEL_WINDOW // 2) // MEL_STEP + 1
        if complete > self._skipped:
            self._compare(held, complete)
            reach = MEL_WINDOW // 2 // MEL_STEP
            held, self._skipped = held[:, max(0, complete - reach) * MEL_STEP :].clone(), min(reach, complete)
        self._held = held

    def _compare(self, held: Tensor, end: int | None) -> None:
        """Add up the frames from the first that is not done up to, but without, `end`."""
        difference = self._metric.compare(held[:1], held[1:], self._sample_rate)[..., self._skipped : end]
        self._total = self._total.to(difference.device) + to_float64(difference).sum()
        self._values += difference.numel()

    def finish(self) -> None:
        """The frames that reach beyond the end, and the mean."""
        if self._held is not None:
            self._compare(self._held, None)
        self._metric.add_scores((self._total / self._values)[None])


class SpeechScore(ItemMean):
    """The mean over clips of a score that worker processes compute while the model goes on; a subclass names it.

    Attributes:
        score: Of one clip: reference and reconstruction, (samples,), and their sample rate -> NaN where it cannot be
            scored.
        package: What it needs installed.
        needs: What that needs beside itself, without saying so.
        extra: Of this project, that brings both.

    Raises:
        UsageError: The package is absent.
    """

    modality: ClassVar[ModalityName | None] = "audio"
    higher_is_better: ClassVar[bool | None] = True
    score: ClassVar[Callable[..., float]]
    package: ClassVar[str]
    needs: ClassVar[Sequence[str]] = ()
    extra: ClassVar[str] = "audio"

    def __init__(self) -> None:
        for package in (*self.needs, self.package):
            require(package, extra=self.extra)
        super().__init__()
        self._pending = speech.ClipScores(type(self).score)

    def scores(self, round_trip: RoundTrip) -> Tensor:
        """Hand one batch to the worker processes; what they have finished by now, waiting only if very much is left."""
        sample_rate = require_sample_rate(round_trip)
        pair = (to_mono(signal).cpu().numpy() for signal in (round_trip.reference, round_trip.reconstruction))
        for reference, reconstruction in zip(*pair, strict=True):
            self._pending.submit(reference, reconstruction, sample_rate)
        return torch.tensor(self._pending.collect(keep=4 * speech.count_workers()), dtype=torch.float64)

    def start_item(self) -> ItemParts:
        """The mean over windows, scored one by one."""
        return SpeechOfItem(self)

    def take_windows(self, scores: Sequence[float], lengths: Sequence[int]) -> None:
        """Take in a clip by the scores of its windows, and their lengths in samples."""
        self.finish()  # of the clips before
        scored = [(score, length) for score, length in zip(scores, lengths, strict=True) if math.isfinite(score)]
        weight = sum(length for _, length in scored)
        mean = sum(score * length for score, length in scored) / weight if scored else math.nan
        self.add_scores(torch.tensor([mean], dtype=torch.float64))
        self.state = merge_states([{"in_windows": torch.ones((), dtype=torch.int64)}, self.state])

    def finish(self) -> None:
        """Wait for the clips that are still being scored, and take in their scores."""
        self.add_scores(torch.tensor(self._pending.collect(), dtype=torch.float64))

    def protocol(self) -> dict[str, object]:
        """Rate, package and averaging; and of long clips, where there were some, how many and how they were scored."""
        plain: dict[str, object] = {"sample_rate": speech.RATE, "package": self.package, "average": "per clip"}
        if "in_windows" not in self.state:
            return plain
        rule = f"mean over windows of {SPEECH_WINDOW} s, by their length"
        return plain | {"long_clips": int(self.state["in_windows"]), "long_clip": rule}


class SpeechOfItem(ItemParts):
    """A speech score of a clip in parts: worker processes judge window after window of it."""

    def __init__(self, metric: SpeechScore) -> None:
        self._metric = metric
        self._clips = speech.ClipScores(type(metric).score)  # its own: of a clip that is let go of, no score is left
        self._held = torch.zeros(2, 0)
        self._lengths: list[int] = []
        self._scores: list[float] = []
        self._sample_rate = 0

    def add(self, part: RoundTrip) -> None:
        """Hand over the windows that are complete."""
        self._sample_rate = require_sample_rate(part)
        pair = torch.cat([to_mono(part.reference), to_mono(part.reconstruction)]).cpu()
        *windows, self._held = torch.cat([self._held, pair], dim=1).split(SPEECH_WINDOW * self._sample_rate, dim=1)
        for window in windows:
            self._submit(window)
        self._held = self._held.clone()

    def _submit(self, window: Tensor) -> None:
        reference, reconstruction = window.clone().numpy()
        self._clips.submit(reference, reconstruction, self._sample_rate)
        self._lengths.append(window.shape[1])
        self._scores += self._clips.collect(keep=2 * speech.count_workers())

    def finish(self) -> None:
        """The rest of the clip, and the mean."""
        if self._held.shape[1]:
            self._submit(self._held)
        self._metric.take_windows([*self._scores, *self._clips.collect()], self._lengths)


class Pesq(SpeechScore):
    """Mean over clips of wide-band PESQ (MOS-LQO, 1 to about 4.64); higher is better."""

    meaning: ClassVar[str] = "predicted opinion of listeners, from 1 (bad) to 4.64"

    score = staticmethod(speech.pesq)
    package: ClassVar[str] = "pesq"

    def protocol(self) -> dict[str, object]:
        """Rate, band, package and averaging."""
        return {**super().protocol(), "mode": "wide-band"}


class Stoi(SpeechScore):
    """Mean over clips of STOI; 1 is fully intelligible."""

    meaning: ClassVar[str] = "predicted share of speech that is understood: 1 is all of it"

    score = staticmethod(speech.stoi)
    package: ClassVar[str] = "pystoi"


class Dnsmos(SpeechScore):
    """Mean over clips of DNSMOS P.835's overall opinion (1 to 5) of the reconstruction alone; higher is better."""

    meaning: ClassVar[str] = "predicted opinion of listeners who hear no original, from 1 to 5"

    score = staticmethod(speech.dnsmos)
    package: ClassVar[str] = "speechmos"
    needs: ClassVar[Sequence[str]] = ("onnxruntime", "librosa", "requests")
    extra: ClassVar[str] = "dnsmos"

    def protocol(self) -> dict[str, object]:
        """Rate, package, scale and averaging."""
        return {**super().protocol(), "scale": "overall, P.835"}
