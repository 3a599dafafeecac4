"""The nouns of the project: what a quantizer, an autoencoder, a data source, a loss and a metric promise each other.

Latents are channel-last outside an autoencoder, `(batch, *positions, dim)`, so one quantizer serves grids and
sequences. Tokens are int64 `(batch, *positions, groups)`. Signals are `(batch, channels, *size)` float in [-1, 1].
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from tokcli.progress import SILENT, Reporter

Modality = Literal["image", "audio"]


@dataclass(frozen=True)
class Quantized:
    """What training sees of a quantizer.

    latents: (batch, *positions, dim), what the decoder reads; differentiable.
    tokens: (batch, *positions, groups) int64, or None where the quantizer has no codebook (yet).
    loss: scalar, the quantizer's own terms, already weighted.
    stats: detached scalars worth logging.
    alternatives: further latents of the same shape which the decoder must reconstruct from as well; every loss is
        averaged over all of them (dual-path methods: VAEVQ decodes both z_q and z_c).
    """

    latents: Tensor
    tokens: Tensor | None
    loss: Tensor
    stats: dict[str, Tensor] = field(default_factory=dict)
    alternatives: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class RoundTrip:
    """A batch before and after the tokenizer: what metrics judge.

    reference, reconstruction: (batch, channels, *size) in [-1, 1]. tokens: (batch, *positions, groups) int64, or None.
    codebook_size: the values a token can take. sample_rate: of audio, in Hz.
    """

    reference: Tensor
    reconstruction: Tensor
    tokens: Tensor | None
    codebook_size: int
    sample_rate: int | None = None


class Quantizer(nn.Module):
    """Latents to tokens and back. Training behaviour lives in `forward`, inference in `quantize` and `dequantize`.

    input_dim: channels it reads (2·dim where the encoder predicts mean and log-variance).
    dim: channels it hands the decoder.
    groups: tokens per position.
    codebook_size: values per token; the real product of levels, never a nominal K.
    training_only: names of persistent buffers that decide the next training step but no token. Checkpoints keep
        them, artifacts leave them out.

    All three methods compute in float32 (indices in int64) whatever the autocast dtype.
    """

    input_dim: int
    dim: int
    groups: int
    codebook_size: int
    training_only: ClassVar[frozenset[str]] = frozenset()

    def forward(self, latents: Tensor) -> Quantized:
        """latents: (batch, *positions, input_dim) -> what training sees."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def quantize(self, latents: Tensor) -> Tensor:
        """latents: (batch, *positions, input_dim) -> tokens: (batch, *positions, groups) int64."""
        raise TypeError(f"{type(self).__name__} does not define quantize")

    def dequantize(self, tokens: Tensor) -> Tensor:
        """tokens: (batch, *positions, groups) int64 -> latents: (batch, *positions, dim) float32."""
        raise TypeError(f"{type(self).__name__} does not define dequantize")

    def codebook_tensors(self) -> dict[str, Tensor]:
        """The tensors that give a token its meaning, by state_dict name, of the codebook in use.

        They are fingerprinted apart from the network, so that building another codebook does not disown older tokens.
        """
        raise TypeError(f"{type(self).__name__} does not define codebook_tensors")


@dataclass(frozen=True)
class CodebookReport:
    """How well a codebook built after training fits the latents it was built from.

    size: codes. mse: mean squared distance of a latent to its code, per latent (summed over dimensions).
    perplexity: exp(entropy) of the code counts. samples: latents used.
    """

    size: int
    mse: float
    perplexity: float
    samples: int


@runtime_checkable
class BuildsCodebook(Protocol):
    """A quantizer whose codebook is built from data after training, by command and never as a side effect."""

    codebook_ready: bool
    codebooks: tuple[int, ...]

    def build_codebook(
        self, latents: Tensor, size: int | None = None, *, seed: int = 0, reporter: Reporter = SILENT
    ) -> CodebookReport:
        """Fit a codebook of `size` codes (None: the quantizer's own) to latents (count, input_dim) and use it."""

    def use_codebook(self, size: int) -> None:
        """Make the built codebook of `size` codes the one that quantize and dequantize use."""


@runtime_checkable
class DefersCodebook(BuildsCodebook, Protocol):
    """One that trains without any codebook, so that it gives no tokens before one is built."""

    def provisional_codebook(self) -> AbstractContextManager[None]:
        """A context with a codebook made from what training has seen so far; it leaves no trace."""


