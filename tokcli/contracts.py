"""The contracts of the project: what each family of parts promises, declared in full, and what passes between them.

A family's base class is abstract, and everything that the rest of the program reads of a part stands in it with its
type: whoever follows it to the letter has a part that trains, is evaluated and is saved.

Latents are channel-last outside an autoencoder, `(batch, *positions, dim)`, so one quantizer serves grids and
sequences. Tokens are int64 `(batch, *positions, groups)`. Signals are `(batch, channels, *size)` float in [-1, 1].
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tokcli.progress import SILENT, Reporter
from tokcli.schema import CheckedArguments, Count, NotNegative

ModalityName = Literal["image", "audio"]

LONGEST_ARGUMENT = 60
"""Characters of an argument that a `repr` shows before it is cut."""


class Part(CheckedArguments):
    """What the `kind` of a recipe's node names: its arguments are checked, and its `repr` shows them."""

    def extra_repr(self) -> str:
        """The arguments that were given, as a call would write them."""
        return ", ".join(f"{name}={_shortened(value)}" for name, value in self.arguments.items())


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_ARGUMENT else f"{text[: LONGEST_ARGUMENT - 1]}…"


@dataclass(frozen=True)
class Quantized:
    """What training sees of a quantizer.

    Attributes:
        latents: (batch, *positions, dim), what the decoder reads; differentiable.
        tokens: (batch, *positions, groups) int64, or None where the quantizer has no codebook (yet).
        loss: scalar, the quantizer's own terms, already weighted.
        stats: detached scalars worth logging.
        alternatives: further latents of the same shape which the decoder must reconstruct from as well; every loss is
            averaged over all of them (dual-path methods: VAEVQ decodes both z_q and z_c).
        codes: (batch, *positions, dim) without gradient, the codes, or a draw of what they would be, where training
            decodes something else in their place; None: `latents`. A next stage encodes what these leave.
    """

    latents: Tensor
    tokens: Tensor | None
    loss: Tensor
    stats: dict[str, Tensor] = field(default_factory=dict)
    alternatives: tuple[Tensor, ...] = ()
    codes: Tensor | None = None


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


