"""What is scored, and what scores it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from tokcli.contracts.parts import ModalityName, Part


@dataclass(frozen=True)
class RoundTrip:
    """A batch before and after the tokenizer: what metrics score.

    Attributes:
        reference: the originals, (batch, channels, *size) in [-1, 1].
        reconstruction: what came back, of the same shape.
        tokens: (batch, *positions, groups) int64, or None where there are none.
        codebook_size: the values that a token can take.
        sample_rate: of audio, in Hz; None for images.
        about: what else is known of each item, as the words that are said in it; empty where nobody told.
    """

    reference: Tensor
    reconstruction: Tensor
    tokens: Tensor | None
    codebook_size: int
    sample_rate: int | None = None
    about: Sequence[Mapping[str, Any]] = ()


class ItemParts(ABC):
    """One item that a metric scores as its parts come, for a signal that is too long to be held.

    It leaves no trace in the metric before `finish`: an item that cannot be read to its end is let go of.
    """

    @abstractmethod
    def add(self, part: RoundTrip) -> None:
        """Take in the next part: a round trip of one item (batch 1), whose samples follow those of the last part."""

    @abstractmethod
    def finish(self) -> None:
        """Give the metric the item, which is complete."""


class Metric(Part, ABC):
    """A figure with a state of tensors that add, so that merging processes is a sum.

    Attributes:
        modality: None where it scores tokens or any signal.
        needs_tokens: whether it counts tokens.
        higher_is_better: the direction in which the best is sought; None where neither is better by itself.
        unit: of the figure, as people write it; empty where it has none.
        meaning: what the figure says, in half a sentence.
        state: tensors by name. `unscored`, where there is one, counts the items that could not be scored, and
            `too_long` those of them that came in parts; `counts`, where there is one, counts codes. It is read after
            `finish` only.
    """

    modality: ClassVar[ModalityName | None] = None
    needs_tokens: ClassVar[bool] = False
    higher_is_better: ClassVar[bool | None] = None
    unit: ClassVar[str] = ""
    meaning: ClassVar[str] = ""
    state: dict[str, Tensor]

    @abstractmethod
    def update(self, round_trip: RoundTrip) -> None:
        """Score one batch, item by item."""

    def start_item(self) -> ItemParts | None:
        """What scores an item that comes in parts; None where only whole items can be scored.

        Where the figure of parts is not that of the whole signal, `protocol` says by which rule it is computed.
        """
        return None

    def skip_item(self) -> None:
        """Count an item that came in parts as unscored."""
        for name in ("unscored", "too_long"):
            self.state[name] = self.state.get(name, torch.zeros((), dtype=torch.int64)) + 1

    def finish(self) -> None:
        """Wait for work that `update` left to other processes. Called once after the last update."""

    def restart(self, state: Mapping[str, Tensor]) -> None:
        """Go on as a metric that has seen what `state` says, and no item before the next one."""
        self.state = dict(state)

    @abstractmethod
    def compute(self) -> float:
        """The figure over everything seen; NaN before the first item."""

    @property
    def unscored(self) -> int:
        """Items that could not be scored; they are counted and never averaged in."""
        return int(self.state["unscored"]) if "unscored" in self.state else 0

    @property
    def too_long(self) -> int:
        """Items among the unscored that came in parts, where the metric scores whole ones only."""
        return int(self.state["too_long"]) if "too_long" in self.state else 0

    @property
    def counts(self) -> Tensor | None:
        """How often each code occurred, (groups, codebook_size) int64, dense or sparse; None where none are counted."""
        return self.state.get("counts")

    @property
    def undersampled(self) -> bool:
        """Whether too little was seen for the figure to be trusted."""
        return False

    def remark(self) -> str | None:
        """What a careful reader of the figure should be told; None where there is nothing."""
        return None

    def item_scores(self) -> Tensor | None:
        """The score of each item this process has seen, (items,) float64 on the CPU in the order of the updates.

        NaN where an item could not be scored; None for a metric that scores the set and not its items.
        """
        return None

    def protocol(self) -> dict[str, object]:
        """The choices that the figure depends on, for the record."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