class Autoencoder(nn.Module):
    """Signals to latents and back.

    modality: what the signals are. channels: of the signal. stride: signal samples per position along each axis.
    latent_dim: channels that `encode` gives. decoder_dim: channels that `decode` reads.
    sample_rate: of audio, in Hz; None for pictures.
    window: positions that are computed at a time, each with its context, so that memory does not grow with the signal;
        None where signals are only ever computed whole. Signals with windows have one axis.
    context: positions on each side of its own on which a position's latents depend, and the samples of a position's
        latents; only where there is a window.
    """

    modality: Modality
    channels: int
    stride: int
    latent_dim: int
    decoder_dim: int
    sample_rate: int | None = None
    window: int | None = None
    context: int = 0

    def encode(self, signal: Tensor) -> Tensor:
        """signal: (batch, channels, *size), sizes divisible by stride -> latents: (batch, *positions, latent_dim)."""
        raise TypeError(f"{type(self).__name__} does not define encode")

    def decode(self, latents: Tensor) -> Tensor:
        """latents: (batch, *positions, decoder_dim) -> signal: (batch, channels, *size)."""
        raise TypeError(f"{type(self).__name__} does not define decode")


class Loss(nn.Module):
    """A weighted reconstruction loss. `modality` is None where it suits every signal."""

    modality: ClassVar[Modality | None] = None
    weight: float

    def forward(self, reconstruction: Tensor, reference: Tensor) -> Tensor:
        """Both (batch, channels, *size) in [-1, 1] -> scalar, not yet weighted."""
        raise TypeError(f"{type(self).__name__} does not define forward")


class Metric:
    """A mean over items with a state of tensors that add, so that merging processes is a sum.

    modality: None where it judges tokens or any signal. needs_tokens: it counts tokens. higher_is_better: the
        direction in which a best checkpoint is sought.
    unscored: items that could not be judged; they are counted and never averaged in.
    """

    modality: ClassVar[Modality | None] = None
    needs_tokens: ClassVar[bool] = False
    higher_is_better: ClassVar[bool] = True
    state: dict[str, Tensor]

    def update(self, round_trip: RoundTrip) -> None:
        """Judge one batch, item by item."""
        raise TypeError(f"{type(self).__name__} does not define update")

    def compute(self) -> float:
        """The figure over everything seen; NaN before the first item."""
        raise TypeError(f"{type(self).__name__} does not define compute")

    def item_scores(self) -> Tensor | None:
        """The score of each item this process has seen, (items,) float64 on the CPU in the order of the updates.

        NaN where an item could not be judged; None for a metric that judges the set and not its items.
        """
        return None

    def protocol(self) -> dict[str, object]:
        """The choices that the figure depends on, for the record."""
        return {}


@dataclass(frozen=True)
class Item:
    """One signal read from a source.

    name: unique within the source, relative, with `/`. signal: (channels, *size) float32 in [-1, 1].
    original_size: the sizes before cropping; of a picture before resizing too, of a sound at its new sample rate.
    """

    name: str
    signal: Tensor
    original_size: tuple[int, ...]


@dataclass(frozen=True)
class Stream:
    """One signal that is too long to be held, whole and at its own size.

    name: as an item's. blocks: starts reading; gives pieces (channels, samples) float32 in [-1, 1] of any lengths, in
    order, and raises InputError, naming the item, where the signal cannot be read on. It can cross processes.
    """

    name: str
    blocks: Callable[[], Iterator[Tensor]]


class Source(torch.utils.data.Dataset):
    """Items that can be read in any order, by any worker process.

    `load(index, draw)` is a pure function: `draw` seeds all that is random in it (crop, flip), so that a resumed
    run reads exactly what an uninterrupted one would have read.

    sample_rate: of audio, in Hz; None for pictures.
    """

    modality: ClassVar[Modality]
    names: Sequence[str]
    sample_rate: int | None = None

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int, draw: int = 0) -> Item:
        """Item `index`; raises InputError, naming it, where it cannot be read."""
        raise TypeError(f"{type(self).__name__} does not define load")

    def load_or_stream(self, index: int, draw: int = 0) -> Item | Stream:
        """Item `index`, or a stream of the same signal where that is long; for readers that can do with pieces."""
        return self.load(index, draw)

    def protocol(self) -> Mapping[str, object]:
        """What was done to the signals (resize, crop), for the record; plain JSON values."""
        raise TypeError(f"{type(self).__name__} does not define protocol")
