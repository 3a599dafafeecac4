"""Noise substitution: in training a code is replaced by noise as long as its error (NSVQ, Vali & Bäckström 2022).

A latent z with the nearest code c becomes z + ‖c − z‖·v/‖v‖, v ~ N(0, I): as far off as its code, in any direction. The
decoder learns to bear an error of that length, as in VP-VAE, at the cost of VQ: no queue, no search for neighbours, no
test. The codes follow their latents as moving averages and serve training alone; afterwards a codebook of any size is
built as VP-VAE's is. Several live codebooks at once, one drawn for each item, teach one decoder the errors of them all.
Noise makes good latents and no finished decoder: a second training with the codes themselves, `noise_share: 0`, rids
it of the errors in all directions but the one that occurs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokcli.contracts import Quantized
from tokcli.distributed import sum_over_ranks, world_size
from tokcli.errors import ArgumentError
from tokcli.quantizers.base import in_float32
from tokcli.quantizers.codebooks import replace_codes
from tokcli.quantizers.nearest import BuiltCodebookQuantizer
from tokcli.quantizers.ops import straight_through, substitute_noise, tally
from tokcli.schema import NOT_WRITTEN, Codes, Count, NotNegative, OpenShare, Positive, Share
from tokcli.search import nearest_code

LOWEST_DECAY = 0.8
"""Of the moving averages: a codebook that is small beside the batch would otherwise forget in a step or two."""

FEWEST = 1e-5
"""A code with a smaller moving count stays where it is: there is nothing to average."""


class NoiseSubstitution(BuiltCodebookQuantizer):
    """Moves latents in training by as much as live codebooks err; with a built codebook, a token is the nearest code.

    Args:
        dim: channels of a latent.
        codebook_size: the K whose error training stands for; other sizes can be built.
        sizes: of the live codebooks, codebook_size among them; every item of a batch draws one. None: that one alone.
        commitment: weight of the pull of latents towards their codes.
        turnover: latents for each code over which a live codebook averages; a larger one lags behind the encoder.
        restart_below: a code whose moving count is below so much of the average one's takes a random latent.
        noise_share: of the items of a batch, drawn anew each time; the others take their codes, straight through.
    """

    training_only: ClassVar[frozenset[str]] = frozenset({"live.codes", "live.sums", "live.counts"})

    usual_cvu: ClassVar[float] = 0.3
    unit_latents: ClassVar[bool] = True

    def __init__(
        self,
        dim: Count,
        codebook_size: Codes,
        sizes: list[Codes] | None = None,
        commitment: NotNegative = 0.25,
        turnover: Positive = 5.0,
        restart_below: OpenShare = 0.1,
        noise_share: Annotated[Share, NOT_WRITTEN] = 1.0,
    ) -> None:
        sizes = [codebook_size] if sizes is None else sizes
        if codebook_size not in sizes or len(set(sizes)) < len(sizes):
            raise ArgumentError(
                f"sizes must be different ones with codebook_size among them, got {sizes} and {codebook_size}"
            )
        super().__init__(dim, codebook_size)
        self.sizes = sizes
        self.commitment = commitment
        self.turnover = turnover
        self.restart_below = restart_below
        self.noise_share = noise_share
        self.live = LiveCodebooks(sizes, dim)

    @in_float32
    def forward(self, latents: Tensor) -> Quantized:
        """latents: (batch, *positions, dim) -> in training, moved and without tokens; every rank must take part.

        The noise carries no gradient, the encoder gets the decoder's as it is. In eval mode: the nearest codes and
        their tokens, or the latents themselves while there is no codebook.
        """
        if not self.training:
            return self.nearest_codes(latents)
        values = latents.detach()
        codes = self._follow(values)
        moved = self._move(latents, codes)
        commitment = F.mse_loss(latents, codes)
        displacement = (codes - values).norm(dim=-1).mean()
        stats = {"commitment": commitment.detach(), "displacement": displacement}
        return Quantized(moved, tokens=None, loss=self.commitment * commitment, stats=stats, codes=codes)

    def _move(self, latents: Tensor, codes: Tensor) -> Tensor:
        """What the decoder reads, (batch, *positions, dim): noise or codes, by item."""
        if self.noise_share == 1:
            return substitute_noise(latents, codes)
        coded = straight_through(latents, codes)
        if self.noise_share == 0:
            return coded
        noisy = torch.rand(len(latents), *[1] * (latents.ndim - 1), device=latents.device) < self.noise_share
        return torch.where(noisy, substitute_noise(latents, codes), coded)

    @contextmanager
    def provisional_codebook(self) -> Iterator[None]:
        """The live codebook of codebook_size, for the length of an evaluation."""
        self.built.use_provisional(self.live.of(self.sizes.index(self.nominal_size)).codes.clone())
        try:
            yield
        finally:
            self.built.use_provisional(None)

    @torch.no_grad()
    def _follow(self, latents: Tensor) -> Tensor:
        """The code of each latent (batch, *positions, dim), an item's all of one size; then the codebooks move."""
        rows = latents.flatten(0, -2)
        codes = latents.clone()
        # Shares as equal as can be, in an order that is drawn: on the host, where it costs no wait for the device.
        owners = (torch.randperm(len(latents)) + torch.randint(len(self.sizes), ())) % len(self.sizes)
        for index, size in enumerate(self.sizes):
            codebook = self.live.of(index)
            items = (owners == index).nonzero().squeeze(1).to(latents.device)
            own = latents[items].flatten(0, -2)
            expected = len(rows) * world_size() / len(self.sizes)
            codebook.restart(self.restart_below, expected, rows)
            tokens = nearest_code(own, codebook.codes)
            codes[items] = codebook.codes[tokens].view_as(latents[items])
            codebook.average(own, tokens, max(LOWEST_DECAY, 1 - expected / (self.turnover * size)))
        return codes


