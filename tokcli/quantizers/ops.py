"""Small functions that several quantizers use: gradients through a step, mixed-radix tokens, Gaussians, code use."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tokcli.errors import ArgumentError

# Gradients: a look-up has none, so the decoder's is passed on by a rule.

GradientName = Literal["straight-through", "rotation", "noise"]


def straight_through(latents: Tensor, quantized: Tensor) -> Tensor:
    """The value of `quantized`, bit for bit, with the gradient of `latents`."""
    return quantized.detach() + (latents - latents.detach())


def rotate(latents: Tensor, quantized: Tensor) -> Tensor:
    """The value of `quantized` with the gradient of the rotation and scaling that carries `latents` onto it.

    Both (..., dim). The gradient at a latent z with code q is λRᵀ times the decoder's, λ = ‖q‖/‖z‖ and R the rotation
    in the plane of z and q: the angle between gradient and code is kept (arXiv 2410.06424, section 4).
    """
    start = F.normalize(latents.detach(), dim=-1)
    end = F.normalize(quantized.detach(), dim=-1)
    middle = F.normalize(start + end, dim=-1)
    reflected = latents - 2 * (latents * middle).sum(-1, keepdim=True) * middle
    rotated = reflected + 2 * (latents * start).sum(-1, keepdim=True) * end
    scale = quantized.detach().norm(dim=-1, keepdim=True) / latents.detach().norm(dim=-1, keepdim=True).clamp_min(1e-6)
    return straight_through(scale * rotated, quantized)


def substitute_noise(latents: Tensor, quantized: Tensor) -> Tensor:
    """z + ‖z_q − z‖·v/‖v‖ with v ~ N(0, I): as far off as the code, in any direction (NSVQ, Vali & Bäckström 2022).

    Both (..., dim). The move carries no gradient, so the decoder's reaches the latents as it is.
    """
    start = latents.detach()
    length = (quantized.detach() - start).norm(dim=-1, keepdim=True)
    return latents + length * F.normalize(torch.randn_like(start), dim=-1)


GRADIENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "straight-through": straight_through,
    "rotation": rotate,
    "noise": substitute_noise,
}

# Mixed-radix numbers: one token for a position's digits, one digit for each dimension. Dimension i counts in base
# levels[i], the first is the least significant. All in int64: half-precision indices silently merge codes.

MOST_TOKENS = 2**63 - 1


def count_codes(levels: Sequence[int]) -> int:
    """How many numbers the levels can write: their product.

    Raises:
        ArgumentError: where the product does not fit into int64.
    """
    size = math.prod(levels)
    if size > MOST_TOKENS:
        raise ArgumentError(
            f"levels {list(levels)} make {size} codes, more than a 64-bit token can count; use fewer dimensions"
        )
    return size


def place_values(levels: Tensor) -> Tensor:
    """levels: (dim,) int64 -> what a step of each digit adds to the token, (dim,) int64."""
    return torch.cat([torch.ones_like(levels[:1]), levels[:-1].cumprod(dim=0)])


def digits_to_tokens(digits: Tensor, places: Tensor) -> Tensor:
    """digits: (..., dim) int64 in [0, levels); places: of `place_values`, (dim,) -> tokens: (...) int64."""
    return (digits * places).sum(dim=-1)


def tokens_to_digits(tokens: Tensor, levels: Tensor, places: Tensor) -> Tensor:
    """tokens: (...) int64 in [0, product of levels); levels, places: (dim,) int64 -> digits: (..., dim) int64."""
    return torch.div(tokens.unsqueeze(-1), places, rounding_mode="floor") % levels


# Diagonal Gaussians predicted by an encoder: half of the channels are means, half log-variances.

LOWEST_LOG_VARIANCE, HIGHEST_LOG_VARIANCE = -30.0, 20.0
"""Log-variances are clamped to this range, as every public latent VAE does."""


@dataclass(frozen=True)
class Gaussian:
    """One Gaussian for each position and channel.

    Attributes:
        mean: (batch, *positions, dim).
        log_variance: (batch, *positions, dim).
    """

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def of(cls, latents: Tensor) -> "Gaussian":
        """latents: (batch, *positions, 2·dim), means first -> the Gaussians they describe."""
        mean, log_variance = latents.chunk(2, dim=-1)
        return cls(mean, log_variance.clamp(LOWEST_LOG_VARIANCE, HIGHEST_LOG_VARIANCE))

    @property
    def std(self) -> Tensor:
        """The standard deviation, (batch, *positions, dim)."""
        return torch.exp(self.log_variance / 2)

    def sample(self) -> Tensor:
        """A draw, differentiable in mean and deviation."""
        return self.mean + self.std * torch.randn_like(self.mean)

    def divergence(self) -> Tensor:
        """Kullback–Leibler divergence from N(0, I): summed over positions and channels, averaged over the batch."""
        terms = self.mean.square() + self.log_variance.exp() - 1 - self.log_variance
        return terms.sum() / 2 / len(self.mean)


SMALLEST_EIGENVALUE = 1e-6
"""Where a codebook has no extent the square root's slope would be infinite."""


