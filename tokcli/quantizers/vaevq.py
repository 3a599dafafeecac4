"""VAEVQ: quantize a variational autoencoder (arXiv 2511.06863).

The encoder predicts a Gaussian, and one decoder must reconstruct from a sample of it as well as from the sample's
nearest code, so codes fall into a smooth, filled space (VLQ). Code and mean are drawn together as firmly as the
Gaussian is narrow (RCS), and the codebook as a whole is held near the prior (DCR).
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tokcli.contracts import Quantized
from tokcli.quantizers.gaussian import Gaussian, gaussian_of
from tokcli.quantizers.gradients import straight_through
from tokcli.quantizers.mapped_codebook import MappedCodebook
from tokcli.quantizers.nearest import NearestCodeQuantizer, nearest_tokens, vq_loss
from tokcli.quantizers.precision import in_float32
from tokcli.quantizers.usage import usage_stats

COMMITMENT = 0.25
SMALLEST_EIGENVALUE = 1e-6
"""Where a codebook has no extent the square root's slope would be infinite."""


class VAEVectorQuantizer(NearestCodeQuantizer):
    """One token per position: the index of the code nearest to the mean; in training, to a sample.

    dim: channels of a code; the encoder gives twice as many, means then log-variances. codebook_size: K.
    rcs_weight: of the variance-weighted alignment, eq. 7 (λ_rcs), as a mean over elements like the public code.
    dcr_weight: of the codebook's distance from the prior, eqs. 8-11 (λ_dcr; the public code has 1e-6).
    kl_weight: of the Gaussians' divergence from the prior, summed over a sample.
    vq_weight: of VQ's own alignment of query and code, for comparisons without RCS.
    query: what looks for its code while training: the `sample` (the paper) or the `mean` (the public code).

    Raises ValueError for an argument out of its range.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        rcs_weight: float = 1.0,
        dcr_weight: float = 0.1,
        kl_weight: float = 1e-6,
        vq_weight: float = 0.0,
        query: Literal["sample", "mean"] = "sample",
    ) -> None:
        super().__init__(dim, codebook_size)
        if min(rcs_weight, dcr_weight, kl_weight, vq_weight) < 0:
            raise ValueError("rcs_weight, dcr_weight, kl_weight and vq_weight must not be negative")
        if query not in ("sample", "mean"):
            raise ValueError(f"query must be 'sample' or 'mean', got {query!r}")
        self.input_dim = 2 * dim
        self.rcs_weight = rcs_weight
        self.dcr_weight = dcr_weight
        self.kl_weight = kl_weight
        self.vq_weight = vq_weight
        self.query = query
        self.codebook = MappedCodebook(codebook_size, dim, learn_seeds=True)

    @in_float32
    def forward(self, latents: Tensor) -> Quantized:
        """latents: (batch, *positions, 2·dim) -> codes (batch, *positions, dim) and, in training, samples to decode."""
        gaussian = gaussian_of(latents)
        codes = self.codes()
        sample = gaussian.sample() if self.training else gaussian.mean
        asking = sample if self.query == "sample" else gaussian.mean
        tokens = nearest_tokens(asking, codes)
        quantized = F.embedding(tokens.squeeze(-1), codes)
        terms = {
            "rcs": coherence(quantized, gaussian),
            "dcr": distance_to_prior(codes),
            "kl": gaussian.divergence(),
            "vq": vq_loss(asking, quantized, COMMITMENT, 1.0),
        }
        weights = {"rcs": self.rcs_weight, "dcr": self.dcr_weight, "kl": self.kl_weight, "vq": self.vq_weight}
        loss = sum(weight * terms[name] for name, weight in weights.items())
        stats = {name: term.detach() for name, term in terms.items()} | usage_stats(tokens, self.codebook_size)
        alternatives = (sample,) if self.training else ()
        return Quantized(quantized_path(quantized, gaussian), tokens, loss, stats, alternatives)

    def codes(self) -> Tensor:
        """The embedding behind its linear layer: (codebook_size, dim) float32."""
        return self.codebook()

    def points(self, latents: Tensor) -> Tensor:
        """The means, (..., dim)."""
        return gaussian_of(latents).mean

    def codebook_tensors(self) -> dict[str, Tensor]:
        """The embedding and its linear layer."""
        return self.codebook.tensors("codebook.")


def quantized_path(quantized: Tensor, gaussian: Gaussian) -> Tensor:
    """The value of the codes, written as a draw μ + σ·ε of the Gaussian whose ε is held fixed, plus the code itself.

    So the decoder's gradient reaches the mean (whole), the deviation (times ε) and the code (whole).
    """
    noise = ((quantized - gaussian.mean) / gaussian.std).detach()
    return straight_through(gaussian.mean + gaussian.std * noise + quantized, quantized)


def coherence(quantized: Tensor, gaussian: Gaussian) -> Tensor:
    """RCS, eq. 7: ½·((z_q − μ)/sg(σ))², averaged over elements; scalar."""
    return ((quantized - gaussian.mean) / gaussian.std.detach()).square().mean() / 2


def distance_to_prior(codes: Tensor) -> Tensor:
    """DCR, eqs. 8-11: squared 2-Wasserstein distance of a Gaussian with the codes' moments from N(0, I).

    codes: (size, dim) -> scalar ‖m‖² + Tr Σ − 2 Tr Σ^½ + dim. The trace of the root is the sum of the roots of Σ's
    eigenvalues, in float64; its gradient ½ Σ^-½ stays finite and needs no gaps between the eigenvalues. A CUDA device
    is waited for.
    """
    wide = codes.double()
    mean = wide.mean(dim=0)
    covariance = torch.cov(wide.T)
    roots = torch.linalg.eigvalsh(covariance.reshape(len(mean), -1)).clamp_min(SMALLEST_EIGENVALUE).sqrt()
    distance = mean.square().sum() + covariance.reshape(len(mean), -1).trace() - 2 * roots.sum() + len(mean)
    return distance.to(codes.dtype)
