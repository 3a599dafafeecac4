"""The nearest code of every latent, exact on every device.

Two routes give the same answer. On a CPU in few dimensions, a kd-tree over the codes. Elsewhere, matrix products on
blocks of bounded size: ‖e‖² − 2 z·e (centred, full float32) only *shortlists* a few codes, and their distances are
then computed directly in float64, so that neither the expansion's rounding nor the batch's size decides a token.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor

from tokcli.numerics import exact_float32, to_float64

TREE_DIM = 8
"""Above it the matrix products win: at 16384 codes the tree takes 2 µs a latent for dim 5, 11 for 8, 30 for 10 and
60 for 12, the products about 30 for all of these."""

SHORTLIST = 4
"""Codes compared in float64. The expansion errs by a few float32 roundings, so more than this many codes would have
to be equally near, to 1e-6 of the spread of the codebook, before the answer could differ from the exact one."""

MOST_DEPTH = 128
"""Columns in a group, at most."""

CPU_SCORES = 1 << 20
DEVICE_SCORES = 1 << 26
"""Scores held at once: 4 MiB of float32 stays in the caches of a CPU (16 MiB costs a third more), 256 MiB keeps any
other device busy."""


class CodeIndex:
    """Nearest codes in a codebook that is asked many times.

    Args:
        codebook: (size, dim); the index does not follow changes to it.
    """

    def __init__(self, codebook: Tensor) -> None:
        codes = codebook.detach().float()
        self._tree = None
        if codes.device.type == "cpu" and codes.shape[1] <= TREE_DIM:
            self._tree = cKDTree(finite(codes).numpy().astype(np.float64), leafsize=32)
        else:
            self._codes = codes
            self._centre = codes.mean(0)
            self._centred = codes - self._centre
            self._squares = self._centred.square().sum(1)

    def nearest(self, latents: Tensor) -> Tensor:
        """latents: (count, dim) -> (count,) int64, the nearest code by Euclidean distance.

        Exact up to exact ties. A latent that is not finite gets some code.
        """
        return self.query(latents, 1).tokens.squeeze(1)

    @torch.no_grad()
    def query(self, latents: Tensor, neighbours: int) -> "Neighbours":
        """The nearest codes, at most SHORTLIST and not more than there are, of latents (count, dim)."""
        latents = finite(latents.detach().float())
        if self._tree is not None:
            ranks = list(range(1, neighbours + 1))
            distances, tokens = self._tree.query(latents.numpy(), k=ranks, workers=torch.get_num_threads())
            tokens = torch.from_numpy(tokens.astype(np.int64, copy=False))
            return Neighbours(tokens, torch.from_numpy(distances).square_())
        rows = count_rows_at_once(len(self._codes), latents.device)
        scores = latents.new_empty(min(rows, len(latents)), len(self._codes))
        tokens = latents.new_empty(len(latents), neighbours, dtype=torch.int64)
        distances = to_float64(latents.new_empty(len(latents), neighbours))
        with exact_float32(latents.device):
            for start in range(0, len(latents), rows):
                block = latents[start : start + rows]
                found = self._query_block(block, neighbours, scores[: len(block)])
                tokens[start : start + rows] = found.tokens
                distances[start : start + rows] = found.squared_distances
        return Neighbours(tokens, distances)

    def _query_block(self, latents: Tensor, neighbours: int, scores: Tensor) -> "Neighbours":
        torch.addmm(self._squares, latents - self._centre, self._centred.T, alpha=-2.0, out=scores)
        few = min(SHORTLIST, scores.shape[1])
        columns = smallest(scores, few).sort(-1).values
        differences = to_float64(self._codes[columns]) - to_float64(latents).unsqueeze(1)
        nearest = differences.square().sum(-1).sort(dim=-1, stable=True)
        tokens = columns.gather(1, nearest.indices[:, :neighbours].to(columns.device))
        return Neighbours(tokens, nearest.values[:, :neighbours])


@dataclass(frozen=True)
class Neighbours:
    """Codes by increasing distance.

    tokens: (count, neighbours) int64. squared_distances: the same shape, float64, on the CPU where the device has none.
    """

    tokens: Tensor
    squared_distances: Tensor


def nearest_code(latents: Tensor, codebook: Tensor) -> Tensor:
    """latents: (count, dim), codebook: (size, dim) -> (count,) int64, the nearest code by Euclidean distance.

    Exact up to exact ties, in bounded memory; see `CodeIndex` where the codebook does not change between calls.
    """
    return CodeIndex(codebook).nearest(latents)


# What the matrix-product routes share: the few smallest of many scores, in bounded memory. ‖z − e‖² expanded as
# ‖e‖² − 2 z·e + ‖z‖² is one matrix product, but it loses digits where points are near each other and far from the
# origin. So the expansion only picks candidates, whose distances are then computed directly.


def count_rows_at_once(columns: int, device: torch.device) -> int:
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


def finite(values: Tensor) -> Tensor:
    """Zero for what is not a number: scipy refuses it, and a diverged training must reach the loop, which explains."""
    return values.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
