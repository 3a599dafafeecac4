"""What the two players of an adversarial game minimise, as functions of the discriminator's logits.

A logit is above zero where the discriminator takes a signal for an original. Logits of originals and of
reconstructions may differ in number; every mean is over all of them.
"""

from typing import Literal

from torch import Tensor
from torch.nn import functional

DiscriminatorLoss = Literal["hinge", "logistic"]
GeneratorLoss = Literal["non-saturating", "hinge"]


def discriminator_loss(kind: DiscriminatorLoss, original: Tensor, reconstructed: Tensor) -> Tensor:
    """What the discriminator minimises; scalar.

    hinge: ½·(mean max(0, 1 − D(x)) + mean max(0, 1 + D(x̂))), Lim & Ye 2017 (arXiv 1705.02894), halved as in VQGAN.
    logistic: ½·(mean −log σ(D(x)) + mean −log(1 − σ(D(x̂)))), Goodfellow 2014 (arXiv 1406.2661), halved likewise.
    """
    if kind == "hinge":
        return (functional.relu(1 - original).mean() + functional.relu(1 + reconstructed).mean()) / 2
    return (functional.softplus(-original).mean() + functional.softplus(reconstructed).mean()) / 2


def generator_loss(kind: GeneratorLoss, reconstructed: Tensor) -> Tensor:
    """What the tokenizer minimises; scalar.

    non-saturating: mean −log σ(D(x̂)) (arXiv 1406.2661 §3): its gradient fades where a reconstruction already passes.
    hinge: mean −D(x̂), the generator's side of the hinge game: its gradient never fades.
    """
    if kind == "non-saturating":
        return functional.softplus(-reconstructed).mean()
    return -reconstructed.mean()
