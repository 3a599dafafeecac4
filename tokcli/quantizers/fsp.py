"""Finite scalar perturbation: train with noise as large as the rounding error, round when encoding.

An activation maps each dimension to the unit interval, where a normaliser and the activation's law make it nearly
uniform; there, half of the elements are rounded to the centre of their level and the others moved by uniform noise as
wide as a level, so the decoder learns the whole interval and not a handful of points (arXiv 2602.17133, section 3.3).
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tokcli.contracts import BuildsCodebook, CodebookReport, Quantized
from tokcli.errors import ArgumentError, UsageError
from tokcli.progress import SILENT, Reporter
from tokcli.quantizers.base import HostMirror, Levels, ScalarGrid, in_float32, moment_penalty
from tokcli.quantizers.codebooks import lloyd_max, thresholds_between
from tokcli.quantizers.evenness import refuse_evenness
from tokcli.quantizers.nearest import RebuiltCodebooks, fit_codes, report_fit
from tokcli.quantizers.ops import perplexity_of, straight_through
from tokcli.schema import NotNegative, Share

ActivationName = Literal["tanh", "normal", "laplace", "sigmoid", "cauchy", "uniform"]


class FiniteScalarPerturbation(ScalarGrid, BuildsCodebook):
    """One token per position, counted over the levels of all dimensions.

    Built after training, a codebook of its own size is other levels, and one of any other size is codes fitted by
    k-means to what the decoder sees, which serve inference alone.

    Args:
        levels: levels per dimension; the latents have len(levels) channels and the codebook their product of codes.
        activation: g, the law whose distribution function maps a latent to the unit interval. `uniform` is of variance
            1 and cut off at ±√3: for what is known to lie within, as the rest that another stage leaves.
        quantize_rate: chance that an element in training is rounded; the others are perturbed.
        eta: width of the perturbation in levels (η in eq. 16; 1 = as wide as the cell).
        mean_weight: of the moment normaliser's mean (λ1).
        variance_weight: of the moment normaliser's variance (λ2). It asks the latents for the variance of the
            activation's law. The Cauchy law has none: there the moments are those of what the decoder sees,
            (u − ½)·√12, which has variance 1 where u is uniform.
        decode: what the decoder sees of u in [0, 1]: `centered`, (u − ½)·√12, or `inverse`, g⁻¹(u).
    """

    unit_latents: ClassVar[bool] = True
    usual_cvu: ClassVar[float] = 0.3
    _cells: Tensor
    _last: Tensor

    def __init__(
        self,
        levels: Levels,
        activation: ActivationName = "tanh",
        quantize_rate: Share = 0.5,
        eta: NotNegative = 1.0,
        mean_weight: NotNegative = 0.1,
        variance_weight: NotNegative = 0.07,
        decode: Literal["centered", "inverse"] = "centered",
    ) -> None:
        super().__init__(levels, _divide_evenly(levels))
        self.activation = ACTIVATIONS[activation]
        self.quantize_rate = quantize_rate
        self.eta = eta
        self.mean_weight = mean_weight
        self.variance_weight = variance_weight
        self.normalised = mean_weight > 0 or variance_weight > 0
        self.decode = decode
        self.rebuilt = RebuiltCodebooks(self.dim)
        self.register_buffer("_cells", self.levels.float() * ALMOST, persistent=False)
        self.register_buffer("_last", self.levels.float() - 1, persistent=False)
        self._borders = HostMirror(functools.partial(_compute_borders, counts=self.counts))
        self._even = HostMirror(functools.partial(_are_even, counts=self.counts))
        # Known without looking, be it on a device that holds no values.
        self._even.keep(_are_even(torch.cat(_divide_evenly(levels, "cpu")), levels), self.values)

    @property
    def codebook_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Codes of the codebook in use."""
        return len(self.rebuilt.codes) if self.rebuilt.ready else self.grid_size

    @property
    def codebook_ready(self) -> bool:
        """Always: levels are equally likely until they are built from data."""
        return True

    @property
    def codebooks(self) -> tuple[int, ...]:
        """The product of its levels and the sizes built, increasing."""
        return tuple(sorted({self.grid_size, *self.rebuilt.sizes}))

    @in_float32
    def forward(self, latents: Tensor) -> Quantized:
        """latents: (..., dim), before the activation -> what the decoder sees, tokens (..., 1), the normaliser."""
        if self.rebuilt.ready and not self.training:
            tokens = self.quantize(latents)
            return Quantized(self.dequantize(tokens), tokens, loss=latents.new_zeros(()))
        unit = self.activation.to_unit(latents)
        digits = self._digits(unit)
        values = self.values_of(digits)
        moved = straight_through(unit, values)
        if self.training and self.quantize_rate < 1:
            moved = torch.where(torch.rand_like(unit) < self.quantize_rate, moved, self._perturb(unit))
        decoded = self._decode(moved)
        if self.decode == "inverse":
            decoded = straight_through(latents, decoded)
        return self._finish(latents, unit, digits, decoded, self._decode(values))

    @in_float32
    def forward_hidden(self, latents: Tensor) -> Quantized:
        """latents: (..., dim), before the activation -> codes, tokens (..., 1), the normaliser."""
        unit = self.activation.to_unit(latents if self.normalised else latents.detach())
        digits = self._digits(unit)
        codes = self._decode(self.values_of(digits))
        return self._finish(latents, unit, digits, codes, codes)

    @in_float32
    def points(self, latents: Tensor) -> Tensor:
        """latents: (..., dim), before the activation -> what the decoder would see without rounding, (..., dim)."""
        return latents if self.decode == "inverse" else self._decode(self.activation.to_unit(latents))

    def make_next_stage(self) -> "FiniteScalarPerturbation":
        """The same levels for a part of a level, in which what is left is uniform.

        Raises ArgumentError for `decode: inverse`, whose levels are not equally wide.
        """
        if self.decode == "inverse":
            raise ArgumentError("decode: inverse makes levels of unequal widths, of which no next stage can take parts")
        return FiniteScalarPerturbation(list(self.counts), "uniform", self.quantize_rate, self.eta, 0.0, 0.0)

    def scale_of_rest(self) -> Tensor:
        """By how far the farthest point lies from its level, as a uniform law's deviation: (dim,)."""
        low, high = self.values.new_tensor([[0.0], [1.0]])
        widest = []
        for levels in self.values.split(list(self.counts)):
            borders = torch.cat([low, thresholds_between(levels), high])
            widest.append(torch.maximum(levels - borders[:-1], borders[1:] - levels).max())
        # In the unit interval, times √12 in latents, over √3 from an end to a deviation.
        return 2 * torch.stack(widest)

    @in_float32
    def quantize(self, latents: Tensor) -> Tensor:
        """latents: (..., dim), before the activation -> tokens: (..., 1)."""
        if self.rebuilt.ready:
            points = self.points(latents)
            return self.rebuilt.nearest(points.flatten(0, -2)).view(*points.shape[:-1], 1)
        return self.tokens_of(self._digits(self.activation.to_unit(latents)))

    def dequantize(self, tokens: Tensor) -> Tensor:
        """tokens: (..., 1) int64 -> latents: (..., dim) float32, as the decoder sees them."""
        if self.rebuilt.ready:
            return F.embedding(tokens.squeeze(-1), self.rebuilt.codes)
        return self._decode(super().dequantize(tokens))

    def require_possible(self, size: int | None = None, evenness: float = 0.0) -> None:
        """As declared; levels are cells of the latents' distribution and have no other density."""
        super().require_possible(size, evenness)
        if size is None or size == self.grid_size:
            refuse_evenness(evenness, f"FSP's {self.grid_size} codes are the crossings of its levels")

    def build_codebook(
        self,
        latents: Tensor,
        size: int | None = None,
        *,
        evenness: float = 0.0,
        seed: int = 0,
        reporter: Reporter = SILENT,
    ) -> CodebookReport:
        """Fit codes of another size by k-means, or the levels (Lloyd–Max on u, in each dimension), and use them.

        latents: (count, dim), before the activation. size: codes; None or the product of the levels: levels, whose fit
        is deterministic.

        Raises UsageError as declared, and where there are fewer latents than levels in a dimension.
        """
        self.require_possible(size, evenness)
        if size is not None and size != self.grid_size:
            points = self.points(latents.float())
            fit = fit_codes(points, size, evenness, seed, reporter)
            self.rebuilt.add(fit.centres)
            return report_fit(fit, evenness)
        return self._fit_levels(latents, reporter)

    def codebook_tensors(self) -> dict[str, Tensor]:
        """The codebook in use: codes, or levels and what each decodes to."""
        return self.rebuilt.tensors_used("rebuilt.") if self.rebuilt.ready else super().codebook_tensors()

    def use_codebook(self, size: int) -> None:
        """Make the codebook of `size` codes the one in use. Raises UsageError where there is none."""
        if size == self.grid_size:
            self.rebuilt.use_none()
        else:
            self.rebuilt.use(size)

    def _fit_levels(self, latents: Tensor, reporter: Reporter) -> CodebookReport:
        """Replace the uniform levels by Lloyd–Max levels for the distribution of u in each dimension."""
        self.use_codebook(self.grid_size)
        if len(latents) < max(self.counts):
            raise UsageError(f"levels {list(self.counts)} need {max(self.counts)} latents to fit, got {len(latents)}")
        unit = self.activation.to_unit(latents.float())
        before = self._report(unit)
        with reporter.task("levels", total=self.dim, unit="dimension") as task:
            fitted = []
            for column, count in zip(unit.cpu().unbind(dim=-1), self.counts, strict=True):
                fitted.append(lloyd_max(column, count))
                task.advance()
        self.values.copy_(torch.cat(fitted))
        after = self._report(unit)
        reporter.note(_weigh(before, after))
        return after

    def _report(self, unit: Tensor) -> CodebookReport:
        """How well the levels fit u, (count, dim) in [0, 1], as the decoder sees it."""
        tokens = self.tokens_of(self._digits(unit))
        error = (self._decode(unit) - self.dequantize(tokens)).square().sum(dim=-1).mean()
        return CodebookReport(self.codebook_size, float(error), perplexity_of(tokens), len(unit))

    def _finish(self, latents: Tensor, unit: Tensor, digits: Tensor, decoded: Tensor, codes: Tensor) -> Quantized:
        """What training sees, with the normaliser where there is one."""
        penalty = self._moment_penalty(latents, unit) if self.normalised else unit.new_zeros(())
        stats = {"moment_penalty": penalty.detach()} if self.normalised else {}
        return Quantized(decoded, self.tokens_of(digits), loss=penalty, stats=stats, codes=codes)

    def _digits(self, unit: Tensor) -> Tensor:
        """unit: (..., dim) in [0, 1] -> the level of each, (..., dim) int64; the last one for what is not a number."""
        unit = unit.detach()
        borders, upper = self._borders.read(self.values)
        if self._even.read(self.values):
            # The level, or the one below it; `fmin` takes the last one for 1 and for what is not a number.
            guess = (unit * self._cells).floor_().fmin(self._last).long()
            above = upper.index_select(0, (guess + self._starts).flatten()).view(unit.shape)
            return guess.add_(unit >= above)
        columns = unit.movedim(-1, 0).contiguous()
        return torch.stack(
            [torch.bucketize(column, row, right=True) for column, row in zip(columns, borders, strict=True)], dim=-1
        )

    def _perturb(self, unit: Tensor) -> Tensor:
        """Uniform noise of η/L, kept in the dimensions where it stays inside [0, 1] (eqs. 16, 17)."""
        proposal = unit + self.eta / self.levels * (torch.rand_like(unit) - 0.5)
        return torch.where((proposal >= 0) & (proposal <= 1), proposal, unit)

    def _decode(self, unit: Tensor) -> Tensor:
        if self.decode == "inverse":
            return self.activation.from_unit(unit)
        return (unit - 0.5) * math.sqrt(12)

    def _moment_penalty(self, latents: Tensor, unit: Tensor) -> Tensor:
        weights = (self.mean_weight, self.variance_weight)
        if self.activation.variance is None:
            return moment_penalty((unit - 0.5) * math.sqrt(12), 1.0, *weights)
        return moment_penalty(latents, self.activation.variance, *weights)


