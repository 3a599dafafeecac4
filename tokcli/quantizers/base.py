"""What kinds of quantizers share: float32, codebooks of vectors, grids of scalars, and numbers mirrored on the host."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from tokcli.contracts import Quantizer
from tokcli.quantizers.ops import (
    count_codes,
    digits_to_tokens,
    place_values,
    tokens_to_digits,
)
from tokcli.schema import Codes

Method = TypeVar("Method", bound=Callable[..., Any])


def in_float32(method: Method) -> Method:
    """Run a quantizer's method on its latents as float32, with autocast off.

    bf16 has 8 bits of mantissa; a code needs more.
    """

    @functools.wraps(method)
    def wrapper(self: Quantizer, latents: Tensor) -> Any:
        with torch.autocast(latents.device.type, enabled=False):
            return method(self, latents.float())

    return cast(Method, wrapper)


# Codebooks of vectors


class MappedCodebook(nn.Module):
    """Codes that are the image of random seeds under a learnt map: when one code moves, all of them move.

    Plain codes only learn when they are chosen, so those that nothing uses stay where they are; here every step of the
    map reaches them too (SimVQ, arXiv 2411.02038). The seeds are Gaussian with variance 1/dim.

    Args:
        size: number of codes.
        dim: channels of a code.
        learn_seeds: seeds are parameters too, else they stay as drawn.
        bias: whether the map's layers have one.
        hidden: width of the hidden layer; None: the map is linear.
    """

    seeds: Tensor

    def __init__(self, size: int, dim: int, *, learn_seeds: bool, bias: bool = True, hidden: int | None = None) -> None:
        super().__init__()
        seeds = torch.randn(size, dim) / math.sqrt(dim)
        if learn_seeds:
            self.seeds = nn.Parameter(seeds)
        else:
            self.register_buffer("seeds", seeds)
        if hidden is None:
            self.map: nn.Module = nn.Linear(dim, dim, bias=bias)
        else:
            self.map = nn.Sequential(nn.Linear(dim, hidden, bias=bias), nn.SiLU(), nn.Linear(hidden, dim, bias=bias))

    def forward(self) -> Tensor:
        """The codes, (size, dim) float32."""
        return self.map(self.seeds).float()

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """All that the codes are made of, by name."""
        return {prefix + name: tensor.detach() for name, tensor in self.state_dict().items()}


# Grids of scalars

Levels = Annotated[list[Codes], Field(min_length=1)]
"""How many values each dimension has."""


class ScalarGrid(Quantizer):
    """A codebook that is a grid: each dimension has its own few values, a token is one choice of them all.

    Attributes:
        levels: how many values each dimension has, (dim,) on the device; `counts` keeps them as plain integers.
        values: what the digits of each dimension stand for, all in one row, the first dimension first.
        joint: whether one token counts the choices of all dimensions (mixed radix); else each dimension has a token of
            its own, in the groups axis, and all have equally many levels.
    """

    levels: Tensor
    values: Tensor
    _places: Tensor
    _starts: Tensor

    def __init__(self, levels: Sequence[int], values: list[Tensor], joint: bool = True) -> None:
        size = count_codes(levels) if joint else levels[0]
        super().__init__()
        self.input_dim = self.dim = len(levels)
        self.joint = joint
        self.groups = 1 if joint else len(levels)
        self.grid_size = size
        self.counts = tuple(levels)
        self.register_buffer("levels", torch.tensor(levels))
        self.register_buffer("values", torch.cat(values).float())
        self.register_buffer("_starts", self.levels.cumsum(0) - self.levels, persistent=False)
        self.register_buffer("_places", place_values(self.levels), persistent=False)

    @property
    def codebook_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Values of a token: the product of the levels, or the levels of a dimension."""
        return self.grid_size

    def dequantize(self, tokens: Tensor) -> Tensor:
        """tokens: (..., groups) int64 -> latents: (..., dim) float32."""
        digits = tokens_to_digits(tokens.squeeze(-1), self.levels, self._places) if self.joint else tokens
        return self.values_of(digits)

    def codebook_tensors(self) -> dict[str, Tensor]:
        """The levels and what each decodes to."""
        return {"levels": self.levels, "values": self.values}

    def tokens_of(self, digits: Tensor) -> Tensor:
        """digits: (..., dim) int64 -> tokens: (..., groups)."""
        return digits_to_tokens(digits, self._places).unsqueeze(-1) if self.joint else digits

    def values_of(self, digits: Tensor) -> Tensor:
        """digits: (..., dim) int64 -> the values that they stand for, (..., dim) float32."""
        # Neither `values[...]` nor `take`, which take longer.
        return self.values.index_select(0, (digits + self._starts).flatten()).view(digits.shape)


def moment_penalty(latents: Tensor, variance: float, mean_weight: float, variance_weight: float) -> Tensor:
    """The normaliser: holds each dimension of the latents near zero mean and a known variance (VP-VAE eq. 11).

    mean_weight·‖mean‖² + variance_weight·‖var − variance‖², both averaged over dimensions. A perturbation has a natural
    size only where the latents have one.

    Args:
        latents: (..., dim), moments over every axis but the last.
        variance: that each dimension should have.
        mean_weight: λ1.
        variance_weight: λ2.

    Returns:
        A scalar.
    """
    latents = latents.flatten(0, -2)
    mean_error = latents.mean(dim=0).square().mean()
    variance_error = (latents.var(dim=0, correction=0) - variance).square().mean()
    return mean_weight * mean_error + variance_weight * variance_error


# What the host knows of the device

Value = TypeVar("Value")


class HostMirror(Generic[Value]):
    """What the host has computed from tensors, kept for as long as nothing changes them.

    Reading a number out of a tensor waits for the device; a search index takes long to build. Here either is done once,
    and again after the tensors were loaded, moved to a device or changed in place. A copy begins empty.

    Args:
        compute: from the tensors to the value.
    """

    def __init__(self, compute: Callable[..., Value]) -> None:
        self._compute = compute
        self._value: Value | None = None
        self._seen: list[tuple[Tensor, int | None]] = []

    def read(self, *tensors: Tensor) -> Value:
        """The value for these tensors; computed where it is not known."""
        value = self.held(*tensors)
        if value is None:
            value = self.keep(self._compute(*tensors), *tensors)
        return value

    def held(self, *tensors: Tensor) -> Value | None:
        """The value, where it was computed from these very tensors and they are known to be unchanged since."""
        current = [(tensor, _version(tensor)) for tensor in tensors]
        same = len(current) == len(self._seen) and all(
            tensor is seen and version is not None and version == seen_version
            for (tensor, version), (seen, seen_version) in zip(current, self._seen, strict=True)
        )
        return self._value if same else None

    def keep(self, value: Value, *tensors: Tensor) -> Value:
        """Take `value` as what the tensors, as they are now, would give."""
        self._value = value
        self._seen = [(tensor, _version(tensor)) for tensor in tensors]
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return HostMirror, (self._compute,)


def _version(tensor: Tensor) -> int | None:
    """A count that grows with every change in place; None for a tensor made in inference mode, which has none."""
    return None if tensor.is_inference() else tensor._version


class Flag(nn.Module):
    """A yes/no that checkpoints keep, as the buffer `state`, and that a step reads without waiting for the device."""

    state: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.tensor(False))
        self._mirror = HostMirror(bool)

    @property
    def is_set(self) -> bool:
        """Whether it says yes."""
        return self._mirror.read(self.state)

    def set(self, value: bool = True) -> None:
        """Say yes, or no again."""
        self.state.fill_(value)
        self._mirror.keep(value, self.state)
