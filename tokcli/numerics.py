"""How exactly to compute: float32 for what decides a token, float64 for sums over a data set, 8 bits for the eye."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor


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


def to_float64(values: Tensor) -> Tensor:
    """`values` in float64, on the CPU where their own device has no float64 (Apple's)."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def to_levels(signal: Tensor) -> Tensor:
    """Signals in [-1, 1], any shape -> pixel values 0, 1, …, 255 in float32, rounded to the nearest.

    Truncation would darken every image by half a level and cost a faithful reconstruction several decibels.
    """
    return signal.float().add(1).mul_(127.5).clamp_(0, 255).round_()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was not enough memory, on the device or beside it; torch says the latter in words alone."""
    said = isinstance(error, RuntimeError) and ("not enough memory" in str(error) or "allocate memory" in str(error))
    return said or isinstance(error, MemoryError | torch.OutOfMemoryError)
