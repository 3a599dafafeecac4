"""Sounds as they are judged: one channel, within the range that a file can hold."""

from torch import Tensor

from tokcli.contracts import RoundTrip


def heard(signal: Tensor) -> Tensor:
    """(batch, channels, samples) -> (batch, samples) float32: clipped to [-1, 1], channels averaged."""
    return signal.float().clamp(-1, 1).mean(1)


def rate_of(round_trip: RoundTrip) -> int:
    """The sample rate in Hz. Raises ValueError where the round trip has none."""
    if round_trip.sample_rate is None:
        raise ValueError("this metric judges sounds, and the round trip has no sample_rate")
    return round_trip.sample_rate
