"""Which device a command runs on."""

import torch

from tokcli.errors import UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str) -> torch.device:
    """The device called `name`; auto takes CUDA, then MPS, then the CPU.

    Raises UsageError for a device that this machine does not have.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if name not in available:
        raise UsageError(f"there is no device '{name}'; expected one of: {', '.join(DEVICES)}")
    if not available[name]:
        raise UsageError(f"this machine has no usable {name} device; try --device auto")
    return torch.device(name)


def batch_size_for(device: torch.device) -> int:
    """Items at a time where nobody said: enough to fill a GPU, few enough to keep a CPU's caches and memory calm."""
    return 8 if device.type == "cpu" else 32
