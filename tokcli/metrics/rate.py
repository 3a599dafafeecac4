"""What the tokens of a signal cost: bits per pixel or kilobits per second, packed or as their entropy says."""

import math
from abc import abstractmethod
from typing import ClassVar

import torch

from tokcli.contracts import ModalityName, RoundTrip
from tokcli.metrics.base import merge_states
from tokcli.metrics.sounds import rate_of
from tokcli.metrics.tokens import TokenCounts, entropy


class Rate(TokenCounts):
    """Bits per unit of signal; a subclass says what the unit is and how many bits the tokens of a group take.

    state: that of the token counts, and `extent`, float64, how many units of signal the tokens stand for.
    """

    higher_is_better: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.state["extent"] = torch.zeros((), dtype=torch.float64)

    @abstractmethod
    def extent(self, round_trip: RoundTrip) -> float:
        """The units of signal in a batch."""

    def update(self, round_trip: RoundTrip) -> None:
        """Count the tokens of one batch, and what they stand for."""
        super().update(round_trip)
        if round_trip.tokens is not None:
            extent = torch.tensor(self.extent(round_trip), dtype=torch.float64)
            self.state = merge_states([self.state, {"extent": extent}])

    def figure(self, counts: torch.Tensor, codebook_size: int) -> float:
        """Bits for all tokens of one group, packed into log2 K bits each."""
        return int(counts.sum()) * math.log2(codebook_size)

    def compute(self) -> float:
        """Bits over units; NaN before the first."""
        if not self.tokens_counted:
            return math.nan
        # The mean over groups that the base class takes, undone: a position costs all its groups.
        return super().compute() * self.state["counts"].shape[0] / float(self.state["extent"])


class EmpiricalRate(Rate):
    """The rate of an ideal entropy coder that knows how frequent each token is over the whole set."""

    def figure(self, counts: torch.Tensor, codebook_size: int) -> float:
        """Bits for all tokens of one group."""
        return int(counts.sum()) * entropy(counts) / math.log(2)


class BitsPerPixel(Rate):
    """Bits per pixel of tokens packed into log2 K bits each."""

    modality: ClassVar[ModalityName | None] = "image"

    def extent(self, round_trip: RoundTrip) -> float:
        """Pixels."""
        batch, _, *size = round_trip.reference.shape
        return batch * math.prod(size)


class BitsPerPixelEmpirical(BitsPerPixel, EmpiricalRate):
    """Bits per pixel for an ideal entropy coder."""


class Kbps(Rate):
    """Kilobits per second of tokens packed into log2 K bits each."""

    modality: ClassVar[ModalityName | None] = "audio"

    def extent(self, round_trip: RoundTrip) -> float:
        """Milliseconds: one bit in each is a kilobit per second. Raises ValueError where there is no sample rate."""
        batch, _, samples = round_trip.reference.shape
        return 1000 * batch * samples / rate_of(round_trip)


class KbpsEmpirical(Kbps, EmpiricalRate):
    """Kilobits per second for an ideal entropy coder."""
