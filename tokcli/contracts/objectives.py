"""What training asks of a reconstruction."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from tokcli.contracts.parts import ModalityName, Part
from tokcli.schema import NotNegative


class Loss(Part, nn.Module, ABC):
    """A weighted reconstruction loss.

    Args:
        weight: the factor by which the training loop multiplies it.

    Attributes:
        modality: what it compares; None where it suits every signal.
        sample_rate: of the audio that it is made for, in Hz; None where it suits every rate. Training at another rate
            is refused.
    """

    modality: ClassVar[ModalityName | None] = None
    weight: float
    sample_rate: int | None = None

    def __init__(self, weight: NotNegative = 1.0) -> None:
        super().__init__()
        self.weight = float(weight)

    @abstractmethod
    def forward(self, reconstruction: Tensor, reference: Tensor) -> Tensor:
        """Both (batch, channels, *size) in [-1, 1] -> scalar, not yet weighted."""


@dataclass(frozen=True)
class Verdict:
    """What a discriminator makes of signals.

    Attributes:
        logits: one tensor for each scale at which signals are judged, (batch, 1, *places) each.
        features: what its inner layers see on the way, (batch, ...) each, the same layers in the same order for all
            signals of one shape.
    """

    logits: tuple[Tensor, ...]
    features: tuple[Tensor, ...]


class Discriminator(Part, nn.Module, ABC):
    """Signals to logits, above zero where they look like originals.

    It is only ever used in training mode, so it holds no statistics that training does not need.

    Attributes:
        modality: what it tells apart.
    """

    modality: ClassVar[ModalityName]

    @abstractmethod
    def discriminate(self, signals: Tensor) -> Verdict:
        """signals: (batch, channels, *size) in [-1, 1] -> logits of any number of places, and the features behind them.

        Scales weigh the same, whatever their places.
        """

    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        """The logits of `discriminate` alone."""
        return self.discriminate(signals).logits
