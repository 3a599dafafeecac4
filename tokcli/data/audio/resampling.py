"""Another sample rate, piece by piece: what comes out does not depend on how the sound was cut.

soxr at its high quality (band-limited to 91 % of the lower rate, 20 bits) works on a stream, so a file of any length
needs the memory of one piece.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy
import soxr
from numpy.typing import NDArray

Samples = NDArray[numpy.float32]

QUALITY = "HQ"

REACH = 256
"""Samples of the lower rate on either side of a part that are read with it. With 128 already, what is farther away
makes no difference in float32."""


@dataclass(frozen=True)
class Span:
    """A part of a sound to read, so that a part of the resampled sound can be made from it.

    Attributes:
        start: The first sample to read.
        samples: How many to read.
        skip: Resampled samples to drop at the beginning of what comes out.
    """

    start: int
    samples: int
    skip: int


def count_resampled(samples: int, rate: int, target: int) -> int:
    """How many samples at `target` Hz stand for so many at `rate` Hz, rounded to the nearest."""
    return (2 * samples * target + rate) // (2 * rate)


def resample(blocks: Iterable[Samples], rate: int, target: int) -> Iterator[Samples]:
    """Pieces (samples,) at `rate` Hz -> pieces at `target` Hz; the very same pieces where the rates agree."""
    if rate == target:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate, target, 1, dtype="float32", quality=QUALITY)
    for block in blocks:
        yield stream.resample_chunk(numpy.ascontiguousarray(block))
    yield stream.resample_chunk(numpy.empty(0, numpy.float32), last=True)


def find_span(start: int, samples: int, length: int, rate: int, target: int) -> Span:
    """What to read of a sound so as to make a part of it at another sample rate.

    Where the rates differ, the span is wider by the filter's reach and begins where samples of both rates coincide,
    so that resampling it gives what resampling everything would, to the resampler's precision.

    Args:
        start: The first sample of the part, at `target` Hz.
        samples: Of the part, at `target` Hz.
        length: Of the whole sound, in samples at `rate` Hz.
        rate: Of the sound, in Hz.
        target: Of the part, in Hz.
    """
    if rate == target:
        return Span(start, max(0, min(samples, length - start)), 0)
    common = math.gcd(rate, target)
    step, target_step = rate // common, target // common
    reach = -(-REACH * rate // min(rate, target))
    beats = max(0, start * rate // target - reach) // step
    first = beats * step
    end = min(length, -(-(start + samples) * rate // target) + reach)
    return Span(first, max(0, end - first), start - beats * target_step)