DECIBELS_PER_BIT = 20 * math.log10(2)
"""What a bit buys where latents are quantized finely."""

NOTICEABLE = 0.5
"""Decibels of the latents' error. With less, a decoder that learnt equal cells lost by others where it was tried."""


def _weigh(before: CodebookReport, after: CodebookReport) -> str:
    """Whether Lloyd–Max levels pay: less error for more entropy, which only some have to pay for."""
    gain = 10 * math.log10(max(before.mse, 1e-12) / max(after.mse, 1e-12))
    bits = math.log2(after.perplexity / before.perplexity)
    told = (
        f"levels fitted: the error of latents falls by {gain:.2f} dB, the entropy of a token rises by {bits:.2f} bits"
    )
    if gain < NOTICEABLE:
        return f"{told}; too little: the decoder knows equal cells, and does better with those"
    if gain < DECIBELS_PER_BIT * bits:
        return (
            f"{told}; it pays where every token costs as much, not where its entropy is paid for: equal cells do then"
        )
    return f"{told}; it pays either way"


ALMOST = 1 - 2.0**-20
"""A guess of an equal cell by its number is never too high when it is taken from so much of u."""


def _divide_evenly(levels: Sequence[int], device: str | None = None) -> list[Tensor]:
    """The middles of equal cells of the unit interval, as many in each dimension as it has levels."""
    return [(torch.arange(count, device=device) + 0.5) / count for count in levels]