class Quantizer(Part, nn.Module, ABC):
    """Latents to tokens and back. Training behaviour lives in `forward`, inference in `quantize` and `dequantize`.

    All three methods compute in float32 (indices in int64) whatever the autocast dtype. One whose codebook is built
    after training is a `BuildsCodebook`; every other has its codebook from the first step on.

    Attributes:
        input_dim: channels it reads (2·dim where the encoder predicts mean and log-variance).
        dim: channels it hands the decoder.
        groups: tokens per position.
        codebook_size: values per token; the real product of levels, never a nominal K.
        usual_cvu: the least that a healthy training of this method shows of perplexity / K, after some hundred steps.
        latents_per_dim: channels it reads for each that it hands on.
        unit_latents: whether it counts on latents of variance 1, as its prior or its normaliser makes them.
        training_only: names of persistent buffers that decide the next training step but no token. Checkpoints keep
            them, artifacts leave them out.
    """

    input_dim: int
    dim: int
    groups: int
    codebook_size: int
    usual_cvu: ClassVar[float] = 0.3
    latents_per_dim: ClassVar[int] = 1
    unit_latents: ClassVar[bool] = False
    training_only: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def forward(self, latents: Tensor) -> Quantized:
        """latents: (batch, *positions, input_dim) -> what training sees."""

    def forward_hidden(self, latents: Tensor) -> Quantized:
        """The same where nothing is decoded of it: a next stage leaves out its codes, and no more.

        So it needs no gradient but that of its loss, and no draw of what the decoder would see.
        """
        return self(latents)

    @abstractmethod
    def quantize(self, latents: Tensor) -> Tensor:
        """latents: (batch, *positions, input_dim) -> tokens: (batch, *positions, groups) int64."""

    @abstractmethod
    def dequantize(self, tokens: Tensor) -> Tensor:
        """tokens: (batch, *positions, groups) int64 -> latents: (batch, *positions, dim) float32.

        The last axis may also be as long as one of `prefixes`: the first groups alone.
        """

    @abstractmethod
    def codebook_tensors(self) -> dict[str, Tensor]:
        """The tensors that give a token its meaning, by state_dict name, of the codebook in use.

        They are fingerprinted apart from the network, so that building another codebook does not disown older tokens.
        """

    def codebook_parameters(self) -> frozenset[str]:
        """Names of the learnt parameters that are a codebook and no part of the network, in use or not."""
        return frozenset(self.codebook_tensors())

    @property
    def prefixes(self) -> tuple[int, ...]:
        """How many of the first groups can be decoded without the others, increasing; `groups` is among them."""
        return (self.groups,)

    def points(self, latents: Tensor) -> Tensor:
        """What codes stand for of latents (..., input_dim): (..., dim), where the decoder reads them, differentiable.

        So it is they that codes err on: neither rounded nor moved yet.
        """
        return latents[..., : self.dim]

    def make_next_stage(self) -> "Quantizer":
        """A new quantizer for what this one's codes leave of its points, where several stages follow each other."""
        return type(self)(**self.arguments)

    def scale_of_rest(self) -> Tensor | None:
        """What the next stage's latents are divided by, so that they have variance 1: (dim,), where codes tell it.

        None: a next stage with `unit_latents` finds it out in training, and others read what is left as it is.
        """
        return None

    @property
    def codebook_ready(self) -> bool:
        """Whether there are tokens: `quantize` and `dequantize` can be called."""
        return True

    @property
    def codebooks(self) -> tuple[int, ...]:
        """The sizes of codebook that `use_codebook` can choose from, increasing; empty before one is built."""
        return (self.codebook_size,)

    def advice_for_uneven_use(self) -> str:
        """What to do where few of the codes do the work: the end of a sentence, in the imperative."""
        return "train with a smaller codebook, or with VP-VAE (kind: vpvae)"

    def provisional_codebook(self) -> AbstractContextManager[None]:
        """A context in which there are tokens, by what training has seen so far; it leaves no trace.

        For evaluations in the middle of training, of a quantizer whose codebook is not ready.
        """
        return nullcontext()


@dataclass(frozen=True)
class CodebookReport:
    """How well a codebook built after training fits the latents it was built from.

    Attributes:
        size: codes.
        mse: mean squared distance of a latent to its code, per latent (summed over dimensions).
        perplexity: exp(entropy) of the code counts.
        samples: latents used.
    """

    size: int
    mse: float
    perplexity: float
    samples: int


class BuildsCodebook(Quantizer):
    """A quantizer whose codebook is built from data after training, by command and never as a side effect.

    One that has no tokens before (`codebook_ready` is False) overrides `provisional_codebook` too.

    Attributes:
        any_size: whether codebooks of any size can be built, or only one of its own.
    """

    any_size: ClassVar[bool] = True

    @property
    def builds(self) -> bool:
        """Whether there is anything to build; one made of others may find that there is not."""
        return True

    def codebook_parameters(self) -> frozenset[str]:
        """None, where the codebook is built from data alone."""
        return frozenset()

    @property
    @abstractmethod
    def codebook_ready(self) -> bool:
        """Whether there are tokens: `quantize` and `dequantize` can be called."""

    @property
    @abstractmethod
    def codebooks(self) -> tuple[int, ...]:
        """The sizes built, increasing."""

    @abstractmethod
    def build_codebook(
        self, latents: Tensor, size: int | None = None, *, seed: int = 0, reporter: Reporter = SILENT
    ) -> CodebookReport:
        """Fit a codebook to latents and use it.

        Args:
            latents: (count, input_dim), as the encoder gives them.
            size: codes; None: the quantizer's own.
            seed: of every random draw.
            reporter: k-means over a million latents takes minutes, so it says how far it is; a bare callback could not
                also carry the notes that some methods have about the size that was asked for.
        """

    @abstractmethod
    def use_codebook(self, size: int) -> None:
        """Make the built codebook of `size` codes the one that quantize and dequantize use.

        Raises:
            UsageError: where none of this size was built.
        """


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

    def answer(self, items: Sequence["Item"]) -> RoundTrip:
        """What came back of items of one shape; most need no more of an item than its signal."""
        return self.round_trip(torch.stack([item.signal for item in items]).to(self.device))

    def round_trip_parts(self, stream: "Stream") -> Iterator[RoundTrip]:
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


