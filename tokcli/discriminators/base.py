"""What a discriminator promises the training loop."""

from typing import ClassVar

from torch import Tensor, nn

from tokcli.contracts import Modality


class Discriminator(nn.Module):
    """Signals to logits, above zero where they look like originals. `modality` is what it judges.

    It is only ever used in training mode, so it holds no statistics that training does not need.
    """

    modality: ClassVar[Modality]

    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        """signals: (batch, channels, *size) in [-1, 1] -> logits of any number of places, (batch, 1, *places).

        One tensor for each scale at which signals are judged; scales weigh the same, whatever their places.
        """
        raise TypeError(f"{type(self).__name__} does not define forward")
