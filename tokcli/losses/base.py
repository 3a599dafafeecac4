"""What every loss shares: its weight, checked once."""

import math

from tokcli.contracts import Loss


class WeightedLoss(Loss):
    """A loss with the factor by which the training loop multiplies it.

    Raises ValueError for a weight that is negative or not finite.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"weight is {weight}, expected a finite number that is not negative")
        self.weight = float(weight)
