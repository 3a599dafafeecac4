"""What a classical codec promises, and how it is judged: as a round trip whose rate is that of its files."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from tokcli.contracts import ModalityName, RoundTrip


class Codec:
    """Signals (channels, *size) in [-1, 1] to the bytes of a file and back.

    settings: the qualities it can be asked for; a larger one costs more bytes.
    searched_samples: pixels or audio samples to look for a setting on.
    """

    modality: ClassVar[ModalityName]
    settings: ClassVar[range]
    searched_samples: ClassVar[int] = 8_000_000

    def setting_name(self, setting: int) -> str:
        """What a setting is called, in a few letters."""
        return f"q{setting}"

    def compress(self, signal: Tensor, setting: int, sample_rate: int | None) -> bytes:
        """The file of one signal. Raises UsageError for a sample rate that the codec does not know."""
        raise TypeError(f"{type(self).__name__} does not define compress")

    def decompress(self, data: bytes) -> Tensor:
        """The signal of one file, (channels, *size) float32."""
        raise TypeError(f"{type(self).__name__} does not define decompress")

    def header_bytes(self, data: bytes) -> int:
        """How many bytes of a file are container, headers and tables instead of coded signal."""
        raise TypeError(f"{type(self).__name__} does not define header_bytes")

    def protocol(self) -> dict[str, object]:
        """The choices that the figures depend on, for the record."""
        raise TypeError(f"{type(self).__name__} does not define protocol")


class CodedTrip:
    """A codec at one setting, as a thing to be judged; counts the bits of every file it makes.

    bits, header_bits: of all files so far. samples: pixels or audio samples in them.
    """

    device = torch.device("cpu")

    def __init__(self, codec: Codec, setting: int, sample_rate: int | None) -> None:
        self.codec = codec
        self.setting = setting
        self.sample_rate = sample_rate
        self.bits = self.header_bits = self.samples = 0

    def round_trip(self, signals: Tensor) -> RoundTrip:
        """signals: (batch, channels, *size) -> what the codec's files give back, item by item."""
        returned = torch.stack([self._returned(signal) for signal in signals])
        return RoundTrip(signals, returned, None, 1, self.sample_rate)

    def _returned(self, signal: Tensor) -> Tensor:
        data = self.count(signal)
        return self.codec.decompress(data)[(..., *(slice(length) for length in signal.shape[1:]))]

    def count(self, signal: Tensor) -> bytes:
        """The file of one signal (channels, *size), counted."""
        data = self.codec.compress(signal, self.setting, self.sample_rate)
        self.bits += 8 * len(data)
        self.header_bits += 8 * self.codec.header_bytes(data)
        self.samples += math.prod(signal.shape[1:])
        return data
