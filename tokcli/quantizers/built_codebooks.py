"""Codebooks of several sizes in one quantizer, built after training, one of them in use."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tokcli.errors import UsageError
from tokcli.search import CodeIndex


class BuiltCodebooks(nn.Module):
    """Buffers `size_K` (K, dim) and `used`, the K in use or 0. A loaded state brings its own sizes with it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("used", torch.zeros((), dtype=torch.int64))
        self.size_used = 0
        self._provisional: Tensor | None = None
        self._index: CodeIndex | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes built, increasing."""
        return tuple(sorted(int(name.removeprefix("size_")) for name in self._buffers if name != "used"))

    @property
    def ready(self) -> bool:
        """Whether there are codes to use, be they provisional."""
        return self._provisional is not None or self.size_used > 0

    @property
    def codes(self) -> Tensor:
        """The codes in use, (size, dim). Raises UsageError where there are none."""
        if self._provisional is not None:
            return self._provisional
        (codes,) = self.tensors_used().values()
        return codes

    def tensors_used(self, prefix: str = "") -> dict[str, Tensor]:
        """The built codes in use by their name in the state. Raises UsageError where none were built."""
        if not self.size_used:
            raise UsageError("this VP-VAE tokenizer has no codebook yet; run: tok build-codebook")
        name = f"size_{self.size_used}"
        return {prefix + name: self._buffers[name]}

    def add(self, codes: Tensor) -> None:
        """Keep codes (size, dim) in place of any of the same size, and use them."""
        self.register_buffer(f"size_{len(codes)}", codes.detach().clone().to(self.used.device))
        self.use(len(codes))

    def use(self, size: int) -> None:
        """Raises UsageError where no codebook of this size was built."""
        if size not in self.sizes:
            have = ", ".join(map(str, self.sizes)) or "none"
            raise UsageError(
                f"there is no codebook of {size} codes (built: {have}); run: tok build-codebook --size {size}"
            )
        self.used.fill_(size)
        self.size_used = size

    def use_provisional(self, codes: Tensor | None) -> None:
        """Codes (size, dim) that no state_dict knows, until None takes them away."""
        self._provisional = codes

    def nearest(self, latents: Tensor) -> Tensor:
        """latents: (count, dim) -> (count,) int64. The index is kept while the codes stay the same."""
        codes = self.codes
        if self._index is None or not self._index.matches(codes):
            self._index = CodeIndex(codes)
        return self._index.nearest(latents)

    def _load_from_state_dict(self, state: Mapping[str, Tensor], prefix: str, *arguments: Any) -> None:
        for key in state:
            if found := re.fullmatch(re.escape(prefix) + r"(size_(\d+))", key):
                name, size = found[1], int(found[2])
                if name not in self._buffers:
                    self.register_buffer(name, torch.zeros(size, self.dim, device=self.used.device))
        super()._load_from_state_dict(state, prefix, *arguments)
        self.size_used = int(self.used)
