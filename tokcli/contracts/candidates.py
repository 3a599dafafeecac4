"""What can be evaluated and encoded with, and what its tokens cost."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tokcli.contracts.metrics import RoundTrip
from tokcli.contracts.parts import ModalityName
from tokcli.contracts.sources import Item, Stream


class Candidate(ABC):
    """What can be evaluated: a tokenizer, or anything else that loses something on the way.

    Attributes:
        competes: whether it can be the best of a comparison. A classical codec is what the others are held against.
    """

    competes: ClassVar[bool] = True

    @property
    @abstractmethod
    def modality(self) -> ModalityName:
        """What its signals are."""

    @property
    @abstractmethod
    def sample_rate(self) -> int | None:
        """Of audio, in Hz; None for images."""

    @property
    @abstractmethod
    def codebook_size(self) -> int:
        """The values that a token can take; 1 where it makes no tokens."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where it wants its signals."""

    @abstractmethod
    def round_trip(self, signals: Tensor) -> RoundTrip:
        """signals: (batch, channels, *size) in [-1, 1] -> what came back, with its tokens where it makes them."""

    def answer(self, items: Sequence[Item]) -> RoundTrip:
        """What came back of items of one shape; most need no more of an item than its signal."""
        return self.round_trip(torch.stack([item.signal for item in items]).to(self.device))

    def round_trip_parts(self, stream: Stream) -> Iterator[RoundTrip]:
        """The round trip of one long signal, as parts whose samples follow each other.

        This takes the signal whole; what can do with windows overrides it, and memory stays bounded.

        Raises:
            InputError: where the signal cannot be read on.
        """
        yield self.round_trip(torch.cat(list(stream.blocks()), dim=1)[None].to(self.device))

    def embed(self, tokens: Tensor) -> Tensor | None:
        """tokens: (batch, *positions, groups) -> the latents that they stand for, (batch, *positions, dim).

        A report colours tokens by these; None where there are none to show.
        """
        return None

    def file_rates(self) -> dict[str, float]:
        """What the files it made so far cost, by name, whole files first; empty where its tokens tell the rate."""
        return {}

    def codec_record(self) -> dict[str, Any] | None:
        """What stands under `codec` in the JSON beside the rate; None for what is no classical codec."""
        return None


@dataclass(frozen=True)
class Pass:
    """A network's own computation, with nothing around it: what `tok bench` holds the whole of a direction against.

    Attributes:
        run: takes some of `inputs`.
        inputs: (items, ...).
    """

    run: Callable[[Tensor], Tensor]
    inputs: Tensor


class Codec(Candidate):
    """What is evaluated, encoded with and decoded with: a tokenizer of ours, or one that was published elsewhere.

    The same signal gives the same tokens by itself and in a batch, and comes back at its own length.
    """

    @property
    @abstractmethod
    def channels(self) -> int:
        """Of its signals."""

    @property
    @abstractmethod
    def groups(self) -> int:
        """Tokens per position."""

    @property
    def prefixes(self) -> tuple[int, ...]:
        """How many of the first groups can be decoded without the others, increasing; `groups` is among them."""
        return (self.groups,)

    @property
    def streams(self) -> bool:
        """Whether `encode_stream` and `decode_stream` hold a part of the signal at a time."""
        return False

    @abstractmethod
    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The positions that a signal of `size` samples takes, incomplete ones included."""

    @abstractmethod
    def cover(self, grid: Sequence[int]) -> tuple[int, ...]:
        """The samples along each axis of the largest signal that takes so many positions."""

    @abstractmethod
    def encode(self, signals: Tensor) -> Tensor:
        """signals: (batch, channels, *size) in [-1, 1] -> tokens (batch, *grid, groups) int64."""

    @abstractmethod
    def decode(self, tokens: Tensor, size: Sequence[int]) -> Tensor:
        """tokens: (batch, *grid, groups) -> signals (batch, channels, *size)."""

    def encode_stream(self, blocks: Iterable[Tensor]) -> Tensor:
        """blocks: (channels, samples) of any lengths, in order -> tokens (positions, groups), as `encode` gives.

        Raises InputError where there is no sample at all.
        """
        return self.encode(torch.cat(list(blocks), dim=1)[None].to(self.device))[0]

    def decode_stream(self, tokens: Tensor, size: Sequence[int]) -> Iterator[Tensor]:
        """tokens: (positions, groups) -> pieces (channels, samples), in order, that make up what `decode` gives."""
        yield self.decode(tokens[None], size)[0]

    @abstractmethod
    def bare_encoding(self, signals: Tensor) -> Pass:
        """What the network alone does in `encode`, on inputs as large as these signals (items, channels, *size)."""

    @abstractmethod
    def bare_decoding(self, tokens: Tensor) -> Pass:
        """What the network alone does in `decode`, of these tokens (items, *grid, groups)."""

    def round_trip(self, signals: Tensor) -> RoundTrip:
        """Encode and decode as a user would, for evaluation."""
        tokens = self.encode(signals)
        reconstruction = self.decode(tokens, signals.shape[2:])
        return RoundTrip(signals, reconstruction, tokens, self.codebook_size, self.sample_rate)


@dataclass(frozen=True)
class Rate:
    """What tokens or a file cost per unit of signal, as `0.75 bits_per_pixel` or `3 kbps`.

    Attributes:
        value: how much.
        unit: of what.
    """

    value: float
    unit: Literal["bits_per_pixel", "kbps"]


def compute_rate(bits: float, samples: float, sample_rate: int | None = None) -> Rate:
    """`bits` that stand for a signal of `samples`: pixels, or of audio the samples at `sample_rate` Hz."""
    if sample_rate is None:
        return Rate(bits / samples, "bits_per_pixel")
    return Rate(bits / (1000 * samples / sample_rate), "kbps")
