"""VP-VAE: train without a codebook, build one of any size afterwards (arXiv 2602.17133, section 3.2).

Quantization is replaced in training by a random move about as long as the error that K codes would make, taken so
that the latents keep their distribution; the decoder learns to bear it, and any codebook that fits the latents works.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tokcli.contracts import BuildsCodebook, CodebookReport, Quantized
from tokcli.distributed import gather_rows
from tokcli.errors import UsageError
from tokcli.progress import SILENT, Reporter
from tokcli.quantizers.built_codebooks import BuiltCodebooks
from tokcli.quantizers.calibration import calibrated_eta
from tokcli.quantizers.kmeans import kmeans
from tokcli.quantizers.latent_queue import LatentQueue
from tokcli.quantizers.metropolis import Perturbed, Surroundings, perturb
from tokcli.quantizers.moments import moment_penalty
from tokcli.quantizers.precision import in_float32
from tokcli.quantizers.usage import perplexity

PROVISIONAL_SAMPLES_PER_CODE = 16
PROVISIONAL_PASSES = 20


class VectorPerturbation(BuildsCodebook):
    """Perturbs latents in training; with a built codebook, the token of a latent is its nearest code.

    The first steps: the queue begins full of draws from N(0, I), the distribution that the normaliser pulls towards,
    and they count as neighbours until latents have taken their places. So a latent that starts out far from N(0, I),
    or bunched up within it, feels steps of the size that fits the prior. `queue_filled` in the stats tells how far.

    dim: channels of a latent. codebook_size: K, that the perturbation stands for; other sizes can be built.
    neighbours_per_code: M, queue members per code; the queue holds K·M. None: round(16·dim), as the public code.
    density_neighbours: k, of the density estimate π ∝ D_k^−dim (eq. 4).
    eta: radius of a step as a share of D_M (eq. 3). `calibrated`: begins at 1 and is set whenever the number of
        latents that came in has reached the queue's size times 1, 2, 4, ..., so that accepted steps are on average
        as long as the error of a codebook of K codes on the queue's own latents; rejected ones are not counted.
    queue_fraction: share of a batch's latents, drawn at random, that enters the queue (at least one).
    fill_fraction: the same until the queue has no draws from N(0, I) any more; None: queue_fraction.
    mean_weight, variance_weight: of the normaliser (λ1, λ2, eq. 11); both 0 is the paper's ablation.
    accept: False takes every proposal, the paper's other ablation.
    transitions: Metropolis–Hastings steps for each latent and batch; the paper has 1.

    Raises ValueError for an argument out of its range.
    """

    training_only: ClassVar[frozenset[str]] = frozenset({"queue.latents", "queue.entered", "eta_used"})

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        neighbours_per_code: int | None = None,
        density_neighbours: int = 8,
        eta: float | Literal["calibrated"] = 1.0,
        queue_fraction: float = 0.01,
        fill_fraction: float | None = None,
        mean_weight: float = 0.1,
        variance_weight: float = 0.07,
        accept: bool = True,
        transitions: int = 1,
    ) -> None:
        neighbours = round(16 * dim) if neighbours_per_code is None else neighbours_per_code
        fill_fraction = queue_fraction if fill_fraction is None else fill_fraction
        _check_sizes(dim, codebook_size, neighbours, density_neighbours, transitions)
        _check_shares(eta, queue_fraction, fill_fraction, mean_weight, variance_weight)
        super().__init__()
        self.input_dim = self.dim = dim
        self.groups = 1
        self.nominal_size = codebook_size
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
        self.built = BuiltCodebooks(dim)
        self.register_buffer("eta_used", torch.tensor(1.0 if self.calibrates else float(eta)))

    @property
    def codebook_size(self) -> int:
        """Codes of the codebook in use; before there is one, the K that training stands for."""
        return len(self.built.codes) if self.built.ready else self.nominal_size

    @property
    def codebook_ready(self) -> bool:
        """Whether there are codes, so that there are tokens."""
        return self.built.ready

    @property
    def codebooks(self) -> tuple[int, ...]:
        """Sizes of the codebooks built, increasing."""
        return self.built.sizes

    @in_float32
    def forward(self, latents: Tensor) -> Quantized:
        """latents: (batch, *positions, dim) -> in training, perturbed and without tokens; every rank must take part.

        The perturbation carries no gradient, the encoder gets the decoder's as it is. In eval mode: the nearest codes
        and their tokens, or the latents themselves while there is no codebook.
        """
        if not self.training:
            return self._judged(latents)
        rows = latents.detach().flatten(0, -2)
        moved = self._perturb(rows)
        self._remember(rows)
        move = (moved.latents - rows).view_as(latents)
        loss = moment_penalty(latents, 1.0, self.mean_weight, self.variance_weight)
        stats = {
            "accepted": moved.accepted,
            "displacement": moved.displacement,
            "eta": self.eta_used.clone(),
            "queue_filled": (self.queue.entered / self.queue.size).clamp_max(1.0),
        }
        return Quantized(latents + move, tokens=None, loss=loss, stats=stats)

    @in_float32
    def quantize(self, latents: Tensor) -> Tensor:
        """latents: (..., dim) -> tokens: (..., 1). Raises UsageError before a codebook is built."""
        return self.built.nearest(latents.flatten(0, -2)).view(*latents.shape[:-1], 1)

    def dequantize(self, tokens: Tensor) -> Tensor:
        """tokens: (..., 1) int64 -> codes: (..., dim) float32. Raises UsageError before a codebook is built."""
        return F.embedding(tokens.squeeze(-1), self.built.codes)

    def codebook_tensors(self) -> dict[str, Tensor]:
        """The codebook in use. Raises UsageError where there is none."""
        return self.built.tensors_used("built.")

    def build_codebook(
        self, latents: Tensor, size: int | None = None, *, seed: int = 0, reporter: Reporter = SILENT
    ) -> CodebookReport:
        """Fit `size` codes (None: those that training stood for) to latents (count, dim) by k-means, and use them.

        Raises UsageError for fewer than two codes, for fewer latents than codes, or for latents that are not finite.
        """
        size = self.nominal_size if size is None else size
        if size < 2:
            raise UsageError(f"a codebook needs at least 2 codes, got --size {size}")
        if len(latents) < size:
            raise UsageError(
                f"{size} codes cannot be fitted to {len(latents)} latents; give more data, more --samples, or a smaller"
                " --size"
            )
        if not bool(latents.isfinite().all()):
            raise UsageError("some latents are not finite: the encoder has diverged; use an earlier artifact")
        result = kmeans(latents, size, seed=seed, reporter=reporter)
        self.built.add(result.centres)
        return CodebookReport(size, result.mse, float(perplexity(result.counts.double())), len(latents))

    def use_codebook(self, size: int) -> None:
        """Make the built codebook of `size` codes the one in use. Raises UsageError where there is none."""
        self.built.use(size)

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

    def _judged(self, latents: Tensor) -> Quantized:
        nothing = latents.new_zeros(())
        if not self.codebook_ready:
            return Quantized(latents, tokens=None, loss=nothing)
        tokens = self.quantize(latents)
        return Quantized(self.dequantize(tokens), tokens, loss=nothing)

    def _surroundings(self, points: Tensor) -> Surroundings:
        ranks = (self.density_neighbours, self.neighbours_per_code)
        return Surroundings(*self.queue.kth_distances(points, ranks).to(points.device).unbind(1))

    @torch.no_grad()
    def _perturb(self, rows: Tensor) -> Perturbed:
        return perturb(rows, self._surroundings, self.eta_used, accept=self.accept, transitions=self.transitions)

    @torch.no_grad()
    def _remember(self, rows: Tensor) -> None:
        """Let a random share of the latents (count, dim) of every rank into the queue, the same on all ranks."""
        before = self.queue.count()
        fraction = self.fill_fraction if before < self.queue.size else self.queue_fraction
        share = max(1, round(fraction * len(rows)))
        chosen = torch.randperm(len(rows), device=rows.device)[:share]
        self.queue.push(gather_rows(rows[chosen]))
        if self.calibrates and _doublings(self.queue.count(), self.queue.size) > _doublings(before, self.queue.size):
            eta = calibrated_eta(self.queue.latents, self.neighbours_per_code, self.density_neighbours, seed=0)
            self.eta_used.fill_(eta)


def _doublings(entered: int, size: int) -> int:
    """0 until `size` latents have come in, then 1, and one more each time their number has doubled."""
    return (entered // size).bit_length()


def _check_sizes(dim: int, codebook_size: int, neighbours: int, density_neighbours: int, transitions: int) -> None:
    if dim < 1 or codebook_size < 2:
        raise ValueError(f"dim must be at least 1 and codebook_size at least 2, got {dim} and {codebook_size}")
    if not 1 <= density_neighbours <= neighbours:
        raise ValueError(
            "density_neighbours must be at least 1 and at most neighbours_per_code,"
            f" got {density_neighbours} and {neighbours}"
        )
    if transitions < 1:
        raise ValueError(f"transitions must be at least 1, got {transitions}")


def _check_shares(
    eta: float | str, queue_fraction: float, fill_fraction: float, mean_weight: float, variance_weight: float
) -> None:
    if eta != "calibrated" and not (isinstance(eta, (int, float)) and 0 < eta < math.inf):
        raise ValueError(f"eta must be a positive number or 'calibrated', got {eta!r}")
    if not (0 < queue_fraction <= 1 and 0 < fill_fraction <= 1):
        raise ValueError(
            f"queue_fraction and fill_fraction must be above 0 and at most 1, got {queue_fraction} and {fill_fraction}"
        )
    if min(mean_weight, variance_weight) < 0:
        raise ValueError(f"mean_weight and variance_weight must not be negative, got {mean_weight}, {variance_weight}")
