"""A published network as a codec: signals of any length, one by one or in a batch, with the same tokens.

signal -> whole positions -> its own range and channels -> network -> tokens -> network -> [-1, 1] -> its own length
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tokcli.contracts import Codec, ModalityName, Pass
from tokcli.errors import MismatchError
from tokcli.numerics import exact_float32
from tokcli.published.networks import Network, Range
from tokcli.windows import fit, pad

PADDING = {"audio": "silence up to whole positions", "image": "the last row and column, repeated up to whole positions"}
"""What is said of signals that are no whole number of positions."""


class PublishedCodec(Codec):
    """Signals (batch, channels, *size) in [-1, 1] to tokens and back, through another library's own calls.

    Audio is of one channel; a network of two is given it twice, and the mean is taken of what comes back.

    Args:
        network: that is called.
        values: that it takes in the place of [-1, 1].
    """

    def __init__(self, network: Network, values: Range | None = None) -> None:
        self.network = network
        self.values = values or Range()
        self._groups = self._count_groups()

    @property
    def modality(self) -> ModalityName:
        """What the signals are."""
        return self.network.modality

    @property
    def sample_rate(self) -> int | None:
        """Of audio, in Hz; None for images."""
        return self.network.sample_rate

    @property
    def channels(self) -> int:
        """Of the signals that it is given."""
        return 1 if self.modality == "audio" else self.network.channels

    @property
    def codebook_size(self) -> int:
        """The values that a token can take."""
        return self.network.codebook_size

    @property
    def groups(self) -> int:
        """Tokens per position."""
        return self._groups

    @property
    def prefixes(self) -> tuple[int, ...]:
        """As many as it has codebooks, whichever number of them it encodes with."""
        return tuple(range(1, self.network.most_groups + 1))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.network.parameters()).device

    def to(self, device: torch.device) -> None:
        """Compute there from now on."""
        self.network.network.to(device)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The positions that a signal of `size` samples takes, incomplete ones included."""
        return tuple(math.ceil(length / self.network.stride) for length in size)

    def cover(self, grid: Sequence[int]) -> tuple[int, ...]:
        """The samples along each axis that so many positions stand for."""
        return tuple(positions * self.network.stride for positions in grid)

    @torch.no_grad()
    def encode(self, signals: Tensor) -> Tensor:
        """signals: (batch, channels, *size) -> tokens (batch, *grid, groups) int64.

        On a CPU one by one, as ours: kernels are picked by the size of the batch and differ in the last bits.
        """
        prepared = self._prepare(signals)
        with exact_float32(self.device):
            tokens = torch.cat([self.network.encode(part) for part in self._split(prepared)])
        expected = self.grid(signals.shape[2:])
        assert tuple(tokens.shape[1:-1]) == expected, f"{tuple(tokens.shape)} tokens, expected a grid of {expected}"
        return tokens.long()

    @torch.no_grad()
    def decode(self, tokens: Tensor, size: Sequence[int]) -> Tensor:
        """tokens: (batch, *grid, groups) -> signals (batch, channels, *size).

        Fewer groups than `groups`, or more, are taken where the network has so many codebooks.

        Raises:
            MismatchError: it has not.
        """
        if tokens.shape[-1] > self.network.most_groups:
            raise MismatchError(
                f"these are {tokens.shape[-1]} tokens per position, and the network has {self.network.most_groups} "
                "codebooks; name the model that made them"
            )
        with exact_float32(self.device):
            signals = torch.cat([self.network.decode(part) for part in self._split(tokens)]).float()
        if self.modality == "audio":
            signals = signals.mean(1, keepdim=True)
        else:
            signals = self.values.leave(signals)
        return fit(signals, size)

    def bare_encoding(self, signals: Tensor) -> Pass:
        """The library's own call."""
        return Pass(self.network.encode, self._prepare(signals))

    def bare_decoding(self, tokens: Tensor) -> Pass:
        """The library's own call."""
        return Pass(self.network.decode, tokens)

    def _prepare(self, signals: Tensor) -> Tensor:
        """signals of any size -> (batch, the network's channels, *size) of whole positions, in its range."""
        stride = self.network.stride
        if self.modality == "audio":
            padded = functional.pad(signals.float(), (0, -signals.shape[-1] % stride))
            return padded.expand(-1, self.network.channels, -1).contiguous()
        return self.values.enter(pad(signals.float(), stride)).contiguous()

    def _split(self, batch: Tensor) -> Sequence[Tensor]:
        return batch.split(1) if self.device.type == "cpu" else [batch]

    def _count_groups(self) -> int:
        """By the tokens of one position of silence, where there may be several."""
        if self.network.most_groups == 1:
            return 1
        return self.encode(torch.zeros(1, self.channels, self.network.stride, device=self.device)).shape[-1]
