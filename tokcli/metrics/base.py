"""A metric that judges items one by one and reports their mean.

Papers average per item; pooling the error of a whole set first gives another, higher figure for the same model.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tokcli.contracts import Metric, RoundTrip
from tokcli.numerics import to_float64


def merge_states(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The state of a metric that had seen everything that the metrics with these `states` saw: their sum by name.

    A name that one state lacks (a process that met no item) counts as zero. Results lie on the device where each
    name is first met. Raises ValueError for states that count different codebooks.
    """
    merged: dict[str, Tensor] = {}
    for state in states:
        for name, value in state.items():
            if name not in merged:
                merged[name] = value
            elif merged[name].shape == value.shape:
                merged[name] = merged[name] + value.to(merged[name].device)
            else:
                shapes = f"{tuple(merged[name].shape)} and {tuple(value.shape)}"
                raise ValueError(f"states of different metrics cannot be merged: '{name}' has the shapes {shapes}")
    return merged


class ItemMean(Metric):
    """The mean of a score over items; a subclass says how items are scored.

    state: `total`, float64, the sum of the scores; `items` and `unscored`, int64 counts. They follow the device of
    the signals, and nothing waits for that device before `compute` or `item_scores`. The scores themselves are no
    part of the state: they are told apart by the order of the updates, which another process does not know.
    """

    def __init__(self) -> None:
        self._scores: list[Tensor] = []
        self.state = {
            "total": torch.zeros((), dtype=torch.float64),
            "items": torch.zeros((), dtype=torch.int64),
            "unscored": torch.zeros((), dtype=torch.int64),
        }

    def scores(self, round_trip: RoundTrip) -> Tensor:
        """A score for each item, (batch,); not finite where an item cannot be judged."""
        raise TypeError(f"{type(self).__name__} does not define scores")

    @torch.no_grad()
    def update(self, round_trip: RoundTrip) -> None:
        """Judge one batch, item by item."""
        self.state = self._added(self.state, self.scores(round_trip))

    def _added(self, state: dict[str, Tensor], scores: Tensor) -> dict[str, Tensor]:
        """Keep these scores (batch,); returns `state` with them in it, on their device."""
        scores = to_float64(scores)
        self._scores.append(scores)
        judged = torch.isfinite(scores)
        seen = {"total": torch.where(judged, scores, 0.0).sum(), "items": judged.sum(), "unscored": (~judged).sum()}
        return merge_states([seen, state])

    def compute(self) -> float:
        """The mean score of the judged items; NaN before the first."""
        items = int(self.state["items"])
        return float(self.state["total"]) / items if items else math.nan

    def item_scores(self) -> Tensor:
        """(items,) float64 in the order of the updates; NaN where an item could not be judged."""
        scores = torch.cat([torch.empty(0, dtype=torch.float64), *(part.cpu() for part in self._scores)])
        return torch.where(torch.isfinite(scores), scores, torch.nan)

    @property
    def unscored(self) -> int:
        """Items that could not be judged, left out of the mean."""
        return int(self.state["unscored"])
