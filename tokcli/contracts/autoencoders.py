"""Signals to latents and back."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from tokcli.contracts.parts import ModalityName, Part
from tokcli.schema import Count


class Autoencoder(Part, nn.Module, ABC):
    """Signals to latents and back.

    Args:
        stride: signal samples per position along each axis.
        latent_dim: channels that `encode` gives.
        decoder_dim: channels that `decode` reads; None: `latent_dim`.
        sample_rate: of audio, in Hz; None for images.
        window: positions that are computed at a time, each with its context, so that memory does not grow with the
            signal; None where signals are only ever computed whole. Signals with windows have one axis.

    Attributes:
        modality: what the signals are.
        channels: of the signal.
        context: positions on each side of its own on which a position's latents depend, and the samples of a
            position's latents; only where there is a window.
    """

    modality: ClassVar[ModalityName]
    channels: ClassVar[int]
    stride: int
    latent_dim: int
    decoder_dim: int
    sample_rate: int | None = None
    window: int | None = None
    context: int = 0

    def __init__(
        self,
        stride: Count,
        latent_dim: Count,
        decoder_dim: Count | None = None,
        sample_rate: Count | None = None,
        window: Count | None = None,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.latent_dim = latent_dim
        self.decoder_dim = latent_dim if decoder_dim is None else decoder_dim
        self.sample_rate = sample_rate
        self.window = window

    @abstractmethod
    def encode(self, signal: Tensor) -> Tensor:
        """signal: (batch, channels, *size), sizes divisible by stride -> latents: (batch, *positions, latent_dim)."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """latents: (batch, *positions, decoder_dim) -> signal: (batch, channels, *size)."""

    @property
    def last_layer(self) -> nn.Parameter | None:
        """The decoder's last weight, where an adversary's gradient can be balanced; None: it cannot be."""
        return None
