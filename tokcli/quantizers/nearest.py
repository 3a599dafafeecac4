"""What quantizers with a codebook of vectors share: the token of a latent is the index of its nearest code."""

from abc import abstractmethod

from torch import Tensor
from torch.nn import functional as F

from tokcli.contracts import Quantizer
from tokcli.quantizers.precision import in_float32
from tokcli.search import nearest_code


class NearestCodeQuantizer(Quantizer):
    """One token per position, of `codebook_size` codes in `dim` channels.

    Raises ValueError for fewer than one channel or two codes.
    """

    def __init__(self, dim: int, codebook_size: int) -> None:
        if dim < 1 or codebook_size < 2:
            raise ValueError(f"dim must be at least 1 and codebook_size at least 2, got {dim} and {codebook_size}")
        super().__init__()
        self.input_dim = self.dim = dim
        self.groups = 1
        self.codebook_size = codebook_size

    @abstractmethod
    def codes(self) -> Tensor:
        """What the tokens decode to: (codebook_size, dim) float32."""

    def points(self, latents: Tensor) -> Tensor:
        """What of the latents (..., input_dim) is compared with the codes: (..., dim)."""
        return latents

    @in_float32
    def quantize(self, latents: Tensor) -> Tensor:
        """latents: (..., input_dim) -> tokens: (..., 1)."""
        return nearest_tokens(self.points(latents), self.codes())

    def dequantize(self, tokens: Tensor) -> Tensor:
        """tokens: (..., 1) int64 -> codes: (..., dim) float32."""
        return F.embedding(tokens.squeeze(-1), self.codes())


def nearest_tokens(points: Tensor, codes: Tensor) -> Tensor:
    """points: (..., dim), codes: (size, dim) -> tokens: (..., 1)."""
    return nearest_code(points.flatten(0, -2), codes).view(*points.shape[:-1], 1)


def vq_loss(points: Tensor, quantized: Tensor, commitment: float, codebook_weight: float) -> Tensor:
    """Both (..., dim) -> scalar: codebook_weight·‖sg(z) − e‖² + commitment·‖z − sg(e)‖², as means over elements."""
    pull_of_codes = codebook_weight * F.mse_loss(quantized, points.detach())
    return pull_of_codes + commitment * F.mse_loss(points, quantized.detach())
