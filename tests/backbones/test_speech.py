"""PESQ and STOI: the packages' own scores, and NaN for every clip that they cannot judge."""

import math

import numpy as np
import pytest

from tokcli.backbones import speech

pesq_package = pytest.importorskip("pesq")
stoi_package = pytest.importorskip("pystoi")


def voice(seconds: float = 1.5, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """A buzzing vowel in syllables, with noise, at 16 kHz."""
    times = np.arange(int(seconds * 16_000)) / 16_000
    buzz = sum(np.sin(2 * np.pi * 140 * harmonic * times) / harmonic for harmonic in range(1, 25))
    sound = 0.2 * buzz * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * times))
    return (sound + noise * np.random.default_rng(seed).standard_normal(len(times))).astype(np.float32)


def test_scores_are_the_packages_own() -> None:
    reference, reconstruction = voice(), voice(noise=0.02)
    assert speech.pesq(reference, reconstruction, 16_000) == pesq_package.pesq(16_000, reference, reconstruction, "wb")
    assert speech.stoi(reference, reconstruction, 16_000) == stoi_package.stoi(reference, reconstruction, 16_000)
    assert speech.pesq(reference, reference, 16_000) == pytest.approx(4.644, abs=1e-3)
    assert speech.stoi(reference, reference, 16_000) == pytest.approx(1)


@pytest.mark.parametrize("score", [speech.pesq, speech.stoi])
@pytest.mark.parametrize(
    ("reference", "reconstruction"),
    [
        (np.zeros(16_000, np.float32), voice(1)),
        (voice(1), np.zeros(16_000, np.float32)),
        (np.zeros(16_000, np.float32), np.zeros(16_000, np.float32)),
        (voice(1), np.where(np.arange(16_000) == 5, np.nan, voice(1))),
        (voice(0.2), voice(0.2, noise=0.01)),
        (voice(0.001), voice(0.001, noise=0.01)),
    ],
    ids=["silent reference", "silent reconstruction", "both silent", "not finite", "a fifth of a second", "16 samples"],
)
def test_a_clip_that_cannot_be_judged_has_no_score(score, reference, reconstruction) -> None:
    assert math.isnan(score(reference, reconstruction, 16_000))


def test_other_rates_are_resampled() -> None:
    soxr = pytest.importorskip("soxr")
    reference, reconstruction = voice(), voice(noise=0.02)
    fast = [soxr.resample(clip, 16_000, 24_000) for clip in (reference, reconstruction)]
    assert speech.stoi(*fast, 24_000) == pytest.approx(speech.stoi(reference, reconstruction, 16_000), abs=0.02)
    assert speech.pesq(*fast, 24_000) == pytest.approx(speech.pesq(reference, reconstruction, 16_000), abs=0.2)
