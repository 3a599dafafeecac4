"""VAEVQ: quantize a variational autoencoder (arXiv 2511.06863).

The encoder predicts a Gaussian, and one decoder must reconstruct from a sample of it as well as from the sample's
nearest code, so codes fall into a smooth, filled space (VLQ). Code and mean are drawn together as firmly as the
Gaussian is narrow (RCS), and the codebook as a whole is held near the prior (DCR).
"""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from tokcli.contracts import Quantized
from tokcli.quantizers.base import MappedCodebook, in_float32
from tokcli.quantizers.nearest import NearestCodeQuantizer, nearest_tokens
from tokcli.quantizers.ops import (
    Gaussian,
    distance_between_gaussians,
    distance_to_standard_normal,
    straight_through,
)
from tokcli.schema import NOT_WRITTEN, Codes, Count, NotNegative, PositiveShare

Coherence = Literal["detached", "attached", "tempered"]

SMALLEST = 1e-20
"""Where code, mean and variance coincide there is nothing to weigh."""


class VAEVectorQuantizer(NearestCodeQuantizer):
    """One token per position: the index of the code nearest to the mean; in training, to a sample.

    Args:
        dim: channels of a code; the encoder gives twice as many, means then log-variances.
        codebook_size: number of codes, K.
        rcs_weight: of the variance-weighted alignment, eq. 7 (λ_rcs), as a mean over elements like the public code.
        dcr_weight: of the codebook's distance from the prior, eqs. 8-11 (λ_dcr; the public code has 1e-6).
        kl_weight: of the Gaussians' divergence from the prior, summed over a sample.
        vq_weight: of VQ's own alignment of query and code, for comparisons without RCS.
        query: what looks for its code while training: the `sample` (the paper) or the `mean` (the public code).
        coherence: what RCS divides by. `detached`: the encoder's variance, without gradient (eq. 7 to the letter).
            `attached`: with it (the public code). `tempered`: see `temper_coherence`; it does not contract the latents.
        dcr_target: what DCR holds the codebook near: the `prior` (eqs. 8-11), or the `latents` of the batch (the
            abstract's words: "the continuous latent distribution").
        rcs_mean_share: share of the pull of RCS that reaches the means; the codes get all of it.
        gradient: what the decoder reads in training beside the sample: the code (`straight-through`), or in its place
            `noise` as long as its distance from the mean, which gives the mean the decoder's gradient and the deviation
            none. The codes then learn by the weights above alone.
    """

    usual_cvu: ClassVar[float] = 0.3
    latents_per_dim: ClassVar[int] = 2
    unit_latents: ClassVar[bool] = True

    def __init__(
        self,
        dim: Count,
        codebook_size: Codes,
        rcs_weight: NotNegative = 1.0,
        dcr_weight: NotNegative = 0.1,
        kl_weight: NotNegative = 1e-6,
        vq_weight: NotNegative = 0.0,
        query: Literal["sample", "mean"] = "sample",
        coherence: Annotated[Coherence, NOT_WRITTEN] = "detached",
        dcr_target: Annotated[Literal["prior", "latents"], NOT_WRITTEN] = "prior",
        rcs_mean_share: Annotated[PositiveShare, NOT_WRITTEN] = 1.0,
        gradient: Annotated[Literal["straight-through", "noise"], NOT_WRITTEN] = "straight-through",
    ) -> None:
        super().__init__(dim, codebook_size, gradient=gradient)
        self.input_dim = 2 * dim
        self.weights = {"rcs": rcs_weight, "dcr": dcr_weight, "kl": kl_weight, "vq": vq_weight}
        self.query = query
        self.coherence: Coherence = coherence
        self.dcr_target = dcr_target
        self.rcs_mean_share = rcs_mean_share
        self.codebook = MappedCodebook(codebook_size, dim, learn_seeds=True)

    @in_float32
    def forward(self, latents: Tensor) -> Quantized:
        """latents: (batch, *positions, 2·dim) -> codes (batch, *positions, dim) and, in training, samples to decode."""
        if self.rebuilt.ready and not self.training:
            return self.nearest_codes(latents)
        gaussian = Gaussian.of(latents)
        codes = self.codes()
        sample = gaussian.sample() if self.training else gaussian.mean
        query = sample if self.query == "sample" else gaussian.mean
        tokens = nearest_tokens(query, codes)
        quantized = F.embedding(tokens.squeeze(-1), codes)
        terms = {
            "rcs": self._measure_coherence(quantized, gaussian),
            "dcr": self._measure_distribution(codes, sample),
            "kl": gaussian.divergence(),
            "vq": self.alignment(query, quantized),
        }
        loss = sum((weight * terms[name] for name, weight in self.weights.items()), latents.new_zeros(()))
        stats = {name: term.detach() for name, term in terms.items()}
        alternatives = (sample,) if self.training else ()
        read = (
            self.pass_gradient(gaussian.mean, quantized)
            if self.gradient == "noise"
            else quantized_path(quantized, gaussian)
        )
        return Quantized(read, tokens, loss, stats, alternatives, codes=quantized.detach())

    def _measure_coherence(self, quantized: Tensor, gaussian: Gaussian) -> Tensor:
        share = self.rcs_mean_share
        if share < 1:
            mean = share * gaussian.mean + (1 - share) * gaussian.mean.detach()
            gaussian = Gaussian(mean, gaussian.log_variance)
        return COHERENCES[self.coherence](quantized, gaussian)

    def _measure_distribution(self, codes: Tensor, sample: Tensor) -> Tensor:
        if self.dcr_target == "latents":
            return distance_between_gaussians(codes, sample.flatten(0, -2))
        return distance_to_standard_normal(codes)

    def codes(self) -> Tensor:
        """The embedding behind its linear layer: (learnt_size, dim) float32."""
        return self.codebook()

    def points(self, latents: Tensor) -> Tensor:
        """The means, (..., dim)."""
        return Gaussian.of(latents).mean

    def make_next_stage(self) -> "VAEVectorQuantizer":
        """Its like without the prior: what is left has the variance that it has."""
        return VAEVectorQuantizer(**{**self.arguments, "kl_weight": 0.0})

    def learnt_tensors(self) -> dict[str, Tensor]:
        """The embedding and its linear layer."""
        return self.codebook.tensors("codebook.")


