"""Finite scalar perturbation: train with noise as large as the rounding error, round when encoding.

An activation maps each dimension to the unit interval, where a normaliser and the activation's law make it nearly
uniform; there, half of the elements are rounded to the centre of their level and the others moved by uniform noise as
wide as a level, so the decoder learns the whole interval and not a handful of points (arXiv 2602.17133, section 3.3).
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from tokcli.contracts import BuildsCodebook, CodebookReport, Quantized
from tokcli.errors import UsageError
from tokcli.progress import SILENT, Reporter
from tokcli.quantizers.activations import ACTIVATIONS, ActivationName
from tokcli.quantizers.gradients import straight_through
from tokcli.quantizers.grid import ScalarGrid
from tokcli.quantizers.lloyd_max import lloyd_max, thresholds_between
from tokcli.quantizers.moments import moment_penalty
from tokcli.quantizers.precision import in_float32
from tokcli.quantizers.usage import perplexity_of, usage_stats


class FiniteScalarPerturbation(ScalarGrid, BuildsCodebook):
    """One token per position, counted over the levels of all dimensions.

    levels: levels per dimension; the latents have len(levels) channels and the codebook their product of codes.
    activation: g, the law whose distribution function maps a latent to the unit interval.
    quantize_rate: chance that an element in training is rounded; the others are perturbed.
    eta: width of the perturbation in levels (η in eq. 16; 1 = as wide as the cell).
    mean_weight, variance_weight: of the moment normaliser (λ1, λ2). It asks the latents for the variance of the
        activation's law. The Cauchy law has none: there the moments are those of what the decoder sees, (u − ½)·√12,
        which has variance 1 where u is uniform.
    decode: what the decoder sees of u in [0, 1]: `centered`, (u − ½)·√12, or `inverse`, g⁻¹(u).

    Raises ValueError for an argument out of its range.
    """

    def __init__(
        self,
        levels: list[int],
        activation: ActivationName = "tanh",
        quantize_rate: float = 0.5,
        eta: float = 1.0,
        mean_weight: float = 0.1,
        variance_weight: float = 0.07,
        decode: Literal["centered", "inverse"] = "centered",
    ) -> None:
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(get_args(ActivationName))}, got {activation!r}")
        if decode not in ("centered", "inverse"):
            raise ValueError(f"decode must be 'centered' or 'inverse', got {decode!r}")
        if not 0 <= quantize_rate <= 1:
            raise ValueError(f"quantize_rate is a probability in [0, 1], got {quantize_rate}")
        if min(eta, mean_weight, variance_weight) < 0:
            raise ValueError("eta, mean_weight and variance_weight must not be negative")
        super().__init__(levels, [(torch.arange(count) + 0.5) / count for count in levels])
        self.activation = ACTIVATIONS[activation]
        self.quantize_rate = quantize_rate
        self.eta = eta
        self.mean_weight = mean_weight
        self.variance_weight = variance_weight
        self.decode = decode

    @property
    def codebook_ready(self) -> bool:
        """Always: levels are equally likely until they are built from data."""
        return True

    @property
    def codebooks(self) -> tuple[int, ...]:
        """The only size it has: the product of its levels."""
        return (self.codebook_size,)

    @in_float32
    def forward(self, latents: Tensor) -> Quantized:
        """latents: (..., dim), before the activation -> what the decoder sees, tokens (..., 1), the normaliser."""
        unit = self.activation.to_unit(latents)
        tokens = self._tokens(self._digits(unit))
        moved = straight_through(unit, super().dequantize(tokens))
        if self.training and self.quantize_rate < 1:
            moved = torch.where(torch.rand_like(unit) < self.quantize_rate, moved, self._perturb(unit))
        decoded = self._decode(moved)
        if self.decode == "inverse":
            decoded = straight_through(latents, decoded)
        penalty = self._normalise(latents, unit)
        stats = {"moment_penalty": penalty.detach()} | usage_stats(tokens, self.codebook_size)
        return Quantized(decoded, tokens, loss=penalty, stats=stats)

    @in_float32
    def quantize(self, latents: Tensor) -> Tensor:
        """latents: (..., dim), before the activation -> tokens: (..., 1)."""
        return self._tokens(self._digits(self.activation.to_unit(latents)))

    def dequantize(self, tokens: Tensor) -> Tensor:
        """tokens: (..., 1) int64 -> latents: (..., dim) float32, as the decoder sees them."""
        return self._decode(super().dequantize(tokens))

    def build_codebook(
        self, latents: Tensor, size: int | None = None, *, seed: int = 0, reporter: Reporter = SILENT
    ) -> CodebookReport:
        """Replace the uniform levels by Lloyd–Max levels for the distribution of u in each dimension.

        latents: (count, dim), before the activation. size: None or the product of the levels. The fit is
        deterministic; the seed changes nothing.

        Raises UsageError for another size, or where there are fewer latents than levels in a dimension.
        """
        self.use_codebook(self.codebook_size if size is None else size)
        if len(latents) < max(self.counts):
            raise UsageError(f"levels {list(self.counts)} need {max(self.counts)} latents to fit, got {len(latents)}")
        unit = self.activation.to_unit(latents.float())
        with reporter.task("levels", total=self.dim, unit="dimension") as task:
            fitted = []
            for column, count in zip(unit.cpu().unbind(dim=-1), self.counts, strict=True):
                fitted.append(lloyd_max(column, count))
                task.advance()
        self.values.copy_(torch.cat(fitted))
        tokens = self._tokens(self._digits(unit))
        error = (self._decode(unit) - self.dequantize(tokens)).square().sum(dim=-1).mean()
        return CodebookReport(self.codebook_size, float(error), perplexity_of(tokens), len(latents))

    def use_codebook(self, size: int) -> None:
        """There is one codebook. Raises UsageError for any size but its own."""
        if size != self.codebook_size:
            raise UsageError(
                f"levels {list(self.counts)} make {self.codebook_size} codes and no other number, got size {size};"
                " leave the size out, or train with other levels"
            )

    def _digits(self, unit: Tensor) -> Tensor:
        columns = unit.movedim(-1, 0).contiguous()
        tables = self.values.split(self.counts)
        cells = [torch.bucketize(columns[i], thresholds_between(table), right=True) for i, table in enumerate(tables)]
        return torch.stack(cells, dim=-1)

    def _perturb(self, unit: Tensor) -> Tensor:
        """Uniform noise of η/L, kept in the dimensions where it stays inside [0, 1] (eqs. 16, 17)."""
        proposal = unit + self.eta / self.levels * (torch.rand_like(unit) - 0.5)
        return torch.where((proposal >= 0) & (proposal <= 1), proposal, unit)

    def _decode(self, unit: Tensor) -> Tensor:
        if self.decode == "inverse":
            return self.activation.from_unit(unit)
        return (unit - 0.5) * math.sqrt(12)

    def _normalise(self, latents: Tensor, unit: Tensor) -> Tensor:
        weights = (self.mean_weight, self.variance_weight)
        if self.activation.variance is None:
            return moment_penalty((unit - 0.5) * math.sqrt(12), 1.0, *weights)
        return moment_penalty(latents, self.activation.variance, *weights)
