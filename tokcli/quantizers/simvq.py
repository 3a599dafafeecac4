"""SimVQ: vector quantization with a frozen random codebook behind one learnt linear layer (arXiv 2411.02038)."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from tokcli.contracts import Quantized
from tokcli.quantizers.gradients import rotate, straight_through
from tokcli.quantizers.mapped_codebook import MappedCodebook
from tokcli.quantizers.nearest import NearestCodeQuantizer, nearest_tokens, vq_loss
from tokcli.quantizers.precision import in_float32
from tokcli.quantizers.usage import usage_stats


class SimVectorQuantizer(NearestCodeQuantizer):
    """One token per position: the index of the nearest code E·W + b, of which only W and b learn.

    dim: channels of a latent. codebook_size: K.
    commitment, codebook_weight: weights of the pull of latents towards their codes (β) and of codes to their latents.
    bias: whether there is a b, as in the public code. hidden: width of a hidden layer in place of the linear map.
    gradient: how the decoder's gradient reaches the encoder.

    Raises ValueError for an argument out of its range.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        commitment: float = 0.25,
        codebook_weight: float = 1.0,
        bias: bool = True,
        hidden: int | None = None,
        gradient: Literal["straight-through", "rotation"] = "straight-through",
    ) -> None:
        super().__init__(dim, codebook_size)
        if min(commitment, codebook_weight) < 0:
            raise ValueError(f"weights must not be negative, got commitment {commitment}, codebook {codebook_weight}")
        if hidden is not None and hidden < 1:
            raise ValueError(f"hidden is the width of a layer, at least 1, or null for a linear map; got {hidden}")
        if gradient not in ("straight-through", "rotation"):
            raise ValueError(f"gradient must be 'straight-through' or 'rotation', got {gradient!r}")
        self.commitment = commitment
        self.codebook_weight = codebook_weight
        self.pass_gradient = rotate if gradient == "rotation" else straight_through
        self.codebook = MappedCodebook(codebook_size, dim, learn_seeds=False, bias=bias, hidden=hidden)

    @in_float32
    def forward(self, latents: Tensor) -> Quantized:
        """latents: (..., dim) -> codes (..., dim), tokens (..., 1), the loss of VQ as means over elements."""
        codes = self.codes()
        tokens = nearest_tokens(latents, codes)
        quantized = F.embedding(tokens.squeeze(-1), codes)
        loss = vq_loss(latents, quantized, self.commitment, self.codebook_weight)
        stats = {"commitment": F.mse_loss(latents, quantized).detach()} | usage_stats(tokens, self.codebook_size)
        return Quantized(self.pass_gradient(latents, quantized), tokens, loss, stats)

    def codes(self) -> Tensor:
        """The image of the frozen codebook: (codebook_size, dim) float32."""
        return self.codebook()

    def codebook_tensors(self) -> dict[str, Tensor]:
        """The frozen codebook and the map."""
        return self.codebook.tensors("codebook.")
