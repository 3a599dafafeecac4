"""What the processes of one run tell each other. In a run of one process, each of these is the identity.

Call the collective ones where every process does. Importing this module does not import torch: the command line asks
`first_process` before it knows whether it needs it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")


def first_process() -> bool:
    """Whether this process speaks for its run: the first of those that share it, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def world_size() -> int:
    """How many processes have joined this run."""
    from torch import distributed

    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    from torch import distributed

    return distributed.get_rank() if world_size() > 1 else 0


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of every rank's `tensor`, in place; the same shape on all."""
    from torch import distributed

    if world_size() > 1:
        distributed.all_reduce(tensor)
    return tensor


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean of every rank's `tensor`, the same shape on all; a tensor of its own where there are several."""
    return tensor if world_size() == 1 else sum_over_ranks(tensor.clone()) / world_size()


def smallest_over_ranks(number: int, device: torch.device) -> int:
    """The smallest of every rank's `number`. Waits for the device."""
    import torch

    if world_size() == 1:
        return number
    smallest = torch.tensor(number, device=device)
    torch.distributed.all_reduce(smallest, op=torch.distributed.ReduceOp.MIN)
    return int(smallest)


def copy_from_first_rank(tensor: Tensor) -> Tensor:
    """The first rank's `tensor` on every rank, in place; the same shape on all."""
    from torch import distributed

    if world_size() > 1:
        distributed.broadcast(tensor, src=0)
    return tensor


def gather_rows(rows: Tensor) -> Tensor:
    """Every rank's rows, interleaved row by row and the same on all ranks.

    Args:
        rows: (count, ...), the same shape on all ranks.

    Returns:
        (world · count, ...).
    """
    import torch

    if world_size() == 1:
        return rows
    pieces = [torch.empty_like(rows) for _ in range(world_size())]
    torch.distributed.all_gather(pieces, rows.contiguous())
    return torch.stack(pieces, dim=1).flatten(0, 1)


def gather_objects(value: T) -> list[T]:
    """Every rank's `value`, by rank, in every process; its tensors lie on the CPU, and shapes and keys may differ."""
    from torch import distributed

    if world_size() == 1:
        return [value]
    gathered: list[T] = [value] * world_size()
    distributed.all_gather_object(gathered, value)
    return gathered


def is_loss_of_process(error: BaseException) -> bool:
    """Whether an error is that another process of this run has ended, which a collective finds out."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return False
    from torch import distributed

    lost = isinstance(error, distributed.DistError) or "gloo" in str(error)  # gloo's own have no class
    return isinstance(error, RuntimeError) and lost


def count_cores() -> int:
    """The cores of this machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
