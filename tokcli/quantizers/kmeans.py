"""k-means for codebooks of thousands of codes: a spread start, exact Lloyd steps, and codes moved where they pay.

Plain Lloyd keeps the number of codes that the start gave each region, and with thousands of codes that start is most
of the final error. So codes are *relocated* between the first Lloyd steps: a code whose removal costs least goes into
the cell where a second code gains most, for as long as the gain outweighs the cost.
The start draws codes with probability proportional to the squared distance from those drawn before (k-means++,
Arthur & Vassilvitskii 2007), a growing handful at a time (as k-means||, Bahmani et al. 2012), on a part of the data.
Samples may weigh more or less than one: every cost is then multiplied by the weight, and centres are weighted means.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tokcli.progress import SILENT, Reporter
from tokcli.search import CodeIndex

START_SAMPLES_PER_CODE = 10
START_GROWTH = 0.25
"""Codes drawn at once, as a share of those there are: 40 rounds for 16384 codes."""

RELOCATIONS = 20
RELOCATED_SHARE = 0.2
"""Codes looked at in each relocation; most of them stay."""

PATIENCE = 2.0
"""A move is made where cost < PATIENCE·gain: both are taken before the neighbouring codes have adapted, and the gain
grows by that. Against moves that pay at once (1.0), 0–1 % less error on mixtures and on heavy tails."""


@dataclass(frozen=True)
class KMeansResult:
    """centres: (size, dim) float32. counts: (size,) int64, samples nearest to each centre.

    mse: mean squared distance of a sample to its centre, summed over dimensions. iterations: passes over the samples.
    """

    centres: Tensor
    counts: Tensor
    mse: float
    iterations: int


@dataclass(frozen=True)
class _Assignment:
    tokens: Tensor
    costs: Tensor
    second_costs: Tensor | None = None

    def weighed(self, weights: Tensor) -> "_Assignment":
        """The same with every cost multiplied by its sample's weight, (count,)."""
        second = None if self.second_costs is None else self.second_costs * weights
        return _Assignment(self.tokens, self.costs * weights, second)


@torch.no_grad()
def kmeans(
    latents: Tensor,
    size: int,
    *,
    weights: Tensor | None = None,
    seed: int = 0,
    max_iterations: int = 200,
    tolerance: float = 5e-5,
    reporter: Reporter = SILENT,
) -> KMeansResult:
    """Fit `size` centres to latents (count, dim), on the device where they are.

    weights: (count,), above zero, how much each latent's error counts; None: all the same. The result's counts and mse
    are of latents, whatever they weigh.

    Stops when a pass improves the error by less than `tolerance` of it, or after `max_iterations` passes. The same
    seed gives the same centres on a CPU whatever the number of threads.
    Raises ValueError where there are fewer latents than centres, or where some are not finite.
    """
    if not 1 <= size <= len(latents):
        raise ValueError(f"k-means of {len(latents)} latents cannot give {size} centres; expected 1 to {len(latents)}")
    if not bool(latents.isfinite().all()):
        raise ValueError("k-means got latents that are not finite; the model that made them has diverged")
    home = latents.device
    latents = latents.detach().float()
    if home.type == "mps":  # float64 costs and int64 sums do not exist there
        latents = latents.cpu()
    weights = torch.ones(len(latents)) if weights is None else weights.detach()
    weights = weights.to(latents.device, torch.float64)
    generator = torch.Generator(latents.device).manual_seed(seed)
    with reporter.task(f"k-means, {size} codes", max_iterations, "passes") as task:
        centres = _spread_start(latents, weights, size, generator)
        order = _in_order_of_cells(latents, centres)
        latents, weights = latents[order], weights[order]
        sums, whole = _ExactSums(latents, weights), float(weights.sum())
        iterations, previous = 0, math.inf
        moving = size > 1
        while True:
            relocate = moving and iterations % 2 == 1
            found = _assign(latents, centres, with_second=relocate)
            assignment = found.weighed(weights)
            error = float(assignment.costs.sum()) / whole
            iterations += 1
            task.advance(1, mse=error)
            if iterations >= max_iterations or (not moving and previous - error <= tolerance * error):
                break
            previous = error
            means = sums.means(assignment.tokens, centres)
            moved = _relocate(means, latents, weights, assignment, generator) if relocate else 0
            moving = moving and not (relocate and moved == 0) and iterations < 2 * RELOCATIONS
            centres = means
    counts = torch.bincount(found.tokens, minlength=size)
    return KMeansResult(centres.to(home), counts.to(home), float(found.costs.mean()), iterations)


def _assign(latents: Tensor, centres: Tensor, with_second: bool = False) -> _Assignment:
    found = CodeIndex(centres).query(latents, 2 if with_second else 1)
    costs = found.squared_distances
    return _Assignment(found.tokens[:, 0], costs[:, 0], costs[:, 1] if with_second else None)