@dataclass(frozen=True)
class Item:
    """One signal read from a source.

    Attributes:
        name: unique within the source, relative, with `/`.
        signal: (channels, *size) float32 in [-1, 1].
        original_size: the sizes before cropping; of an image before resizing too, of audio at its new sample rate.
        about: what else the source knows of it, as its label or caption; plain JSON values.
        returned: what another program made of the signal, of its shape, where the source has that too.
        lacks: what most others beside it are about and this one is not, as `label`.
    """

    name: str
    signal: Tensor
    original_size: tuple[int, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    returned: Tensor | None = None
    lacks: Sequence[str] = ()


@dataclass(frozen=True)
class Stream:
    """One signal that is too long to be held, whole and at its own size.

    Attributes:
        name: as an item's.
        blocks: starts reading; gives pieces (channels, samples) float32 in [-1, 1] of any lengths, in order, and raises
            InputError, naming the item, where the signal cannot be read on. It can cross processes.
        samples: that there will be; None where that shows at the end.
        returned: likewise what another program made of the signal, where the source has that too.
        about: as an item's.
        lacks: as an item's.
    """

    name: str
    blocks: Callable[[], Iterator[Tensor]]
    samples: int | None = None
    returned: Callable[[], Iterator[Tensor]] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    lacks: Sequence[str] = ()


def make_mark(words: Iterable[str]) -> str:
    """One word for many, the same for the same ones in the same order."""
    digest = hashlib.sha256()
    for word in words:
        digest.update(word.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()[:16]


class SourceFiles(Protocol):
    """Where the items of a source lie, as far as anybody asks."""

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many files were passed over because no decoder here reads them, by suffix."""
        ...

    def resolved(self, count: int | None = None) -> Iterable[str]:
        """Where the first `count` items (None: all) lie once links are followed."""
        ...


@dataclass(frozen=True)
class SourceDescription:
    """What there is to say of a source's items before any is read.

    Attributes:
        size: the side of an image in pixels or the samples of a sound; None where every item has its own.
        made: what makes them, where they are no recordings but endless; None otherwise.
        crop: which part of the original an item is; None where it is all of it.
    """

    size: int | None = None
    made: str | None = None
    crop: Literal["center", "random", "start"] | None = None


class Source(Part, torch.utils.data.Dataset[Any], ABC):
    """Items that can be read in any order, by any worker process.

    `load(index, draw)` is a pure function: `draw` seeds all that is random in it (crop, flip), so that a resumed
    run reads exactly what an uninterrupted one would have read.

    Attributes:
        modality: what its signals are.
        names: of the items, each once.
        sample_rate: of audio, in Hz; None for images.
        files: where the items lie; None where they are no files. Training warns of files that it would be evaluated on.
        starts: the number of the first item of each shard, (shards + 1,) with the number of items at the end; training
            reads few shards at a time. None where any item is as near as the next.
    """

    modality: ClassVar[ModalityName]
    names: Sequence[str]
    sample_rate: int | None = None
    files: SourceFiles | None = None
    starts: NDArray[numpy.int64] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def load(self, index: int, draw: int = 0) -> Item:
        """Item `index`; raises InputError, naming it, where it cannot be read."""

    def load_or_stream(self, index: int, draw: int = 0) -> Item | Stream:
        """Item `index`, or a stream of the same signal where that is long; for readers that can do with pieces."""
        return self.load(index, draw)

    @abstractmethod
    def protocol(self) -> Mapping[str, object]:
        """What was done to the signals (resize, crop), for the record; plain JSON values.

        `size`, `crop` and `made` are, where they say anything, those of `describe`.
        """

    def mark(self, items: range) -> str:
        """A word for these items that is another one when any of them, or its name, changes.

        Here of names alone; files have a size and a time beside it, and those of an archive the archive's.
        """
        return make_mark(self.names[index] for index in items)

    def describe(self) -> SourceDescription:
        """What a run says of its data before the first step."""
        return SourceDescription()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
