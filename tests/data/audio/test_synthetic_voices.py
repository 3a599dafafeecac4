"""Synthetic voices: a pure function of what names them, and built like speech."""

import numpy
import pytest
import torch

from tokcli.data import SOURCES
from tokcli.data.audio.synthetic_voices import SyntheticVoices, pulses
from tokcli.errors import RecipeError


def test_a_voice_is_a_function_of_seed_index_and_draw() -> None:
    def load(seed: int, index: int, draw: int) -> torch.Tensor:
        return SyntheticVoices(items=5, size=800, seed=seed).load(index, draw).signal

    assert torch.equal(load(1, 2, 3), load(1, 2, 3))
    others = [load(0, 2, 3), load(1, 3, 3), load(1, 2, 2), load(2, 1, 3), load(1, 2, 2**62)]
    assert not any(torch.equal(load(1, 2, 3), other) for other in others)


@pytest.mark.parametrize(("size", "sample_rate"), [(1, 16000), (7, 8000), (9600, 16000), (5000, 44100), (300, 1000)])
def test_any_length_and_rate_can_be_made(size: int, sample_rate: int) -> None:
    source = SyntheticVoices(items=2, size=size, sample_rate=sample_rate)
    item = source.load(1, 5)
    assert (item.name, item.original_size, source.sample_rate) == ("synthetic-voice-000001", (size,), sample_rate)
    assert item.signal.shape == (1, size)
    assert item.signal.dtype == torch.float32
    assert item.signal.isfinite().all()
    assert item.signal.abs().max() <= 1


def test_pulses_have_the_pitch_and_no_harmonic_beyond_half_the_rate() -> None:
    strength = numpy.abs(numpy.fft.rfft(pulses(numpy.full(16000, 200.0), 16000))) / 8000
    harmonics = strength[200:8000:200]
    assert harmonics.std() < 1e-3 * harmonics.mean()
    assert numpy.delete(strength, numpy.arange(0, 8001, 200)).max() < 1e-3 * harmonics.mean()


def test_voices_have_pauses_and_most_of_their_power_below_four_kilohertz() -> None:
    source = SyntheticVoices(items=8, size=32_000)
    sounds = numpy.stack([source.load(index).signal[0].numpy() for index in range(8)])
    loudness = numpy.sqrt((sounds.reshape(8, -1, 320) ** 2).mean(axis=2))
    assert (loudness.min(axis=1) < 0.1 * loudness.max(axis=1)).all()
    power = (numpy.abs(numpy.fft.rfft(sounds)) ** 2).sum(axis=0)
    assert 0.8 < power[: len(power) // 2].sum() / power.sum() < 0.999


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"items": 0}, "items: expected 1 or more, got 0"),
        ({"size": 0}, "size: expected 1 or more, got 0"),
        ({"sample_rate": 100}, "sample_rate: expected 1000 or more, got 100"),
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
    ],
)
def test_arguments_that_do_not_fit_are_explained(arguments: dict[str, int], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        SOURCES.build({"kind": "synthetic-voices", **arguments}, "data.train")
