"""Finding the setting at which a codec's files cost what a model's tokens cost.

One setting serves the whole set, so that its files may spend more on what is harder, as their users' do.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from tokcli.codecs.base import Codec, CodedTrip

RateOf = Callable[[float, int, int | None], dict[str, float]]
"""Bits, samples and sample rate to a rate under the name of its unit."""


def matching_setting(
    codec: Codec, signals: Sequence[Tensor], target: float, rate: RateOf, sample_rate: int | None = None
) -> int:
    """The setting whose whole files, headers included, come closest to the rate `target` over `signals`.

    signals: (channels, *size) each. rate: says what bits are in the unit of `target`. The end of the codec's range
    where the target lies beyond it. Between settings, rates are taken to rise.
    """
    tried: dict[int, float] = {}

    def spent(setting: int) -> float:
        if setting not in tried:
            trip = CodedTrip(codec, setting, sample_rate)
            for signal in signals:
                trip.count(signal)
            tried[setting] = next(iter(rate(trip.bits, trip.samples, sample_rate).values()))
        return tried[setting]

    low, high = codec.settings[0], codec.settings[-1]
    if spent(low) >= target:
        return low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if spent(middle) <= target else (low, middle)
    return min((low, high), key=lambda setting: (abs(spent(setting) - target), setting))
