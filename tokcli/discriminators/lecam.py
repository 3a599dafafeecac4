"""LeCam regularisation: hold the discriminator's logits near where they have been lately.

On little data a discriminator learns its training images by heart and its logits run apart. Tying each side's logits
to the other side's running mean weakens it before that. Tseng et al. 2021 (arXiv 2104.03310).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

DECAY = 0.99


class LogitMeans(nn.Module):
    """Running means of the logits: buffers, because they decide the next training step."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("original", torch.zeros(()))
        self.register_buffer("reconstructed", torch.zeros(()))

    @torch.no_grad()
    def update(self, original: Tensor, reconstructed: Tensor) -> None:
        """Take in the mean logits of one batch, scalars that are equal in all processes."""
        self.original.lerp_(original, 1 - DECAY)
        self.reconstructed.lerp_(reconstructed, 1 - DECAY)


def lecam_penalty(original: Tensor, reconstructed: Tensor, means: LogitMeans) -> Tensor:
    """mean max(0, D(x) − α_x̂)² + mean max(0, α_x − D(x̂))², with running means α; scalar.

    Equation 3 squares the differences themselves; the authors' code rectifies them first, so that a logit already on
    the wrong side is left alone. This does what the code does.
    """
    above = functional.relu(original - means.reconstructed)
    below = functional.relu(means.original - reconstructed)
    return above.square().mean() + below.square().mean()
