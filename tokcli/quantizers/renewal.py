"""Codes taken from a batch of latents: a k-means start for a codebook, new places for codes that nothing uses."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tokcli.distributed import copy_from_first_rank, gather_rows, smallest_over_ranks, world_size
from tokcli.errors import UsageError
from tokcli.quantizers.kmeans import kmeans

START_ITERATIONS = 10
"""Passes of a start. The codes go on moving while training, so a rough fit is enough."""


@dataclass(frozen=True)
class Draw:
    """Random latents of the batch, the same on every rank.

    rows: (count, dim). fresh: (count,) bool, False where a row repeats an earlier one because the batch has too few.
    """

    rows: Tensor
    fresh: Tensor


def draw_latents(latents: Tensor, count: int) -> Draw:
    """`count` of the latents (number, dim) of all ranks, without replacement, an equal share from each rank."""
    share = -(-count // world_size())
    slots = torch.arange(share, device=latents.device)
    order = torch.randperm(len(latents), device=latents.device)
    rows = gather_rows(latents[order[slots % len(latents)]])
    fresh = gather_rows((slots < len(latents)).to(torch.uint8)).bool()
    return Draw(rows[:count], fresh[:count])


def kmeans_codes(latents: Tensor, size: int) -> Tensor:
    """`size` codes, (size, dim), from a few iterations of k-means on the latents (number, dim) of all ranks.

    Raises UsageError where there are fewer latents than codes. Waits for the device: for the first step only.
    """
    latents = draw_latents(latents, smallest_over_ranks(len(latents), latents.device) * world_size()).rows
    if len(latents) < size:
        raise UsageError(
            f"a k-means start for {size} codes needs as many latents in the first batch, got {len(latents)};"
            " enlarge the batch or the crop, or set kmeans_start: false"
        )
    seed = int(torch.randint(2**31, ()))
    return copy_from_first_rank(kmeans(latents, size, seed=seed, max_iterations=START_ITERATIONS).centres)


def replace_codes(codebook: Tensor, dead: Tensor, latents: Tensor) -> Tensor:
    """Put a random latent of the batch in place of each dead code; returns which were replaced, (size,) bool.

    codebook: (size, dim), changed in place. dead: (size,) bool, the same on all ranks. Where there are more dead
    codes than latents, the rest wait: twins would never part.
    """
    draw = draw_latents(latents, len(codebook))
    rank_among_dead = (dead.cumsum(0) - 1).clamp_min(0)
    replaced = dead & draw.fresh[rank_among_dead]
    codebook.copy_(torch.where(replaced.unsqueeze(-1), draw.rows[rank_among_dead], codebook))
    return replaced
