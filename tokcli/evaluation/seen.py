"""What a walk over some items of a source leaves: states that add, and the scores of the items.

Of all the walks over a source, whoever made them, these add up to what one walk would have left: exactly but for rFID,
whose sums are of float64, in the order of the parts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tokcli.data.items import Failure
from tokcli.evaluation.walk import Walk
from tokcli.metrics import merge_states
from tokcli.metrics.tokens import DENSE_CODES

COUNTS = "counts"
"""The name of a state that counts codes, few of which occur in a part."""


@dataclass(frozen=True)
class Seen:
    """What metrics have seen of some items.

    Attributes:
        indices: (items,) int64, where the items scored lie in the source.
        scores: by metric (items,) float64, NaN where it could not score one; only of metrics that score items.
        states: by metric its state.
        failed: items that could not be read, by their indices.
    """

    indices: Tensor
    scores: Mapping[str, Tensor]
    states: Mapping[str, Mapping[str, Tensor]]
    failed: Mapping[int, Failure]

    def cpu(self) -> "Seen":
        """The same where any process can take it."""
        states = {name: {key: value.cpu() for key, value in state.items()} for name, state in self.states.items()}
        return Seen(self.indices, self.scores, states, self.failed)

    def list_failed(self) -> list[Failure]:
        """The items that could not be read, in the order of the source."""
        return [self.failed[index] for index in sorted(self.failed)]


def take_seen(walk: Walk) -> Seen:
    """What a walk has left."""
    scores = {name: metric.item_scores() for name, metric in walk.metrics.items()}
    return Seen(
        torch.tensor(walk.seen, dtype=torch.int64),
        {name: values for name, values in scores.items() if values is not None},
        {name: metric.state for name, metric in walk.metrics.items()},
        dict(walk.failed),
    )


def add_up(parts: Iterable[Seen]) -> Seen:
    """What one walk over all of it would have left, in the order of the source. At least one part is needed."""
    indices: list[Tensor] = []
    scores: dict[str, list[Tensor]] = {}
    states: dict[str, dict[str, Tensor]] = {}
    failed: dict[int, Failure] = {}
    for part in parts:
        indices.append(part.indices)
        failed |= part.failed
        for name, values in part.scores.items():
            scores.setdefault(name, []).append(values)
        for name, state in part.states.items():
            states[name] = merge_states([states.get(name, {}), dict(state)])
    together = torch.cat(indices)
    order = together.argsort()
    return Seen(together[order], {name: torch.cat(each)[order] for name, each in scores.items()}, states, failed)


def pack_seen(seen: Seen) -> tuple[dict[str, Tensor], list[list[Any]]]:
    """Tensors for a file, on the CPU, and the failures as plain JSON values."""
    seen = seen.cpu()
    tensors = {"indices": seen.indices} | {f"scores/{name}": values for name, values in seen.scores.items()}
    for metric, state in seen.states.items():
        for name, value in state.items():
            tensors |= {f"state/{metric}/{key}": part for key, part in _pack_state(name, value).items()}
    return tensors, [[index, failure.item, failure.reason] for index, failure in sorted(seen.failed.items())]


def unpack_seen(tensors: Mapping[str, Tensor], failed: Iterable[Iterable[Any]]) -> Seen:
    """What `pack_seen` packed. Raises KeyError, ValueError or TypeError for anything else."""
    scores: dict[str, Tensor] = {}
    states: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "scores":
            scores[rest] = value
        elif kind == "state":
            metric, _, key = rest.rpartition("/")
            states.setdefault(metric, {})[key] = value
    failures = {int(index): Failure(item, reason) for index, item, reason in failed}
    return Seen(tensors["indices"], scores, {name: _unpack_state(state) for name, state in states.items()}, failures)


def _pack_state(name: str, value: Tensor) -> dict[str, Tensor]:
    """A state as it is; of counts only those that are not zero."""
    if name != COUNTS:
        return {name: value}
    sparse = value.to_sparse().coalesce()
    shape = torch.tensor(value.shape, dtype=torch.int64)
    return {"counts.codes": sparse.indices(), "counts.times": sparse.values(), "counts.shape": shape}


def _unpack_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    if "counts.shape" not in state:
        return state
    codes, times, shape = (state.pop(f"counts.{part}") for part in ("codes", "times", "shape"))
    groups, size = shape.tolist()
    counts = torch.sparse_coo_tensor(codes, times, (groups, size), check_invariants=True)
    return state | {COUNTS: counts.to_dense() if size <= DENSE_CODES else counts.coalesce()}