def _compute_borders(values: Tensor, counts: Sequence[int]) -> tuple[list[Tensor], Tensor]:
    """Where one level of each dimension ends and the next begins, and where each level ends, all in one row.

    values: of all dimensions, in one row.
    """
    borders = [thresholds_between(levels) for levels in values.split(list(counts))]
    end = values.new_full((1,), math.inf)
    return borders, torch.cat([part for own in borders for part in (own, end)])


def _are_even(values: Tensor, counts: Sequence[int]) -> bool:
    """Whether ⌊u · L · ALMOST⌋ is the level of every float32 u in [0, 1), or the one below it.

    To see that it is takes a third of a search's time. Products grow with u, so it is, if it is for each border and for
    the largest number below it.
    """
    for borders, count in zip(_compute_borders(values, counts)[0], counts, strict=True):
        cells = torch.tensor(float(count), device=values.device) * ALMOST
        first = torch.arange(count - 1, device=values.device)
        below = borders.nextafter(borders.new_zeros(()))
        if bool(((borders * cells).floor() < first).any()) or bool(((below * cells).floor() > first).any()):
            return False
    return True


# The activations

EDGE = 1e-6
"""Inverses read [EDGE, 1 - EDGE]: at 0 and 1 they would be infinite."""


@dataclass(frozen=True)
class Activation:
    """The distribution function of a known law: where latents follow that law, their image is uniform.

    Uniform is what a uniform grid of levels serves best.

    Attributes:
        to_unit: real -> [0, 1].
        from_unit: its inverse, [0, 1] -> real, finite everywhere.
        variance: of the law, or None where it has none (Cauchy).
    """

    to_unit: Callable[[Tensor], Tensor]
    from_unit: Callable[[Tensor], Tensor]
    variance: float | None


