"""VP-VAE: train without a codebook, build one of any size afterwards (arXiv 2602.17133, section 3.2).

Quantization is replaced in training by a random move about as long as the error that K codes would make, taken so
that the latents keep their distribution; the decoder learns to bear it, and any codebook that fits the latents works.

D_m(z) is the distance from z to the m-th nearest of many past latents, which a queue holds. A latent moves within the
ball that holds M of them, the share of the latents that one code would serve, so a step is about as long as that
code's quantization error. The density estimate π(z) ∝ D_k(z)^−dim then decides whether the latent may stay there.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from tokcli.contracts import Quantized
from tokcli.distributed import gather_rows
from tokcli.errors import ArgumentError
from tokcli.quantizers.base import HostMirror, in_float32, moment_penalty
from tokcli.quantizers.kmeans import kmeans
from tokcli.quantizers.nearest import BuiltCodebookQuantizer
from tokcli.schema import Codes, Count, NotNegative, Positive, PositiveShare
from tokcli.search import CodeIndex, build_live_index

PROVISIONAL_SAMPLES_PER_CODE = 16
PROVISIONAL_PASSES = 20

SMALLEST = 1e-20
"""Distances are kept above it: where latents coincide the density estimate is infinite and its logarithm undefined."""


@dataclass(frozen=True)
class Surroundings:
    """How far a latent's neighbours are.

    Attributes:
        density_radius: D_k, (count,).
        cell_radius: D_M, (count,).
    """

    density_radius: Tensor
    cell_radius: Tensor


@dataclass(frozen=True)
class Perturbed:
    """What a step made of the latents.

    Attributes:
        latents: (count, dim), moved or not.
        accepted: share of the proposals that were taken, scalar.
        displacement: mean distance from the start, scalar, a latent that stayed counting as zero.
        proposal: (count, dim), where the last step would have moved each, taken or not.
    """

    latents: Tensor
    accepted: Tensor
    displacement: Tensor
    proposal: Tensor


Neighbourhood = Callable[[Tensor], Surroundings]


class VectorPerturbation(BuiltCodebookQuantizer):
    """Perturbs latents in training; with a built codebook, the token of a latent is its nearest code.

    The first steps: the queue begins full of draws from N(0, I), the distribution that the normaliser pulls towards,
    and they count as neighbours until latents have taken their places. So a latent that starts out far from N(0, I),
    or bunched up within it, feels steps of the size that fits the prior. `queue_filled` in the stats tells how far.

    Args:
        dim: channels of a latent.
        codebook_size: number of codes that the perturbation stands for, K; other sizes can be built.
        neighbours_per_code: M, queue members per code; the queue holds K·M. None: round(16·dim), as the public code.
        density_neighbours: k, of the density estimate π ∝ D_k^−dim (eq. 4).
        eta: radius of a step as a share of D_M (eq. 3). `calibrated`: begins at 1 and is set whenever the number of
            latents that came in has reached the queue's size times 1, 2, 4, ..., so that accepted steps are on average
            as long as the error of a codebook of K codes on the queue's own latents; rejected ones are not counted.
        queue_fraction: share of a batch's latents, drawn at random, that enters the queue (at least one).
        fill_fraction: the same until the queue has no draws from N(0, I) any more; None: queue_fraction.
        mean_weight: of the normaliser's mean (λ1, eq. 11).
        variance_weight: of the normaliser's variance (λ2, eq. 11); both weights 0 is the paper's ablation.
        accept: False takes every proposal, the paper's other ablation.
        transitions: Metropolis–Hastings steps for each latent and batch; the paper has 1.
    """

    training_only: ClassVar[frozenset[str]] = frozenset({"queue.latents", "queue.entered", "eta_used"})

    usual_cvu: ClassVar[float] = 0.5
    unit_latents: ClassVar[bool] = True
    eta_used: Tensor

    def __init__(
        self,
        dim: Count,
        codebook_size: Codes,
        neighbours_per_code: Count | None = None,
        density_neighbours: Count = 8,
        eta: Positive | Literal["calibrated"] = 1.0,
        queue_fraction: PositiveShare = 0.01,
        fill_fraction: PositiveShare | None = None,
        mean_weight: NotNegative = 0.1,
        variance_weight: NotNegative = 0.07,
        accept: bool = True,
        transitions: Count = 1,
    ) -> None:
        neighbours = round(16 * dim) if neighbours_per_code is None else neighbours_per_code
        fill_fraction = queue_fraction if fill_fraction is None else fill_fraction
        if density_neighbours > neighbours:
            raise ArgumentError(
                f"density_neighbours must be at most neighbours_per_code, got {density_neighbours} and {neighbours}"
            )
        super().__init__(dim, codebook_size)
        self.neighbours_per_code = neighbours
        self.density_neighbours = density_neighbours
        self.calibrates = eta == "calibrated"
        self.queue_fraction = queue_fraction
        self.fill_fraction = fill_fraction
        self.mean_weight = mean_weight
        self.variance_weight = variance_weight
        self.accept = accept
        self.transitions = transitions
        self.queue = LatentQueue(codebook_size * neighbours, dim)
        self.register_buffer("eta_used", torch.tensor(1.0 if self.calibrates else float(eta)))

    @in_float32
    def forward(self, latents: Tensor) -> Quantized:
        """latents: (batch, *positions, dim) -> in training, perturbed and without tokens; every rank must take part.

        The perturbation carries no gradient, the encoder gets the decoder's as it is. In eval mode: the nearest codes
        and their tokens, or the latents themselves while there is no codebook.
        """
        if not self.training:
            return self.nearest_codes(latents)
        rows = latents.detach().flatten(0, -2)
        moved = self._perturb(rows)
        self._enter_queue(rows)
        move = (moved.latents - rows).view_as(latents)
        loss = moment_penalty(latents, 1.0, self.mean_weight, self.variance_weight)
        stats = {
            "accepted": moved.accepted,
            "displacement": moved.displacement,
            "eta": self.eta_used.clone(),
            "queue_filled": (self.queue.entered / self.queue.size).clamp_max(1.0),
        }
        # A code is where a step leads, be it taken or not: one that was not would leave a next stage nothing at all.
        codes = moved.proposal.view_as(latents)
        return Quantized(latents + move, tokens=None, loss=loss, stats=stats, codes=codes)

    def make_next_stage(self) -> "VectorPerturbation":
        """Its like without a normaliser: what is left has the variance that it has."""
        return VectorPerturbation(**{**self.arguments, "mean_weight": 0.0, "variance_weight": 0.0})

    @contextmanager
    def provisional_codebook(self) -> Iterator[None]:
        """Tokens for the length of an evaluation, by a quick k-means of the queue; leaves no trace.

        Until twice as many latents as codes have come in, the draws that the queue began with take part.
        """
        filled = self.queue.filled()
        latents = filled if len(filled) >= 2 * self.nominal_size else self.queue.latents
        sample = latents[:: max(1, len(latents) // (PROVISIONAL_SAMPLES_PER_CODE * self.nominal_size))]
        self.built.use_provisional(kmeans(sample, self.nominal_size, max_iterations=PROVISIONAL_PASSES).centres)
        try:
            yield
        finally:
            self.built.use_provisional(None)

    def _surroundings(self, points: Tensor) -> Surroundings:
        ranks = (self.density_neighbours, self.neighbours_per_code)
        return Surroundings(*self.queue.kth_distances(points, ranks).to(points.device).unbind(1))

    @torch.no_grad()
    def _perturb(self, rows: Tensor) -> Perturbed:
        return perturb(rows, self._surroundings, self.eta_used, accept=self.accept, transitions=self.transitions)

    @torch.no_grad()
    def _enter_queue(self, rows: Tensor) -> None:
        """Let a random share of the latents (count, dim) of every rank into the queue, the same on all ranks."""
        before = self.queue.count()
        fraction = self.fill_fraction if before < self.queue.size else self.queue_fraction
        share = max(1, round(fraction * len(rows)))
        chosen = torch.randperm(len(rows), device=rows.device)[:share]
        self.queue.push(gather_rows(rows[chosen]))
        if self.calibrates and _doublings(self.queue.count(), self.queue.size) > _doublings(before, self.queue.size):
            eta = calibrate_eta(self.queue.latents, self.neighbours_per_code, self.density_neighbours, seed=0)
            self.eta_used.fill_(eta)


def _doublings(entered: int, size: int) -> int:
    """0 until `size` latents have come in, then 1, and one more each time their number has doubled."""
    return (entered // size).bit_length()


# The step: radius and proposal (eqs. 3, 5), density and acceptance (eqs. 4, 7, 8)


def perturb(
    latents: Tensor, surroundings: Neighbourhood, eta: float | Tensor, *, accept: bool = True, transitions: int = 1
) -> Perturbed:
    """Metropolis–Hastings steps of latents (count, dim). Draws from torch's global generator.

    Args:
        latents: (count, dim).
        surroundings: D_k and D_M of any points.
        eta: radius of a step as a share of D_M.
        accept: False takes every proposal, which smears the density (the paper's ablation).
        transitions: steps for each latent.
    """
    here, start, proposal = surroundings(latents), latents, latents
    shares = []
    for _ in range(transitions):
        proposal = propose(latents, eta * here.cell_radius)
        there = surroundings(proposal) if accept or transitions > 1 else here
        if accept:
            length = (proposal - latents).norm(dim=-1)
            chance = acceptance(here, there, length, eta, latents.shape[-1])
            taken = torch.rand_like(chance) < chance
        else:
            taken = torch.ones_like(here.cell_radius, dtype=torch.bool)
        latents = torch.where(taken.unsqueeze(-1), proposal, latents)
        here = Surroundings(
            torch.where(taken, there.density_radius, here.density_radius),
            torch.where(taken, there.cell_radius, here.cell_radius),
        )
        shares.append(taken.float().mean())
    return Perturbed(latents, torch.stack(shares).mean(), (latents - start).norm(dim=-1).mean(), proposal)


def propose(latents: Tensor, radius: Tensor) -> Tensor:
    """A uniform draw from the ball of `radius` (count,) around each latent (count, dim); eq. 5.

    z + R·ρ^(1/dim)·v/‖v‖ with v ~ N(0, I) and ρ ~ U(0, 1).
    """
    dim = latents.shape[-1]
    direction = torch.randn_like(latents)
    direction = direction / direction.norm(dim=-1, keepdim=True).clamp_min(SMALLEST)
    length = radius * torch.rand_like(radius).pow(1 / dim)
    return latents + length.unsqueeze(-1) * direction


def acceptance(here: Surroundings, there: Surroundings, length: Tensor, eta: float | Tensor, dim: int) -> Tensor:
    """The probability of taking a proposal at distance `length`, (count,); eqs. 7 and 8.

    min(1, [D_k(z)·D_M(z) / (D_k(z')·D_M(z'))]^dim): the ratio of densities times that of the balls' volumes. Zero
    where z lies outside the ball around z', from which the way back could not be proposed.
    """
    log_ratio = _log(here.density_radius) + _log(here.cell_radius)
    log_ratio = log_ratio - _log(there.density_radius) - _log(there.cell_radius)
    reversible = length <= eta * there.cell_radius
    return (dim * log_ratio).clamp_max(0).exp() * reversible


def _log(distance: Tensor) -> Tensor:
    return distance.clamp_min(SMALLEST).log()


# The queue of past latents


class LatentQueue(nn.Module):
    """The latest `size` latents, first in, first out. It begins full of draws from N(0, I).

    Args:
        size: latents in the queue.
        dim: channels of a latent.

    Attributes:
        latents: (size, dim), a ring.
        entered: how many latents ever came in, int64; `entered % size` is the next row to write, and the first
            `min(entered, size)` rows hold real latents.
    """

    latents: Tensor
    entered: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("latents", torch.randn(size, dim))
        self.register_buffer("entered", torch.zeros((), dtype=torch.int64))
        self._count = HostMirror(int)
        self._index = HostMirror(build_live_index)

    @property
    def size(self) -> int:
        """Rows of the ring."""
        return len(self.latents)

    def count(self) -> int:
        """How many latents ever came in, without waiting for the device unless the state was loaded or moved."""
        return self._count.read(self.entered)

    def filled(self) -> Tensor:
        """(count, dim), the real latents in the ring, in no particular order."""
        return self.latents[: min(self.count(), self.size)]

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """rows: (count, dim) take the place of the oldest; of more than the ring holds, the last."""
        index = self._index.held(self.latents)
        first = self.count() + max(0, len(rows) - self.size)
        rows = rows[-self.size :]
        slots = (first + torch.arange(len(rows), device=rows.device)) % self.size
        self.latents[slots] = rows.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).to(self.latents.dtype)
        self.entered.fill_(first + len(rows))
        self._count.keep(first + len(rows), self.entered)
        if index is not None:
            index.overwritten(slots)
            self._index.keep(index, self.latents)

    def kth_distances(self, points: Tensor, ranks: Sequence[int]) -> Tensor:
        """points: (count, dim) -> (count, len(ranks)) float32, exact distances to the ranks-th nearest in the ring."""
        return self._index.read(self.latents).kth_distances(points, ranks)


# How large η must be for a step to be as long as the error that it stands for

HELD_OUT_SHARE = 1 / 16
MOST_HELD_OUT = 4096
SAMPLES_PER_CODE = 32
PASSES = 30
ROUNDS = 4
"""Each round divides the remaining mismatch by about ten, and ends in the noise of the held-out latents."""


def calibrate_eta(latents: Tensor, neighbours_per_code: int, density_neighbours: int, seed: int) -> float:
    """The η at which the mean length of *accepted* perturbations equals the mean error of k-means on `latents`.

    Rejected proposals do not count as zero: at η near 1 they would bring the mean displacement to about half the error,
    and a larger η is rejected more often. Steps are measured on latents held out from the neighbourhoods. Leaves the
    global generator as it was, so that the same latents and seed give the same η on every rank.

    Args:
        latents: (count, dim), for count / neighbours_per_code codes.
        neighbours_per_code: M.
        density_neighbours: k.
        seed: of k-means and of the steps.
    """
    with torch.random.fork_rng(devices=[latents.device] if latents.device.type == "cuda" else []):
        torch.manual_seed(seed)
        latents = latents[torch.randperm(len(latents), device=latents.device)]
        held_out = min(MOST_HELD_OUT, int(HELD_OUT_SHARE * len(latents)))
        test, rest = latents[:held_out], latents[held_out:]
        size = len(latents) // neighbours_per_code
        error = _measure_mean_error(test, rest[: SAMPLES_PER_CODE * size], size, seed)
        index = build_live_index(rest)
        ranks = (density_neighbours, max(density_neighbours, round(neighbours_per_code * len(rest) / len(latents))))

        def surroundings(points: Tensor) -> Surroundings:
            return Surroundings(*index.kth_distances(points, ranks).unbind(1))

        eta = 1.0
        for _ in range(ROUNDS):
            torch.manual_seed(seed)
            moved = perturb(test, surroundings, eta)
            length = float(moved.displacement / moved.accepted.clamp_min(1 / held_out))
            if length == 0 or error == 0:  # the latents coincide: there is nothing to match
                return 1.0
            eta *= error / length
    return eta


def _measure_mean_error(test: Tensor, latents: Tensor, size: int, seed: int) -> float:
    """The mean distance to the nearest of `size` centres that fit the distribution of `latents` and `test`.

    Centres fitted to a few dozen samples each are too near to those, and too far from others by as much.
    """
    index = CodeIndex(kmeans(latents, size, seed=seed, max_iterations=PASSES).centres)
    errors = [index.query(points, 1).squared_distances.sqrt().mean() for points in (test, latents)]
    return float(sum(errors) / 2)
