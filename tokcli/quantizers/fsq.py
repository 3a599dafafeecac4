"""Finite scalar quantization: squash each dimension into an interval and round it to one of a few levels.

Nothing is learnt and nothing collapses: the codebook is the grid of all combinations. `plain` is the original
(Mentzer 2023, arXiv 2309.15505); `symmetric` puts the levels evenly over [-1, 1], outermost included, and can replace
rounding by uniform noise while training (Parker 2024, arXiv 2411.19842, section 3.2).
"""

import math
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from tokcli.contracts import Quantized
from tokcli.errors import ArgumentError
from tokcli.quantizers.base import Levels, ScalarGrid, in_float32
from tokcli.quantizers.fsp import FiniteScalarPerturbation
from tokcli.quantizers.ops import straight_through
from tokcli.schema import NOT_WRITTEN, Share

OVERSHOOT = 1e-3
"""How far beyond the outermost level the plain squashing reaches, so that it can be rounded to (ε in the paper)."""


class FiniteScalarQuantizer(ScalarGrid):
    """One token per position, counted over the levels of all dimensions.

    Args:
        levels: levels per dimension; the latents have len(levels) channels and the codebook their product of codes.
        variant: `plain`: ⌊L/2⌋ steps to each side of 0, an even L one more below; `symmetric`: L levels on [-1, 1].
        noise: chance that an element in training is not rounded but moved by uniform noise as wide as a step
            (0.5 in arXiv 2411.19842); symmetric only.
        edges: how much of the outermost steps is used: `half`, or `full` as a next stage likes it, for it takes what
            is left of a step apart; symmetric only.
    """

    unit_latents: ClassVar[bool] = True
    usual_cvu: ClassVar[float] = 0.15
    _highest: Tensor
    _scale: Tensor
    _shift: Tensor
    _offset: Tensor
    _steps: Tensor
    _reach: Tensor

    def __init__(
        self,
        levels: Levels,
        variant: Literal["plain", "symmetric"] = "plain",
        noise: Share = 0.0,
        edges: Annotated[Literal["half", "full"], NOT_WRITTEN] = "half",
    ) -> None:
        if variant == "plain" and (noise or edges == "full"):
            given = f"noise {noise}" if noise else "edges: full"
            raise ArgumentError(f"{given} needs variant: symmetric; the plain variant has no such thing")
        if variant == "plain" and 2 in levels:
            # The shift that makes room for both levels is atanh(0.999): only latents below -3.8 get the lower one.
            raise ArgumentError(
                f"two levels are lopsided in the plain variant, got levels {levels}; use variant: symmetric"
            )
        super().__init__(levels, [_values(count, variant) for count in levels])
        self.variant = variant
        self.noise = noise
        # What a step reads of the levels is computed once, and as float32: mixed types take longer.
        self.edges = edges
        half = (self.levels - 1) * (1 + OVERSHOOT) / 2
        offset = (self.levels % 2 == 0) / 2
        constants = {
            "_highest": self.levels - 1,
            "_scale": half,
            "_shift": torch.atanh(offset / half),
            "_offset": offset,
            "_steps": self.levels // 2,
            "_reach": self.levels / (self.levels - 1) if edges == "full" else torch.ones(len(levels)),
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant.float(), persistent=False)

    @in_float32
    def forward(self, latents: Tensor) -> Quantized:
        """latents: (..., dim) -> values in [-1, 1] and tokens (..., 1); no loss of its own."""
        squashed = self._squash(latents)
        digits = self._digits(squashed)
        tokens = self.tokens_of(digits)
        codes = self.values_of(digits)
        values = straight_through(self._continuous(squashed), codes)
        if self.training and self.noise > 0:
            step = 2 / self._highest
            noisy = squashed + step * (torch.rand_like(squashed) - 0.5)
            values = torch.where(torch.rand_like(squashed) < self.noise, noisy, values)
        return Quantized(values, tokens, loss=values.new_zeros(()), codes=codes)

    @in_float32
    def forward_hidden(self, latents: Tensor) -> Quantized:
        """latents: (..., dim) -> codes and tokens (..., 1), without a gradient."""
        digits = self._digits(self._squash(latents.detach()))
        codes = self.values_of(digits)
        return Quantized(codes, self.tokens_of(digits), loss=codes.new_zeros(()), codes=codes)

    @in_float32
    def quantize(self, latents: Tensor) -> Tensor:
        """latents: (..., dim) -> tokens: (..., 1)."""
        return self.tokens_of(self._digits(self._squash(latents)))

    @in_float32
    def points(self, latents: Tensor) -> Tensor:
        """latents: (..., dim) -> what would be decoded without rounding, (..., dim)."""
        return self._continuous(self._squash(latents))

    def make_next_stage(self) -> FiniteScalarPerturbation:
        """The same levels for a part of a step, in which what is left is uniform."""
        return FiniteScalarPerturbation(list(self.counts), "uniform", 1 - self.noise, 1.0, 0.0, 0.0)

    def scale_of_rest(self) -> Tensor:
        """A step, as the deviation of a uniform law: (dim,)."""
        steps = 2 / self._highest if self.variant == "symmetric" else 1 / self._steps
        return steps / math.sqrt(12)

    def _squash(self, latents: Tensor) -> Tensor:
        """To an interval: [-1, 1], or half a step beyond (symmetric), or the one whose integers are levels (plain)."""
        if self.variant == "symmetric":
            return torch.tanh(latents / self._reach) * self._reach if self.edges == "full" else torch.tanh(latents)
        return torch.tanh(latents + self._shift) * self._scale - self._offset

    def _continuous(self, squashed: Tensor) -> Tensor:
        """What would be decoded without rounding; only its gradient is used."""
        return squashed if self.variant == "symmetric" else squashed / self._steps

    @torch.no_grad()
    def _digits(self, squashed: Tensor) -> Tensor:
        if self.variant == "symmetric":
            digits = torch.floor(self._highest * (squashed + 1) / 2 + 0.5)
        else:
            digits = torch.round(squashed) + self._steps
        # Above 1000 levels the overshoot of the plain variant is wider than half a step; and a latent that is not a
        # number still gets a token, so that the loop can report the divergence.
        return digits.nan_to_num_(0).clamp_min_(0).minimum(self._highest).long()


def _values(count: int, variant: str) -> Tensor:
    """What each of `count` levels decodes to."""
    if variant == "symmetric":
        return torch.arange(count) * 2 / (count - 1) - 1
    return (torch.arange(count) - count // 2) / (count // 2)
