"""What the discriminators of sound share: several judges side by side, each hearing the sound in its own way."""

from collections.abc import Iterable
from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from tokcli.contracts import Discriminator, ModalityName

Norm = Literal["weight", "spectral"]
NORMS = {"weight": weight_norm, "spectral": spectral_norm}
"""`weight` as published. `spectral` bounds every slope (arXiv 1802.05957), so that quiet sounds hardly move a logit."""


class SoundDiscriminator(Discriminator):
    """Judges whose logits are kept apart, so that each weighs the same however many it gives.

    A sound of several channels is judged channel by channel.
    """

    modality: ClassVar[ModalityName] = "audio"

    def __init__(self, judges: Iterable[nn.Module]) -> None:
        super().__init__()
        self.judges = nn.ModuleList(judges)

    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        """signals: (batch, channels, samples) in [-1, 1], any length -> logits (batch, 1, places) of each judge."""
        sounds = signals.flatten(0, 1).unsqueeze(1)
        return tuple(judge(sounds).reshape(len(signals), 1, -1) for judge in self.judges)


def check_arguments(width: int, norm: Norm) -> None:
    """Raises ValueError for a width or a norm that does not fit."""
    if width < 1:
        raise ValueError(f"width is {width}, expected at least 1 channel")
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}, expected 'weight' or 'spectral'")


def convolution(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int],
    norm: Norm,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
) -> nn.Module:
    """A normalised convolution that keeps the size where its stride is 1, and never leaves less than one position."""
    padding = tuple(reach * (length // 2) for reach, length in zip(dilation, kernel, strict=True))
    return NORMS[norm](nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation))