class LiveCodebooks(nn.Module):
    """Codebooks that follow latents as moving averages, of several sizes, in one tensor each for all of them.

    Args:
        sizes: codes of each.
        dim: channels of a code.

    Attributes:
        codes: (sum of sizes, dim).
        sums: moving sums of the latents of each code, (sum of sizes, dim).
        counts: moving numbers of them, (sum of sizes,).
    """

    codes: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(self, sizes: list[int], dim: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.register_buffer("codes", torch.randn(sum(sizes), dim))
        self.register_buffer("sums", torch.zeros(sum(sizes), dim))
        self.register_buffer("counts", torch.zeros(sum(sizes)))

    def of(self, index: int) -> "LiveCodebook":
        """The codebook of sizes[index], as views of the tensors here."""
        tensors = (self.codes, self.sums, self.counts)
        return LiveCodebook(*(tensor.split(self.sizes)[index] for tensor in tensors))


@dataclass(frozen=True)
class LiveCodebook:
    """One codebook and its moving averages, all changed in place.

    Attributes:
        codes: (size, dim).
        sums: (size, dim).
        counts: (size,).
    """

    codes: Tensor
    sums: Tensor
    counts: Tensor

    def restart(self, below: float, expected: float, latents: Tensor) -> None:
        """Put latents (number, dim) in place of codes that serve fewer than `below` of an equal share of `expected`."""
        share = expected / len(self.codes)
        restarted = replace_codes(self.codes, self.counts < below * share, latents)
        self.counts.copy_(torch.where(restarted, share, self.counts))
        self.sums.copy_(torch.where(restarted.unsqueeze(-1), self.codes * share, self.sums))

    def average(self, latents: Tensor, tokens: Tensor, decay: float) -> None:
        """Move towards latents (number, dim) with their tokens (number,), of all ranks."""
        sums = torch.zeros_like(self.sums).index_add_(0, tokens, latents)
        both = sum_over_ranks(torch.cat([tally(tokens, len(self.codes)).unsqueeze(-1), sums], dim=-1))
        self.counts.lerp_(both[:, 0], 1 - decay)
        self.sums.lerp_(both[:, 1:], 1 - decay)
        means = self.sums / self.counts.clamp_min(FEWEST).unsqueeze(-1)
        self.codes.copy_(torch.where((self.counts > FEWEST).unsqueeze(-1), means, self.codes))
