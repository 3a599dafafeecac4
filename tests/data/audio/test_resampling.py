"""Resampling: right against an exact sine, and the same whichever way a sound is cut."""

import numpy
import pytest
import soxr

from tokcli.data.audio.resampling import count_resampled, find_span, resample

RATES = [8000, 11025, 15999, 22050, 24000, 32000, 44100, 48000, 192_000]


def noise(samples: int) -> numpy.ndarray:
    return numpy.random.default_rng(0).uniform(-0.9, 0.9, samples).astype(numpy.float32)


def through(sound: numpy.ndarray, rate: int, target: int = 16000, block: int = 10**9) -> numpy.ndarray:
    blocks = (sound[start : start + block] for start in range(0, len(sound), block))
    return numpy.concatenate(list(resample(blocks, rate, target)))


@pytest.mark.parametrize("rate", RATES)
def test_a_sine_stays_the_sine_that_it_is(rate: int) -> None:
    tone = through(numpy.sin(2 * numpy.pi * 440 * numpy.arange(rate) / rate).astype(numpy.float32), rate)
    exact = numpy.sin(2 * numpy.pi * 440 * numpy.arange(16000) / 16000)
    middle = slice(1000, -1000)  # at its ends a sine is not band-limited
    assert len(tone) == 16000
    assert numpy.abs(tone - exact)[middle].max() < 2e-5


def test_what_the_lower_rate_cannot_hold_is_removed() -> None:
    sound = numpy.sin(2 * numpy.pi * 12_000 * numpy.arange(48_000) / 48_000).astype(numpy.float32)
    assert numpy.abs(through(sound, 48_000)[1000:-1000]).max() < 1e-5


@pytest.mark.parametrize("rate", RATES)
def test_pieces_give_what_the_whole_gives(rate: int) -> None:
    sound = noise(30_001)
    whole = soxr.resample(sound, rate, 16000, "HQ")
    assert numpy.array_equal(through(sound, rate, block=1000), whole)
    assert numpy.array_equal(through(sound, rate, block=4097), whole)


def test_at_the_same_rate_nothing_changes() -> None:
    sound = noise(1000)
    (same,) = resample([sound], 16000, 16000)
    assert same is sound


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("samples", [1, 2, 3, 100, 441, 4411, 10_001])
def test_the_length_is_known_beforehand(rate: int, samples: int) -> None:
    assert len(through(noise(samples), rate)) == count_resampled(samples, rate, 16000)


@pytest.mark.parametrize("rate", [16000, *RATES])
def test_a_part_is_resampled_as_the_whole_is(rate: int) -> None:
    sound = noise(2 * rate + 17)
    whole = through(sound, rate)
    for start in (0, 1, 777, 12_345, len(whole) - 4000):
        span = find_span(start, 4000, len(sound), rate, 16000)
        part = through(sound[span.start : span.start + span.samples], rate)[span.skip : span.skip + 4000]
        assert len(part) == 4000
        assert numpy.abs(part - whole[start : start + 4000]).max() < (5e-6 if rate != 16000 else 1e-12)


def test_a_part_reads_little_more_than_it_needs() -> None:
    span = find_span(100_000, 16_000, 10**7, 48_000, 16_000)
    assert span.samples < 48_000 + 3 * 600
    assert span.start <= 300_000 <= span.start + span.samples
