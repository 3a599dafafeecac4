"""How exactly to compute: float32 for what decides a token, float64 for sums over a data set, 8 bits for the eye."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Plain float32 within this context: no autocast, no TF32, no algorithm picked by a timing race."""
    cudnn = torch.backends.cudnn
    kept = cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = False, False, True
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = kept
        torch.set_float32_matmul_precision(precision)


def lay_out(module: nn.Module, channels_last: bool) -> None:
    """Lay the module's weights out in memory; the layout decides which kernels run, and those the last bits."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module.to(memory_format=layout)  # pyright: ignore[reportCallIssue] - torch's stubs lack this overload


def to_float64(values: Tensor) -> Tensor:
    """`values` in float64, on the CPU where their own device has no float64 (Apple's)."""
    return (values.cpu() if values.device.type == "mps" else values).double()


LIMB = 30
"""Bits of each limb of an exact sum: 2^33 values may be added before one overflows."""

LIMBS = 73
UNIT = 1126
"""The first limb counts units of 2^-1126, which every float64 is a multiple of."""


def split_exactly(values: Tensor) -> Tensor:
    """values: (count,) float64, finite -> (LIMBS,) int64 that stand for their sum, exactly.

    Such sums add by limb, so that the whole is the same in whatever order and by however many processes it is made;
    sums of float64 differ in their last bits. Nothing waits for the device.
    """
    fraction, exponent = torch.frexp(values)
    whole, place = (fraction * 2.0**53).long(), exponent.long() + (UNIT - 53)
    index, shift, mask = place // LIMB, place % LIMB, 2**LIMB - 1
    low, high = (whole & mask) << shift, (whole >> LIMB) << shift
    limbs = torch.zeros(LIMBS, dtype=torch.int64, device=values.device)
    for offset, part in enumerate((low & mask, (low >> LIMB) + (high & mask), high >> LIMB)):
        limbs.index_add_(0, index + offset, part)
    return limbs


def read_exactly(limbs: Tensor) -> Fraction:
    """The number that limbs (LIMBS,) of `split_exactly`, or a sum of such, stand for. Waits for the device."""
    return Fraction(sum(limb << LIMB * index for index, limb in enumerate(limbs.tolist())), 1 << UNIT)


def to_levels(signal: Tensor) -> Tensor:
    """Signals in [-1, 1], any shape -> pixel values 0, 1, …, 255 in float32, rounded to the nearest.

    Truncation would darken every image by half a level and cost a faithful reconstruction several decibels.
    """
    return signal.float().add(1).mul_(127.5).clamp_(0, 255).round_()


def pack_levels(signals: Tensor) -> Tensor:
    """Signals of images, any shape float32 -> uint8 where that says the same to the bit, else the signals themselves.

    Images of 8 bits take a quarter so on their way between processes and to a device.
    """
    levels = to_levels(signals).to(torch.uint8)
    return levels if torch.equal(unpack_levels(levels), signals) else signals


def unpack_levels(packed: Tensor) -> Tensor:
    """What `pack_levels` was given, on whatever device: uint8 becomes float32 in [-1, 1]."""
    return packed.float().mul_(1 / 127.5).sub_(1.0) if packed.dtype == torch.uint8 else packed


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was not enough memory, on the device or beside it; torch says the latter in words alone."""
    said = isinstance(error, RuntimeError) and ("not enough memory" in str(error) or "allocate memory" in str(error))
    return said or isinstance(error, MemoryError | torch.OutOfMemoryError)