def _tanh(x: Tensor) -> Tensor:
    # (tanh x + 1) / 2, without its cancellation at the lower end.
    return torch.sigmoid(2 * x)


def _inverse_tanh(u: Tensor) -> Tensor:
    return torch.logit(u, eps=EDGE) / 2


def _inverse_sigmoid(u: Tensor) -> Tensor:
    return torch.logit(u, eps=EDGE)


def _inverse_normal(u: Tensor) -> Tensor:
    return torch.special.ndtri(u.clamp(EDGE, 1 - EDGE))


def _laplace(x: Tensor) -> Tensor:
    # One term is constant on each side of 0, and the slope at 0 comes out as 1/2: sign(x) and |x| have none there.
    return 0.5 * torch.exp(x.clamp_max(0)) + 0.5 * (1 - torch.exp(-F.relu(x)))


def _inverse_laplace(u: Tensor) -> Tensor:
    u = u.clamp(EDGE, 1 - EDGE)
    return torch.where(u < 0.5, torch.log(2 * u), -torch.log(2 * (1 - u)))


def _uniform(x: Tensor) -> Tensor:
    return (x / math.sqrt(12) + 0.5).clamp(0, 1)


def _inverse_uniform(u: Tensor) -> Tensor:
    return (u - 0.5) * math.sqrt(12)


def _cauchy(x: Tensor) -> Tensor:
    return torch.atan(x) / math.pi + 0.5


def _inverse_cauchy(u: Tensor) -> Tensor:
    return torch.tan((u.clamp(EDGE, 1 - EDGE) - 0.5) * math.pi)


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(_tanh, _inverse_tanh, math.pi**2 / 12),
    "normal": Activation(torch.special.ndtr, _inverse_normal, 1.0),
    "laplace": Activation(_laplace, _inverse_laplace, 2.0),
    "sigmoid": Activation(torch.sigmoid, _inverse_sigmoid, math.pi**2 / 3),
    "cauchy": Activation(_cauchy, _inverse_cauchy, None),
    "uniform": Activation(_uniform, _inverse_uniform, 1.0),
}
