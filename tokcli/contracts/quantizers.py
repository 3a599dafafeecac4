"""Latents to tokens and back."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from tokcli.contracts.parts import Part
from tokcli.errors import UsageError
from tokcli.progress import SILENT, Reporter
from tokcli.schema import LEAST_EVENNESS, MOST_EVENNESS


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
        evenness: that was asked for.
    """

    size: int
    mse: float
    perplexity: float
    samples: int
    evenness: float = 0.0


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

    def require_possible(self, size: int | None = None, evenness: float = 0.0) -> None:
        """Raises UsageError where no latents could give a codebook of `size` codes (None: its own), used so evenly."""
        if size is not None and size < 2:
            raise UsageError(f"a codebook needs at least 2 codes, got --size {size}")
        if not LEAST_EVENNESS <= evenness <= MOST_EVENNESS:
            raise UsageError(f"evenness: expected {LEAST_EVENNESS:g} to {MOST_EVENNESS:g}, got {evenness:g}")

    @abstractmethod
    def build_codebook(
        self,
        latents: Tensor,
        size: int | None = None,
        *,
        evenness: float = 0.0,
        seed: int = 0,
        reporter: Reporter = SILENT,
    ) -> CodebookReport:
        """Fit a codebook to latents and use it.

        Args:
            latents: (count, input_dim), as the encoder gives them.
            size: codes; None: the quantizer's own.
            evenness: 0: the least error; 1: every code serves as many latents; below 0: fewer bits of entropy for the
                same error (see quantizers/evenness.py).
            seed: of every random draw.
            reporter: k-means over a million latents takes minutes, so it says how far it is; a bare callback could not
                also carry the notes that some methods have about the size that was asked for.

        Raises:
            UsageError: as `require_possible` does, and for too few latents or some that are not finite.
        """

    @abstractmethod
    def use_codebook(self, size: int) -> None:
        """Make the built codebook of `size` codes the one that quantize and dequantize use.

        Raises:
            UsageError: where none of this size was built.
        """
