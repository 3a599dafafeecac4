"""Vector quantization: a latent becomes the nearest of K learnt codes (van den Oord 2017, arXiv 1711.00937).

Plain, it is the baseline of the papers: straight-through gradient, codes pulled to their latents by a loss term. The
options are the remedies the field has found for codes that nothing uses: moving averages, restarts, a k-means start,
codes on the sphere, the rotation trick (arXiv 2410.06424), and noise in place of codes (NSVQ).
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokcli.contracts import Quantized
from tokcli.distributed import sum_over_ranks
from tokcli.errors import ArgumentError
from tokcli.quantizers.base import Flag, in_float32
from tokcli.quantizers.codebooks import replace_codes, start_codes
from tokcli.quantizers.nearest import NearestCodeQuantizer, nearest_tokens
from tokcli.quantizers.ops import GradientName, tally
from tokcli.schema import Codes, Count, NotNegative, OpenShare

SMOOTHING = 1e-5
"""Laplace smoothing of the counts that divide the moving sums: an unused code never divides by zero."""


class VectorQuantizer(NearestCodeQuantizer):
    """One token per position: the index of the nearest code.

    Args:
        dim: channels of a latent.
        codebook_size: number of codes, K.
        commitment: weight of the pull of latents towards their codes (β in eq. 3).
        codebook_weight: weight of the pull of codes towards their latents; without meaning where `ema` moves them.
        ema: codes are moving averages of their latents instead of parameters (appendix A.1).
        decay: share of the moving averages that each step keeps.
        restart_below: a code whose moving count of latents per step is under it takes a random latent of the batch;
            0 never restarts. Sensible values lie well below the positions of a batch divided by K.
        kmeans_start: codes begin as k-means centres of the first training batch.
        cosine: latents and codes are compared, and decoded, on the unit sphere.
        gradient: what the decoder reads in training and how its gradient reaches the encoder: the code, with a
            `straight-through` gradient or by `rotation`; or `noise` as long as the code's error in place of the code.
    """

    training_only: ClassVar[frozenset[str]] = frozenset({"ema_counts", "ema_sums"})

    codebook: Tensor
    ema_sums: Tensor
    ema_counts: Tensor

    def __init__(
        self,
        dim: Count,
        codebook_size: Codes,
        commitment: NotNegative = 0.25,
        codebook_weight: NotNegative = 1.0,
        ema: bool = False,
        decay: OpenShare = 0.99,
        restart_below: NotNegative = 0.0,
        kmeans_start: bool = False,
        cosine: bool = False,
        gradient: GradientName = "straight-through",
    ) -> None:
        if cosine and gradient == "noise":
            raise ArgumentError("gradient: noise would leave the sphere that cosine: true compares on; use one of them")
        super().__init__(dim, codebook_size, commitment, codebook_weight, gradient)
        if ema:
            self.codebook_weight = 0.0
        self.ema = ema
        self.decay = decay
        self.restart_below = restart_below
        self.cosine = cosine
        codebook = _draw_first_codes(codebook_size, dim, cosine)
        if ema:
            self.register_buffer("codebook", codebook)
            self.register_buffer("ema_sums", codebook.clone())
        else:
            self.codebook = nn.Parameter(codebook)
        self.counts_codes = ema or restart_below > 0
        if self.counts_codes:
            self.register_buffer("ema_counts", torch.ones(codebook_size))
        self.started = Flag() if kmeans_start else None

    @in_float32
    def forward(self, latents: Tensor) -> Quantized:
        """latents: (..., dim) -> codes (..., dim), tokens (..., 1), the loss of eq. 3 as means over elements."""
        if self.rebuilt.ready and not self.training:
            return self.nearest_codes(latents)
        points = self.points(latents)
        stats = self._renew_codes(points.detach().flatten(0, -2)) if self.training else {}
        codes = self.codes()
        tokens = nearest_tokens(points, codes)
        quantized = F.embedding(tokens.squeeze(-1), codes)
        loss = self.alignment(points, quantized)
        stats |= {"commitment": F.mse_loss(points, quantized).detach()}
        if self.training and self.counts_codes:
            self._move_averages(points.detach().flatten(0, -2), tokens.flatten())
        return Quantized(self.pass_gradient(points, quantized), tokens, loss, stats, codes=quantized.detach())

    def codes(self) -> Tensor:
        """The codebook; on the unit sphere where `cosine`: (learnt_size, dim) float32."""
        return self.points(self.codebook.float())

    def points(self, latents: Tensor) -> Tensor:
        """The latents; on the unit sphere where `cosine`: (..., dim)."""
        return F.normalize(latents, dim=-1) if self.cosine else latents

    def place_codes(self, codes: Tensor) -> Tensor:
        """On the unit sphere where `cosine`."""
        return self.points(codes)

    def learnt_tensors(self) -> dict[str, Tensor]:
        """The codebook, (learnt_size, dim)."""
        return {"codebook": self.codebook.detach()}

    def advice_for_uneven_use(self) -> str:
        """The remedies that are not in use yet."""
        remedies = {"quantizer.ema=true": self.ema, "quantizer.restart_below=0.5": self.restart_below}
        lacking = [override for override, used in remedies.items() if not used]
        return f"train with {' '.join(lacking)}" if lacking else super().advice_for_uneven_use()

    @torch.no_grad()
    def _renew_codes(self, points: Tensor) -> dict[str, Tensor]:
        """Start the codebook from the first batch; restart dead codes.

        Before the look-up, so that a restarted code serves at once and no tensor changes that autograd still needs.
        """
        if self.started is not None and not self.started.is_set:
            self.codebook.copy_(self.points(start_codes(points, self.learnt_size)))
            self.started.set()
            if self.ema:
                self.ema_sums.copy_(self.codebook)
        if self.restart_below == 0:
            return {}
        restarted = replace_codes(self.codebook, self.ema_counts < self.restart_below, points)
        # As if the new code had served like an average one: time to prove itself before the next verdict.
        count = self.ema_counts.mean().clamp_min(self.restart_below)
        self.ema_counts.copy_(torch.where(restarted, count, self.ema_counts))
        if self.ema:
            self.ema_sums.copy_(torch.where(restarted.unsqueeze(-1), self.codebook * count, self.ema_sums))
        return {"restarted": restarted.float().mean()}

    @torch.no_grad()
    def _move_averages(self, points: Tensor, tokens: Tensor) -> None:
        """Move the averages, and with `ema` the codes, towards this step's latents of all ranks."""
        counts = tally(tokens, self.learnt_size)
        if not self.ema:
            self.ema_counts.lerp_(sum_over_ranks(counts), 1 - self.decay)
            return
        sums = torch.zeros_like(self.ema_sums).index_add_(0, tokens, points)
        both = sum_over_ranks(torch.cat([counts.unsqueeze(-1), sums], dim=-1))
        self.ema_counts.lerp_(both[:, 0], 1 - self.decay)
        self.ema_sums.lerp_(both[:, 1:], 1 - self.decay)
        total = self.ema_counts.sum()
        smoothed = (self.ema_counts + SMOOTHING) / (total + self.learnt_size * SMOOTHING) * total
        self.codebook.copy_(self.points(self.ema_sums / smoothed.unsqueeze(-1)))


def _draw_first_codes(size: int, dim: int, cosine: bool) -> Tensor:
    """Uniform in ±1/K, as VQGAN begins; on the sphere, uniform directions."""
    if cosine:
        return F.normalize(torch.randn(size, dim), dim=-1)
    return torch.empty(size, dim).uniform_(-1 / size, 1 / size)
