"""Distances to the k-th nearest member of a queue that keeps changing, exact at every moment.

On a CPU a kd-tree, although trees cannot be changed: members that left are moved to infinity inside it, where no
query finds them (its boxes only get looser, so no pruning goes wrong); members that came are kept in a second, small
tree; and both answers are merged. Once the second tree has grown, the first is built anew. Elsewhere, and in many
dimensions, matrix products shortlist groups of members, whose distances are then computed directly.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor

from tokcli.numerics import exact_float32
from tokcli.search.codes import count_rows_at_once, finite, smallest

TREE_DIM = 8
"""For 16·dim neighbours in a queue of 16·dim·1024 the tree takes a tenth of the products' time in dim 4, as long in
dim 8, ten times as long in dim 12."""

LEAF_SIZE = 32
"""With dozens of neighbours to find, small leaves save nothing; 16 and 64 are up to a tenth slower."""

FRESH_SHARE = 1 / 256
MOST_FRESH = 4096
"""The second tree is merged into the first at this share of the queue. Rebuilding then costs a few per cent, and few
queries have a fresh member among their nearest and must be asked twice."""

QUERIES_AT_ONCE = 8192
SPARE = 8
"""Members shortlisted beyond the number of neighbours: room for the rounding of the expansion, which is a thousand
times smaller than the step from the M-th to the (M+8)-th distance."""


class LiveIndex(Protocol):
    """Neighbours in a tensor of members (size, dim) whose rows are overwritten one after another."""

    def kth_distances(self, queries: Tensor, ranks: Sequence[int]) -> Tensor:
        """queries: (count, dim) -> (count, len(ranks)) float32, distances to the ranks-th nearest (1: the nearest)."""
        ...

    def overwritten(self, slots: Tensor) -> None:
        """Rows `slots` (count,) of the members have new values now."""


def build_live_index(members: Tensor) -> LiveIndex:
    """The fastest exact index of members (size, dim) for their device and dimension.

    It reads the tensor itself, so tell it of every change through `overwritten`.
    """
    if members.device.type == "cpu" and members.shape[1] <= TREE_DIM:
        return TreeIndex(members)
    return ProductIndex(members)


class TreeIndex:
    """kd-trees on the CPU, in float64."""

    def __init__(self, members: Tensor) -> None:
        self._members = members
        self._rebuild()

    def overwritten(self, slots: Tensor) -> None:
        """Rows `slots` (count,) of the members have new values now."""
        self._fresh_slots = np.union1d(self._fresh_slots, slots.numpy())
        if len(self._fresh_slots) > min(MOST_FRESH, FRESH_SHARE * len(self._members)):
            self._rebuild()
            return
        self._old.data[slots.numpy()] = np.inf
        self._fresh = _tree(_array(self._members[torch.from_numpy(self._fresh_slots)]))

    def kth_distances(self, queries: Tensor, ranks: Sequence[int]) -> Tensor:
        """queries: (count, dim) -> (count, len(ranks)) float32."""
        points = _array(queries)
        found = np.empty((len(points), len(ranks)), dtype=np.float32)
        # Queries in the order of a space-filling curve take the same way through the tree: 1.2 to 2 times faster.
        order = _curve_order(points)
        for start in range(0, len(points), QUERIES_AT_ONCE):
            block = order[start : start + QUERIES_AT_ONCE]
            found[block] = self._kth_of_block(points[block], ranks)
        return torch.from_numpy(found)

    def _rebuild(self) -> None:
        self._old = _tree(_array(self._members))
        self._fresh: cKDTree | None = None
        self._fresh_slots = np.empty(0, dtype=np.int64)

    def _kth_of_block(self, points: NDArray, ranks: Sequence[int]) -> NDArray:
        found = _nearest(self._old, points, list(ranks))
        if self._fresh is None:
            return found
        closer = _nearest(self._fresh, points, [1])[:, 0] < found.max(1)
        if closer.any():
            deepest = max(ranks)
            among_old = _nearest(self._old, points[closer], list(range(1, deepest + 1)))
            among_fresh = _nearest(self._fresh, points[closer], list(range(1, min(deepest, self._fresh.n) + 1)))
            both = np.concatenate([among_old, among_fresh], axis=1)
            columns = [rank - 1 for rank in ranks]
            both.partition(columns, axis=1)
            found[closer] = both[:, columns]
        return found


class ProductIndex:
    """Matrix products in float32, on any device, without waiting for it."""

    def __init__(self, members: Tensor) -> None:
        self._members = members

    def overwritten(self, slots: Tensor) -> None:
        """Nothing is kept between queries."""

    @torch.no_grad()
    def kth_distances(self, queries: Tensor, ranks: Sequence[int]) -> Tensor:
        """queries: (count, dim) -> (count, len(ranks)) float32."""
        members, queries = self._members.float(), finite(queries.detach().float())
        centre = members.mean(0)
        centred = members - centre
        squares = centred.square().sum(1)
        rows = count_rows_at_once(len(members), members.device)
        scores = queries.new_empty(min(rows, len(queries)), len(members))
        found = queries.new_empty(len(queries), len(ranks))
        with exact_float32(members.device):
            for start in range(0, len(queries), rows):
                block = queries[start : start + rows]
                torch.addmm(squares, block - centre, centred.T, alpha=-2.0, out=scores[: len(block)])
                columns = smallest(scores[: len(block)], min(max(ranks) + SPARE, len(members)))
                distances = (members[columns] - block.unsqueeze(1)).square_().sum(-1).sqrt_().sort(dim=1).values
                found[start : start + rows] = distances[:, [rank - 1 for rank in ranks]]
        return found


def _array(values: Tensor) -> NDArray:
    """A float64 copy that scipy accepts, with zero for what is not a number."""
    return np.nan_to_num(values.detach().float().numpy().astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _tree(points: NDArray) -> cKDTree:
    """A tree over the very array `points`: scipy makes no copy, so that points can be moved to infinity later."""
    return cKDTree(points, leafsize=LEAF_SIZE, balanced_tree=False)


def _nearest(tree: cKDTree, points: NDArray, ranks: list[int]) -> NDArray:
    return tree.query(points, k=ranks, workers=torch.get_num_threads())[0]


def _curve_order(points: NDArray) -> NDArray:
    """The order of points (count, dim) along a Z-shaped space-filling curve through up to 64 cells a side."""
    dim = points.shape[1]
    bits = min(6, 62 // dim)
    lowest, highest = points.min(0, initial=np.inf), points.max(0, initial=-np.inf)
    cells = (points - lowest) * ((1 << bits) - 1) / np.maximum(highest - lowest, 1e-30)
    cells = cells.astype(np.int64)
    keys = np.zeros(len(points), dtype=np.int64)
    for bit in range(bits):
        for axis in range(dim):
            keys |= ((cells[:, axis] >> bit) & 1) << (bit * dim + axis)
    return keys.argsort(kind="stable")
