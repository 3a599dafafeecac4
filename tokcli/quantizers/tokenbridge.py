"""TokenBridge: train a plain variational autoencoder, discretize it afterwards (arXiv 2503.16430).

The divergence from N(0, I) that training pays for makes each dimension nearly Gaussian; so, standardized, it is cut
into bins that are equally probable under the standard normal, and a bin decodes to the normal's mean within it.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from tokcli.contracts import BuildsCodebook, CodebookReport, Quantized
from tokcli.distributed import sum_over_ranks, world_size
from tokcli.errors import UsageError
from tokcli.progress import SILENT, Reporter
from tokcli.quantizers.base import Flag, ScalarGrid, in_float32
from tokcli.quantizers.evenness import refuse_evenness
from tokcli.quantizers.ops import Gaussian, perplexity_of
from tokcli.schema import Count, NotNegative

REACH = 3.0
"""The normal is cut off there, so that the outermost bins have a near end."""

MOST_BINS = 740
"""With more, the outermost borders would lie beyond the reach."""

Bins = Annotated[int, Field(ge=2, le=MOST_BINS)]

LARGEST_JOINT = 2**31
"""Beyond it each dimension gets a token of its own: joint tokens would be too many to count or to predict."""

FEW_CODES = 1024
"""Below it the grid is known to be too coarse: at 256 codes the VP-VAE paper measures 11.5 dB where FSQ has 22.9."""

TRACKING_DECAY = 0.99


class TokenBridge(ScalarGrid, BuildsCodebook):  # pyright: ignore[reportIncompatibleVariableOverride]
    """A variational autoencoder in training; with a built codebook, `bins` levels in each dimension.

    One token per position where bins^dim ≤ 2^31, else one per dimension in the groups axis. Tokens come from the means.

    Args:
        dim: channels of a latent; the encoder gives twice as many, means then log-variances.
        bins: per dimension (4 in the VP-VAE paper: 4^dim codes).
        kl_weight: of the divergence from N(0, I), summed over a sample.
    """

    any_size: ClassVar[bool] = False
    latents_per_dim: ClassVar[int] = 2
    unit_latents: ClassVar[bool] = True
    training_only: ClassVar[frozenset[str]] = frozenset({"tracked_mean", "tracked_square"})

    usual_cvu: ClassVar[float] = 0.1
    borders: Tensor
    mean: Tensor
    std: Tensor
    tracked_mean: Tensor
    tracked_square: Tensor

    def __init__(self, dim: Count, bins: Bins = 4, kl_weight: NotNegative = 1e-6) -> None:
        super().__init__([bins] * dim, [bin_means(bins)] * dim, joint=bins**dim <= LARGEST_JOINT)
        self.input_dim = 2 * dim
        self.kl_weight = kl_weight
        self.built = Flag()
        self.register_buffer("borders", bin_borders(bins)[1:-1].float())
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        self.register_buffer("tracked_mean", torch.zeros(dim))
        self.register_buffer("tracked_square", torch.ones(dim))

    @property
    def codebook_ready(self) -> bool:
        """Whether the bins are fitted, so that there are tokens."""
        return self.built.is_set

    @property
    def codebooks(self) -> tuple[int, ...]:
        """The only size it can have, once built."""
        return (self.codebook_size,) if self.built.is_set else ()

    @in_float32
    def forward(self, latents: Tensor) -> Quantized:
        """latents: (batch, *positions, 2·dim) -> in training a draw, without tokens; and the weighted divergence.

        In eval mode: the bins' values and their tokens, or the means while there is no codebook.
        """
        gaussian = Gaussian.of(latents)
        divergence = gaussian.divergence()
        tokens = codes = None
        if self.training:
            self._track_moments(gaussian.mean.detach().flatten(0, -2))
            decoded = gaussian.sample()
            codes = self._draft_codes(gaussian.mean.detach())
        elif self.codebook_ready:
            tokens = self._bins(gaussian.mean)
            decoded = self.dequantize(tokens)
        else:
            decoded = gaussian.mean
        stats = {"kl": divergence.detach(), "std": gaussian.std.detach().mean()}
        return Quantized(decoded, tokens, loss=self.kl_weight * divergence, stats=stats, codes=codes)

    @in_float32
    def quantize(self, latents: Tensor) -> Tensor:
        """latents: (..., 2·dim) -> tokens: (..., groups). Raises UsageError before a codebook is built."""
        self._require_codebook()
        return self._bins(Gaussian.of(latents).mean)

    def dequantize(self, tokens: Tensor) -> Tensor:
        """tokens: (..., groups) int64 -> latents: (..., dim) float32. Raises UsageError before a codebook is built."""
        self._require_codebook()
        return super().dequantize(tokens) * self.std + self.mean

    def codebook_tensors(self) -> dict[str, Tensor]:
        """The bins, and the scale and place of each dimension."""
        return super().codebook_tensors() | {"borders": self.borders, "mean": self.mean, "std": self.std}

    def require_possible(self, size: int | None = None, evenness: float = 0.0) -> None:
        """As declared: the size is the product of the bins, and these hold equal shares already."""
        super().require_possible(size, evenness)
        self._require_size(self.codebook_size if size is None else size)
        refuse_evenness(evenness, "TokenBridge's bins hold equal shares of a Gaussian")

    def build_codebook(
        self,
        latents: Tensor,
        size: int | None = None,
        *,
        evenness: float = 0.0,
        seed: int = 0,
        reporter: Reporter = SILENT,
    ) -> CodebookReport:
        """Take each dimension's mean and standard deviation from the means of latents (count, 2·dim).

        Nothing in it is random: the seed changes nothing. Raises UsageError as declared.
        """
        self.require_possible(size, evenness)
        if len(latents) < 2:
            raise UsageError(f"a standard deviation needs at least two latents, got {len(latents)}")
        if self.joint and self.codebook_size < FEW_CODES:
            reporter.note(
                f"TokenBridge with {self.codebook_size} codes reconstructs poorly (published: 11.5 dB at 256 codes);"
                " more bins or dimensions help, and so does another quantizer at this rate"
            )
        means = Gaussian.of(latents.float()).mean
        self.mean.copy_(means.mean(dim=0))
        self.std.copy_(means.std(dim=0, correction=0).clamp_min(1e-6))
        self.built.set()
        tokens = self.quantize(latents)
        error = (means - self.dequantize(tokens)).square().sum(dim=-1).mean()
        return CodebookReport(self.codebook_size, float(error), perplexity_of(tokens), len(latents))

    def use_codebook(self, size: int) -> None:
        """There is one codebook. Raises UsageError for another size, or before it is built."""
        self._require_size(size)
        self._require_codebook()

    def points(self, latents: Tensor) -> Tensor:
        """The means, (..., dim)."""
        return Gaussian.of(latents).mean

    def make_next_stage(self) -> "TokenBridge":
        """Its like without the prior: what is left has the variance that it has."""
        return TokenBridge(**{**self.arguments, "kl_weight": 0.0})

    @contextmanager
    def provisional_codebook(self) -> Iterator[None]:
        """Tokens for the length of an evaluation, by the moments tracked while training; leaves no trace."""
        kept = self.mean.clone(), self.std.clone(), self.built.is_set
        self.mean.copy_(self.tracked_mean)
        self.std.copy_(self._tracked_std())
        self.built.set()
        try:
            yield
        finally:
            self.mean.copy_(kept[0])
            self.std.copy_(kept[1])
            self.built.set(kept[2])

    def _tracked_std(self) -> Tensor:
        return (self.tracked_square - self.tracked_mean.square()).clamp_min(1e-12).sqrt()

    def _draft_codes(self, means: Tensor) -> Tensor:
        """What the bins would make of means (..., dim) by the moments tracked so far."""
        std = self._tracked_std()
        digits = torch.bucketize(((means - self.tracked_mean) / std).contiguous(), self.borders, right=True)
        return self.values_of(digits) * std + self.tracked_mean

    def _bins(self, means: Tensor) -> Tensor:
        standard = (means - self.mean) / self.std
        return self.tokens_of(torch.bucketize(standard, self.borders, right=True))

    @torch.no_grad()
    def _track_moments(self, means: Tensor) -> None:
        moments = torch.stack([means.mean(dim=0), means.square().mean(dim=0)])
        mean, square = sum_over_ranks(moments) / world_size()
        self.tracked_mean.lerp_(mean, 1 - TRACKING_DECAY)
        self.tracked_square.lerp_(square, 1 - TRACKING_DECAY)

    def _require_size(self, size: int) -> None:
        if size != self.codebook_size:
            raise UsageError(
                f"{self.counts[0]} bins in {self.dim} dimensions make a codebook of {self.codebook_size} and no other"
                f" size, got {size}; leave the size out, or train with other bins"
            )

    def _require_codebook(self) -> None:
        if not self.built.is_set:
            raise UsageError("this TokenBridge tokenizer has no codebook yet; run: tok build-codebook")


def bin_borders(bins: int) -> Tensor:
    """Borders of equally probable bins of the standard normal, both ends at the reach: (bins + 1,) float64."""
    shares = torch.arange(bins + 1, dtype=torch.float64) / bins
    return torch.special.ndtri(shares).clamp(-REACH, REACH)


def bin_means(bins: int) -> Tensor:
    """The mean of the standard normal within each bin, (bins,) float64."""
    borders = bin_borders(bins)
    density = torch.exp(-borders.square() / 2) / math.sqrt(2 * math.pi)
    return -density.diff() / torch.special.ndtr(borders).diff()
