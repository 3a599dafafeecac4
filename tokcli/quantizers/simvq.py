"""SimVQ: vector quantization with a frozen random codebook behind one learnt linear layer (arXiv 2411.02038)."""

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from tokcli.contracts import Quantized
from tokcli.quantizers.base import MappedCodebook, in_float32
from tokcli.quantizers.nearest import NearestCodeQuantizer, nearest_tokens
from tokcli.quantizers.ops import GradientName
from tokcli.schema import Codes, Count, NotNegative


class SimVectorQuantizer(NearestCodeQuantizer):
    """One token per position: the index of the nearest code E·W + b, of which only W and b learn.

    Args:
        dim: channels of a latent.
        codebook_size: number of codes, K.
        commitment: weight of the pull of latents towards their codes (β).
        codebook_weight: weight of the pull of codes towards their latents.
        bias: whether there is a b, as in the public code.
        hidden: width of a hidden layer; None: the map is linear.
        gradient: what the decoder reads in training and how its gradient reaches the encoder: the code, with a
            `straight-through` gradient or by `rotation`; or `noise` as long as the code's error in place of the code.
    """

    usual_cvu: ClassVar[float] = 0.4

    def __init__(
        self,
        dim: Count,
        codebook_size: Codes,
        commitment: NotNegative = 0.25,
        codebook_weight: NotNegative = 1.0,
        bias: bool = True,
        hidden: Count | None = None,
        gradient: GradientName = "straight-through",
    ) -> None:
        super().__init__(dim, codebook_size, commitment, codebook_weight, gradient)
        self.codebook = MappedCodebook(codebook_size, dim, learn_seeds=False, bias=bias, hidden=hidden)

    @in_float32
    def forward(self, latents: Tensor) -> Quantized:
        """latents: (..., dim) -> codes (..., dim), tokens (..., 1), the loss of VQ as means over elements."""
        if self.rebuilt.ready and not self.training:
            return self.nearest_codes(latents)
        codes = self.codes()
        tokens = nearest_tokens(latents, codes)
        quantized = F.embedding(tokens.squeeze(-1), codes)
        loss = self.alignment(latents, quantized)
        stats = {"commitment": F.mse_loss(latents, quantized).detach()}
        return Quantized(self.pass_gradient(latents, quantized), tokens, loss, stats, codes=quantized.detach())

    def codes(self) -> Tensor:
        """The image of the frozen codebook: (learnt_size, dim) float32."""
        return self.codebook()

    def learnt_tensors(self) -> dict[str, Tensor]:
        """The frozen codebook and the map."""
        return self.codebook.tensors("codebook.")