def _spread_start(latents: Tensor, weights: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """(count, dim) -> (size, dim) latents, spread out by weighed squared distance, of at most 10·size looked at."""
    order = torch.randperm(len(latents), generator=generator, device=latents.device)
    order = order[: START_SAMPLES_PER_CODE * size]
    looked_at, weights = latents[order], weights[order]
    centres = new = looked_at[:1]
    costs = torch.full((len(looked_at),), math.inf, device=latents.device, dtype=torch.float64)
    while len(centres) < size:
        costs = torch.minimum(costs, _assign(looked_at, new).costs)
        draw = min(size - len(centres), math.ceil(START_GROWTH * len(centres)))
        new = looked_at[_draw_arrival_times(costs * weights, generator).topk(draw, largest=False).indices]
        centres = torch.cat([centres, new])
    return centres


def _draw_arrival_times(rates: Tensor, generator: torch.Generator) -> Tensor:
    """Exponential times with these rates: the first k arrivals are a draw of k without replacement by weight."""
    uniform = torch.rand(rates.shape, generator=generator, device=rates.device, dtype=rates.dtype)
    return -torch.log1p(-uniform) / rates.clamp_min(1e-300)


def _in_order_of_cells(latents: Tensor, centres: Tensor) -> Tensor:
    """(count,) indices of the samples by cell: neighbours in memory then take the same way through the tree."""
    return _assign(latents, centres).tokens.argsort(stable=True)


class _ExactSums:
    """Weighted means of the samples in each cell by fixed-point int64 sums: exact to 2⁻⁴⁰ of the range, in any order.

    Floating-point sums on a GPU depend on the order in which threads arrive, and the centres would with them.
    """

    def __init__(self, latents: Tensor, weights: Tensor) -> None:
        products = latents.double() * weights.unsqueeze(1)
        self._scale, self._weight_scale = _find_scale(products), _find_scale(weights)
        self._products = (products * self._scale).round_().long()
        self._weights = (weights * self._weight_scale).round_().long()

    def means(self, tokens: Tensor, centres: Tensor) -> Tensor:
        """tokens: (count,) -> (size, dim); an empty cell keeps its centre."""
        sums = torch.zeros(centres.shape, dtype=torch.int64, device=tokens.device).index_add_(0, tokens, self._products)
        weights = sums.new_zeros(len(centres)).index_add_(0, tokens, self._weights).unsqueeze(1)
        means = (sums.double() / self._scale) / (weights.clamp_min(1).double() / self._weight_scale)
        return torch.where(weights > 0, means.float(), centres)


def _find_scale(values: Tensor) -> float:
    """A power of two by which values (count, ...) can be multiplied so that sums of all of them fit into int64."""
    largest = max(float(values.abs().max()), 1e-30)
    return 2.0 ** (62 - math.ceil(math.log2(len(values) + 1)) - math.ceil(math.log2(largest)))


def _relocate(
    centres: Tensor, latents: Tensor, weights: Tensor, assignment: _Assignment, generator: torch.Generator
) -> int:
    """Move, in place, the centres that are missed least to where another gains most; how many moved.

    The costs of the assignment are weighed. Removing a centre costs what its samples pay to their second nearest.
    Adding one at a sample drawn by cost gains what the samples of that cell save.
    """
    size, tokens, costs, second_costs = len(centres), assignment.tokens, assignment.costs, assignment.second_costs
    assert second_costs is not None
    considered = max(1, int(RELOCATED_SHARE * size))
    loss = torch.bincount(tokens, second_costs - costs, minlength=size)
    members = torch.bincount(tokens, costs, minlength=size).topk(considered).indices
    chosen = _one_of_each_cell(tokens, _draw_arrival_times(costs, generator), size)
    saved = (costs - (latents - latents[chosen[tokens]]).double().square().sum(1) * weights).clamp_min_(0)
    gain = torch.bincount(tokens, saved, minlength=size)[members]
    order = gain.argsort(descending=True)
    members, gain = members[order], gain[order]
    loss[members] = math.inf
    cheapest = loss.topk(considered, largest=False)
    pays = cheapest.values < PATIENCE * gain
    centres[cheapest.indices[pays]] = latents[chosen[members[pays]]]
    return int(pays.sum())


def _one_of_each_cell(tokens: Tensor, keys: Tensor, size: int) -> Tensor:
    """The sample with the smallest key in each cell: (size,) indices; 0 where a cell is empty."""
    smallest = torch.full((size,), math.inf, dtype=keys.dtype, device=keys.device)
    smallest.scatter_reduce_(0, tokens, keys, "amin")
    winners = (keys == smallest[tokens]).nonzero().squeeze(1)
    return torch.zeros(size, dtype=torch.int64, device=tokens.device).scatter_(0, tokens[winners], winners)
