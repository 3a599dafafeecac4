"""Losses that compare a signal sample by sample: mean absolute and mean squared difference."""

from torch import Tensor
from torch.nn import functional

from tokcli.contracts import Loss


class L1(Loss):
    """Mean absolute difference, over every sample of the batch.

    Args:
        weight: the factor by which training multiplies it.
    """

    def forward(self, reconstruction: Tensor, reference: Tensor) -> Tensor:
        """Both (batch, channels, *size) in [-1, 1] -> scalar float32, not yet weighted."""
        return functional.l1_loss(reconstruction.float(), reference.float())


class Mse(Loss):
    """Mean squared difference, over every sample of the batch.

    Args:
        weight: the factor by which training multiplies it.
    """

    def forward(self, reconstruction: Tensor, reference: Tensor) -> Tensor:
        """Both (batch, channels, *size) in [-1, 1] -> scalar float32, not yet weighted."""
        return functional.mse_loss(reconstruction.float(), reference.float())
