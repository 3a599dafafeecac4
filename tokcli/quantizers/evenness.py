"""How evenly a codebook that is built will be used: from the fewest bits over the least error to every code as often.

Many codes with the least squared error lie as dense as p^(dim/(dim + 2)), p the density of the latents (Zador 1982,
Gersho 1979): where latents are rare, a code serves fewer of them. Were each latent's error to count w times, p·w would
stand in the place of p. With w = p^(2E/dim) codes lie as dense as p^((dim + 2E)/(dim + 2)):

    E = 1         as dense as the latents: every code serves as many
    E = 0         least error with so many codes
    E = −dim/2    equally dense everywhere: least error at so many bits of entropy (Gish & Pierce 1968)

All three are limits for many codes. The distance D_k to the k-th neighbour goes as p^(−1/dim) (VP-VAE's density, eq.
4), so w = D_k^(−2E), whatever dim is, also where latents fill fewer dimensions than they have: at E = 1 an error counts
beside the distance of the neighbours.
"""

import torch
from torch import Tensor

from tokcli.errors import UsageError
from tokcli.search import build_live_index

NEIGHBOURS = 16
REFERENCES_PER_CODE = 16
"""With as many neighbours, D_k is the radius of a code's cell: the density as fine as the codebook can follow it."""

WIDEST = 16.0
"""D_k is cut at so many times its mean, and as many times below: latents that coincide have none."""


def weigh_latents(latents: Tensor, size: int, evenness: float, seed: int) -> Tensor | None:
    """How much the error of each latent counts for a codebook of `size` codes; None: all the same.

    Args:
        latents: (count, dim), those that are in use.
        size: codes.
        evenness: E; beyond 1 rare latents would get more than their share, and use be uneven again.
        seed: of the latents that are looked at as neighbours.

    Returns:
        (count,) float64, D_k^(−2E) with D_k in units of its mean.
    """
    if evenness == 0:
        return None
    generator = torch.Generator().manual_seed(seed)
    references = torch.randperm(len(latents), generator=generator)[: REFERENCES_PER_CODE * size].to(latents.device)
    rank = min(NEIGHBOURS + 1, len(references))  # a latent that is among them is its own nearest
    radius = build_live_index(latents[references]).kth_distances(latents, [rank])[:, 0].double()
    mean = float(radius.mean())
    if mean == 0:
        return None
    return (radius / mean).clamp(1 / WIDEST, WIDEST).pow(-2 * evenness)


def refuse_evenness(evenness: float, what: str) -> None:
    """Raises UsageError where `what`, codes that lie where they must, is to be used more or less evenly."""
    if evenness != 0:
        raise UsageError(f"{what}, so that nothing can be done for its evenness, got {evenness:g}; leave it out")
