"""Images as they are judged: as 8-bit pixels, because that is what a file or a screen would show."""

import torch
from torch import Tensor

from tokcli.contracts import RoundTrip

ROUNDING = "8-bit, to nearest"


def to_levels(signal: Tensor) -> Tensor:
    """Signals in [-1, 1], any shape -> pixel values 0, 1, …, 255 in float32, rounded to the nearest.

    Truncation would darken every image by half a level and cost a faithful reconstruction several decibels.
    """
    return ((signal.float() + 1) * 127.5).clamp(0, 255).round()


def unjudged(round_trip: RoundTrip) -> Tensor:
    """The scores (batch,) of items that cannot be judged."""
    reference = round_trip.reference
    return torch.full((reference.shape[0],), torch.nan, device=reference.device)
