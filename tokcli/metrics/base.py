"""A metric that scores items one by one and reports their mean.

Papers average per item; pooling the error of a whole set first gives another, higher figure for the same model.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tokcli.contracts import Metric, RoundTrip
from tokcli.numerics import LIMBS, read_exactly, split_exactly, to_float64


def merge_states(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The state of a metric that had seen everything that the metrics with these `states` saw: their sum by name.

    A name that one state lacks (a process that met no item) counts as zero. Results lie on the device where each
    name is first met.

    Raises:
        ValueError: The states count different codebooks.
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


def require_sample_rate(round_trip: RoundTrip) -> int:
    """The sample rate in Hz.

    Raises:
        ValueError: The round trip has none.
    """
    if round_trip.sample_rate is None:
        raise ValueError("this metric judges audio, and the round trip has no sample_rate")
    return round_trip.sample_rate


class ItemMean(Metric):
    """The mean of a score over items; a subclass says how items are scored.

    The state holds `total`, the exact sum of the scores (`split_exactly`), `items` and `unscored`, all of them int64,
    so that states add exactly. They follow the device of the signals, and nothing waits for that device before
    `compute` or `item_scores`. The scores themselves are no part of the state: they are told apart by the order of the
    updates, which another process does not know.
    """

    def __init__(self) -> None:
        self._scores: list[Tensor] = []
        self.state = {
            "total": torch.zeros(LIMBS, dtype=torch.int64),
            "items": torch.zeros((), dtype=torch.int64),
            "unscored": torch.zeros((), dtype=torch.int64),
        }

    @abstractmethod
    def scores(self, round_trip: RoundTrip) -> Tensor:
        """A score for each item, (batch,); not finite where an item cannot be scored.

        A metric that scores elsewhere gives what is known by now, in the order of the updates, and takes in the rest
        when it is told to `finish`.
        """

    @torch.no_grad()
    def update(self, round_trip: RoundTrip) -> None:
        """Score one batch, item by item."""
        self.add_scores(self.scores(round_trip))

    def add_scores(self, scores: Tensor) -> None:
        """Take in the scores (batch,) of the next items."""
        scores = to_float64(scores)
        self._scores.append(scores)
        scored = torch.isfinite(scores)
        total = split_exactly(torch.where(scored, scores, 0.0))
        seen = {"total": total, "items": scored.sum(), "unscored": (~scored).sum()}
        self.state = merge_states([seen, self.state])

    def restart(self, state: Mapping[str, Tensor]) -> None:
        """As declared."""
        super().restart(state)
        self._scores = []

    def skip_item(self) -> None:
        """Count an item that came in parts as unscored; its score is NaN."""
        self.add_scores(torch.tensor([math.nan], dtype=torch.float64))
        self.state = merge_states([{"too_long": torch.ones((), dtype=torch.int64)}, self.state])

    def compute(self) -> float:
        """The mean over the items that could be scored; NaN before the first."""
        items = int(self.state["items"])
        return float(read_exactly(self.state["total"]) / items) if items else math.nan

    def item_scores(self) -> Tensor:
        """(items,) float64 in the order of the updates; NaN where an item could not be scored."""
        scores = torch.cat([torch.empty(0, dtype=torch.float64), *(part.cpu() for part in self._scores)])
        return torch.where(torch.isfinite(scores), scores, torch.nan)