def quantized_path(quantized: Tensor, gaussian: Gaussian) -> Tensor:
    """The value of the codes, written as a draw μ + σ·ε of the Gaussian whose ε is held fixed, plus the code itself.

    So the decoder's gradient reaches the mean (whole), the deviation (times ε) and the code (whole).
    """
    noise = ((quantized - gaussian.mean) / gaussian.std).detach()
    return straight_through(gaussian.mean + gaussian.std * noise + quantized, quantized)


def detach_coherence(quantized: Tensor, gaussian: Gaussian) -> Tensor:
    """RCS, eq. 7: ½·((z_q − μ)/sg(σ))², averaged over elements; scalar."""
    return ((quantized - gaussian.mean) / gaussian.std.detach()).square().mean() / 2


def attach_coherence(quantized: Tensor, gaussian: Gaussian) -> Tensor:
    """The same with σ's gradient, as the public code has it: along a common scale of all three it then vanishes."""
    return ((quantized - gaussian.mean) / gaussian.std).square().mean() / 2


def temper_coherence(quantized: Tensor, gaussian: Gaussian) -> Tensor:
    """RCS where a code differs from the mean by the encoder's variance *and* by the codebook's own resolution; scalar.

    ½·w·(z_q − μ)² with w = e²/(sg(σ)² + e²) ≤ 1, e² the mean squared gap of each dimension, without gradient. So the
    pull is strong where the Gaussian is narrow beside a code's cell, and never stronger than VQ's own: dividing by σ²
    alone grows without bound as σ falls, and shrinks codes and means together.
    """
    gap = quantized - gaussian.mean
    own = gap.detach().square().flatten(0, -2).mean(dim=0)
    return (own / (gaussian.std.detach().square() + own).clamp_min(SMALLEST) * gap.square()).mean() / 2


COHERENCES: dict[Coherence, Callable[[Tensor, Gaussian], Tensor]] = {
    "detached": detach_coherence,
    "attached": attach_coherence,
    "tempered": temper_coherence,
}
