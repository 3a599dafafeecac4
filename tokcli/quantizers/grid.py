"""A codebook that is a grid: each dimension has its own few values, a token is one choice of them all."""

import torch
from torch import Tensor

from tokcli.contracts import Quantizer
from tokcli.quantizers.mixed_radix import digits_to_tokens, size_of, tokens_to_digits


class ScalarGrid(Quantizer):
    """What quantizers of scalars share: the table of values and the way from digits to tokens and back.

    joint: one token counts the choices of all dimensions (mixed radix); else each dimension has a token of its own, in
        the groups axis, and all have equally many levels.
    levels: how many values each dimension has; `counts` keeps them as plain integers, the buffer of that name on the
        device. values: for each dimension, what its digits stand for, (level,); the buffer of that name holds all of
        them in one row, the first dimension first.
    """

    def __init__(self, levels: list[int], values: list[Tensor], joint: bool = True) -> None:
        size = size_of(levels) if joint else levels[0]
        super().__init__()
        self.input_dim = self.dim = len(levels)
        self.joint = joint
        self.groups = 1 if joint else len(levels)
        self.codebook_size = size
        self.counts = tuple(levels)
        self.register_buffer("levels", torch.tensor(levels))
        self.register_buffer("values", torch.cat(values).float())
        self.register_buffer("_starts", self.levels.cumsum(0) - self.levels, persistent=False)

    def dequantize(self, tokens: Tensor) -> Tensor:
        """tokens: (..., groups) int64 -> latents: (..., dim) float32."""
        digits = tokens_to_digits(tokens.squeeze(-1), self.levels) if self.joint else tokens
        return self.values[digits + self._starts]

    def codebook_tensors(self) -> dict[str, Tensor]:
        """The levels and what each decodes to."""
        return {"levels": self.levels, "values": self.values}

    def _tokens(self, digits: Tensor) -> Tensor:
        """digits: (..., dim) int64 -> tokens: (..., groups)."""
        return digits_to_tokens(digits, self.levels).unsqueeze(-1) if self.joint else digits
