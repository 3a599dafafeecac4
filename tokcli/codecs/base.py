"""What a classical codec promises: signals become the bytes of a file, and come back."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar

import torch
from torch import Tensor

from tokcli.contracts import ModalityName, Part


class ClassicalCodec(Part, ABC):
    """Signals (channels, *size) in [-1, 1] to the bytes of a file and back.

    Attributes:
        modality: What it codes.
        settings: The qualities it can be asked for; a larger one costs more bytes.
        searched_samples: Pixels or audio samples to look for a setting on.
    """

    modality: ClassVar[ModalityName]
    settings: ClassVar[range]
    searched_samples: ClassVar[int] = 8_000_000

    def setting_name(self, setting: int) -> str:
        """What a setting is called, in a few letters."""
        return f"q{setting}"

    @abstractmethod
    def compress(self, signal: Tensor, setting: int, sample_rate: int | None) -> bytes:
        """The file of one signal.

        Args:
            signal: (channels, *size) in [-1, 1].
            setting: One of `settings`.
            sample_rate: Of audio, in Hz; None for images.

        Raises:
            UsageError: The codec does not know this sample rate.
        """

    @abstractmethod
    def decompress(self, data: bytes) -> Tensor:
        """The signal of one file, (channels, *size) float32; at least as long as what was compressed."""

    def compress_blocks(self, blocks: Iterable[Tensor], setting: int, sample_rate: int | None) -> bytes:
        """The file of one signal that comes in blocks (channels, samples); this takes it whole.

        Raises:
            UsageError: As `compress` does.
        """
        return self.compress(torch.cat(list(blocks), dim=1), setting, sample_rate)

    def decompress_blocks(self, data: bytes) -> Iterator[Tensor]:
        """What `decompress` gives, in blocks (channels, samples); this gives it whole."""
        yield self.decompress(data)

    @abstractmethod
    def header_bytes(self, data: bytes) -> int:
        """How many bytes of a file are container, headers and tables instead of coded signal."""

    @abstractmethod
    def protocol(self) -> dict[str, object]:
        """The choices that the figures depend on, for the record."""
