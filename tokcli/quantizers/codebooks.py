"""Where codes come from: Lloyd–Max levels, k-means starts and restarts in training."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tokcli.distributed import copy_from_first_rank, gather_rows, smallest_over_ranks, world_size
from tokcli.errors import UsageError
from tokcli.quantizers.kmeans import kmeans

# Lloyd–Max: the levels of a scalar quantizer that waste least on a given distribution

ITERATIONS = 1000
TOLERANCE = 1e-9


def lloyd_max(samples: Tensor, count: int) -> Tensor:
    """The `count` levels with the least squared error on the samples (Lloyd 1982, Max 1960).

    Thresholds lie midway between levels, a level is the mean of its cell; alternate until neither moves. On sorted
    samples with running sums an iteration costs one binary search per level, whatever their number. It starts from
    uniform levels and from quantiles and keeps the better end; nothing in it is random.

    Args:
        samples: (number,) in [0, 1].
        count: of levels.

    Returns:
        The levels in increasing order, (count,) float64.
    """
    ordered = samples.double().sort().values
    fractions = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    ends = [_descend(ordered, fractions)]
    quantiles = ordered[(fractions * len(ordered)).long()]
    if torch.all(quantiles.diff() > 0):
        ends.append(_descend(ordered, quantiles))
    return min(ends, key=lambda end: end[1])[0]


def thresholds_between(levels: Tensor) -> Tensor:
    """levels: (count,) increasing -> the borders of their cells, (count − 1,)."""
    return (levels[1:] + levels[:-1]) / 2


def _descend(ordered: Tensor, levels: Tensor) -> tuple[Tensor, float]:
    """Iterate from `levels`; returns the levels and the squared error summed over samples."""
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    energy = float(ordered.square().sum())
    error = float("inf")
    for _ in range(ITERATIONS):
        borders = torch.searchsorted(ordered, thresholds_between(levels))
        borders = torch.cat([borders.new_zeros(1), borders, borders.new_tensor([len(ordered)])])
        counts, totals = borders.diff(), sums[borders].diff()
        # A cell without samples keeps its level, which lies between its own thresholds.
        levels = torch.where(counts > 0, totals / counts.clamp_min(1), levels)
        previous, error = error, energy - float((totals * levels).sum())
        if previous - error <= TOLERANCE * energy:
            break
    return levels, error


# Codes taken from a training batch: a k-means start for a codebook, new values for codes that nothing uses

START_ITERATIONS = 10
"""Passes of a start. The codes go on moving while training, so a rough fit is enough."""


@dataclass(frozen=True)
class Draw:
    """Random latents of the batch, the same on every rank.

    Attributes:
        rows: (count, dim).
        fresh: (count,) bool, False where a row repeats an earlier one because the batch has too few.
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


def start_codes(latents: Tensor, size: int) -> Tensor:
    """`size` codes, (size, dim), from a few iterations of k-means on the latents (number, dim) of all ranks.

    Waits for the device: for the first step only.

    Raises:
        UsageError: where there are fewer latents than codes.
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
    """Put a random latent of the batch in place of each dead code.

    Where there are more dead codes than latents, the rest wait: two equal codes would always stay equal.

    Args:
        codebook: (size, dim), changed in place.
        dead: (size,) bool, the same on all ranks.
        latents: (number, dim), of this rank.

    Returns:
        Which codes were replaced, (size,) bool.
    """
    draw = draw_latents(latents, len(codebook))
    rank_among_dead = (dead.cumsum(0) - 1).clamp_min(0)
    replaced = dead & draw.fresh[rank_among_dead]
    codebook.copy_(torch.where(replaced.unsqueeze(-1), draw.rows[rank_among_dead], codebook))
    return replaced