def distance_between_gaussians(points: Tensor, others: Tensor) -> Tensor:
    """The squared 2-Wasserstein distance of two Gaussians with the moments of two sets; differentiable in the first.

    ‖m − m'‖² + Tr Σ + Tr Σ' − 2 Tr (Σ'^½ Σ Σ'^½)^½, in float64; eigenvalues as in `distance_to_standard_normal`, which
    is the case of Σ' = I, m' = 0. A CUDA device is waited for.

    Args:
        points: (count, dim).
        others: (number, dim), taken as they are: no gradient reaches them.

    Returns:
        A scalar in the points' dtype.
    """
    wide, target = points.double(), others.detach().double()
    covariance, wanted = (_covariance(each) for each in (wide, target))
    values, vectors = torch.linalg.eigh(wanted)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    roots = torch.linalg.eigvalsh(root @ covariance @ root).clamp_min(SMALLEST_EIGENVALUE).sqrt()
    between_means = (wide.mean(dim=0) - target.mean(dim=0)).square().sum()
    distance = between_means + covariance.trace() + wanted.trace() - 2 * roots.sum()
    return distance.to(points.dtype)


def distance_to_standard_normal(points: Tensor) -> Tensor:
    """The squared 2-Wasserstein distance of a Gaussian with the points' moments from N(0, I); differentiable.

    ‖m‖² + Tr Σ − 2 Tr Σ^½ + dim. The trace of the root is the sum of the roots of Σ's eigenvalues, in float64; its
    gradient ½ Σ^-½ stays finite and needs no gaps between the eigenvalues. A CUDA device is waited for.

    Args:
        points: (count, dim).

    Returns:
        A scalar in the points' dtype.
    """
    wide = points.double()
    mean = wide.mean(dim=0)
    covariance = _covariance(wide)
    roots = torch.linalg.eigvalsh(covariance).clamp_min(SMALLEST_EIGENVALUE).sqrt()
    distance = mean.square().sum() + covariance.trace() - 2 * roots.sum() + len(mean)
    return distance.to(points.dtype)


def _covariance(points: Tensor) -> Tensor:
    """(dim, dim) of points (count, dim). `torch.cov` gives the same and waits for the device, to ask for the count."""
    centred = (points - points.mean(dim=0)).T
    return centred @ centred.T / (len(points) - 1)


# How evenly a batch of tokens uses the codes: a cheap figure to watch while training.

MOST_COUNTED_CODES = 2**20
"""Larger codebooks are not counted while training: a batch says nothing about them."""


def tally(tokens: Tensor, codebook_size: int) -> Tensor:
    """tokens: any shape, int64 in [0, codebook_size) -> how often each code occurs, (codebook_size,) float32.

    Not `bincount`, which waits for a CUDA device.
    """
    tokens = tokens.flatten()
    counts = torch.zeros(codebook_size, device=tokens.device)
    return counts.scatter_add_(0, tokens, torch.ones_like(tokens, dtype=counts.dtype))


def perplexity(counts: Tensor) -> Tensor:
    """exp(entropy) of the counts (codebook_size,): 1 where one code takes all, codebook_size where all are equal."""
    shares = counts / counts.sum()
    # Not `torch.special.entr`, which takes three times as long on a CPU; a code that never occurs adds 0·log(1e-30).
    return (shares * shares.clamp_min(1e-30).log()).sum().neg().exp()


def perplexity_of(tokens: Tensor) -> float:
    """The perplexity of tokens (any shape) from however large a codebook. Waits for the device: not for training."""
    return float(perplexity(tokens.unique(return_counts=True)[1].double()))


def usage_stats(tokens: Tensor, codebook_size: int) -> dict[str, Tensor]:
    """The batch's perplexity under its name, or nothing where the codebook is too large to count.

    tokens: (..., groups). Where there are several groups, the mean of theirs, and each by its number.
    """
    if codebook_size > MOST_COUNTED_CODES:
        return {}
    groups = [perplexity(tally(group, codebook_size)) for group in tokens.unbind(-1)]
    if len(groups) == 1:
        return {"perplexity": groups[0]}
    each = {f"perplexity_{number}": figure for number, figure in enumerate(groups, 1)}
    return {"perplexity": torch.stack(groups).mean(), **each}
