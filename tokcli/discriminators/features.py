"""What the inner layers of a discriminator see, and what a tokenizer loses where they see something else in its work.

A logit says that something is wrong; features say where and in which respect, and their distance has a gradient when
the game stands still. Larsen et al. 2016 (arXiv 1512.09300); Kumar et al. 2019, "MelGAN" (arXiv 1910.06711), eq. 5.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def run_layers(network: nn.Sequential, signals: Tensor) -> tuple[Tensor, list[Tensor]]:
    """signals -> what the network makes of them, and the output of each of its nonlinear layers, first to last."""
    features = []
    for layer in network:
        signals = layer(signals)
        if isinstance(layer, nn.LeakyReLU):
            features.append(signals)
    return signals, features


def feature_distance(originals: Sequence[Tensor], reconstructed: Sequence[Tensor]) -> Tensor:
    """The mean absolute difference of features, averaged over layers; scalar.

    Args:
        originals: of each layer, (batch, ...), without a history.
        reconstructed: the same of n reconstructions of each signal, (n · batch, ...), one batch after the other.
    """
    distances = []
    for original, other in zip(originals, reconstructed, strict=True):
        distances.append((other.float().unflatten(0, (-1, len(original))) - original.float()).abs().mean())
    return torch.stack(distances).mean()
