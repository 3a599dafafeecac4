"""What the matrix-product routes share: the few smallest of many scores, in bounded memory and full float32.

‖z − e‖² expanded as ‖e‖² − 2 z·e + ‖z‖² is one matrix product, but it loses digits where points are near each other
and far from the origin. So the expansion only picks candidates, whose distances are then computed directly.
"""

import math

import torch
from torch import Tensor

MOST_DEPTH = 128
"""Columns in a group, at most."""

CPU_SCORES = 1 << 20
DEVICE_SCORES = 1 << 26
"""Scores held at once: 4 MiB of float32 stays in the caches of a CPU (16 MiB costs a third more), 256 MiB keeps any
other device busy."""


def rows_at_once(columns: int, device: torch.device) -> int:
    """How many rows of scores fit the memory bound; a few at least, or the cost of a call outweighs its work."""
    return max(8, (CPU_SCORES if device.type == "cpu" else DEVICE_SCORES) // columns)


def smallest(scores: Tensor, count: int) -> Tensor:
    """Columns of the `count` smallest scores of each row, by increasing score: (rows, columns) -> (rows, count).

    They lie in the `count` groups of columns with the smallest minima, so `topk`, slow on long rows, only sees those
    minima and the members of those groups. Columns of one group are far apart: the minima then vectorise.
    """
    rows, columns = scores.shape
    depth = min(MOST_DEPTH, math.isqrt(columns // count))
    width = columns // max(depth, 1)
    if depth < 2 or width <= count:
        return scores.topk(count, largest=False).indices
    minima = scores[:, : depth * width].view(rows, depth, width).amin(1)
    best = minima.topk(count, largest=False, sorted=False).indices
    members = (best.unsqueeze(-1) + width * torch.arange(depth, device=scores.device)).flatten(1)
    rest = torch.arange(depth * width, columns, device=scores.device).expand(rows, -1)
    members = torch.cat([members, rest], dim=1)
    return members.gather(1, scores.gather(1, members).topk(count, largest=False).indices)


def version(tensor: Tensor) -> int | None:
    """A count that grows with every change in place; None for a tensor made in inference mode, which has none."""
    return None if tensor.is_inference() else tensor._version


def finite(values: Tensor) -> Tensor:
    """Zero for what is not a number: scipy refuses it, and a diverged training must reach the loop, which explains."""
    return values.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
