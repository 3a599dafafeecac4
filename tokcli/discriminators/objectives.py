"""What the two sides of adversarial training minimise, as functions of the discriminator's logits.

A logit is above zero where the discriminator takes a signal for an original; with least squares, above a half. Logits
of originals and of reconstructions may differ in number; every mean is over all of them.

LeCam regularisation holds the discriminator's logits near where they have been lately: on little data a discriminator
learns its training images by heart and its logits run apart. Tying each side's logits to the other side's running mean
weakens it before that. Tseng et al. 2021 (arXiv 2104.03310).
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

DiscriminatorLoss = Literal["hinge", "logistic", "least-squares"]
GeneratorLoss = Literal["non-saturating", "hinge", "least-squares"]

DECAY = 0.99
"""Of the running means of the logits, per step."""


def discriminator_loss(kind: DiscriminatorLoss, original: Tensor, reconstructed: Tensor) -> Tensor:
    """What the discriminator minimises; scalar.

    hinge: ½·(mean max(0, 1 − D(x)) + mean max(0, 1 + D(x̂))), Lim & Ye 2017 (arXiv 1705.02894), halved as in VQGAN.
    logistic: ½·(mean −log σ(D(x)) + mean −log(1 − σ(D(x̂)))), Goodfellow 2014 (arXiv 1406.2661), halved likewise.
    least-squares: ½·(mean (1 − D(x))² + mean D(x̂)²), Mao et al. 2017 (arXiv 1611.04076), eq. 9: a logit of 1 says
        original and one of 0 says reconstruction.
    """
    if kind == "least-squares":
        return ((1 - original).square().mean() + reconstructed.square().mean()) / 2
    if kind == "hinge":
        return (functional.relu(1 - original).mean() + functional.relu(1 + reconstructed).mean()) / 2
    return (functional.softplus(-original).mean() + functional.softplus(reconstructed).mean()) / 2


def generator_loss(kind: GeneratorLoss, reconstructed: Tensor) -> Tensor:
    """What the tokenizer minimises; scalar.

    non-saturating: mean −log σ(D(x̂)) (arXiv 1406.2661 §3): its gradient fades where a reconstruction already passes.
    hinge: mean −D(x̂), the generator's side of the hinge game: its gradient never fades.
    least-squares: mean (1 − D(x̂))², not halved, as GAN vocoders and codecs have it since HiFi-GAN: the further from
        passing, the steeper.
    """
    if kind == "least-squares":
        return (1 - reconstructed).square().mean()
    if kind == "non-saturating":
        return functional.softplus(-reconstructed).mean()
    return -reconstructed.mean()


class LogitMeans(nn.Module):
    """Running means of the logits: buffers, because they decide the next training step."""

    original: Tensor
    reconstructed: Tensor

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
