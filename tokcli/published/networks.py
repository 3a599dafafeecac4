"""How each class of `transformers` and `diffusers` that makes tokens is called: one line of a table for each.

A network here takes signals of whole positions at its own sample rate, and gives tokens (batch, *grid, groups). To add
one, write its line; a class that is called differently gets a subclass of `Network`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from tokcli.contracts import ModalityName
from tokcli.errors import MismatchError, UsageError, quote

Library = Literal["transformers", "diffusers"]


class Network(ABC):
    """A network of another library, with the numbers that are read of it.

    Args:
        module: the network, in evaluation mode.
        choice: the bandwidth or the number of codebooks that was asked for; None takes the library's own.

    Attributes:
        modality: of its signals.
        unit: what the choice counts; empty where there is nothing to choose.
        sample_rate: of audio, in Hz; None for images.
        channels: of its signals.
        stride: samples per position along each axis.
        codebook_size: values per token.
        most_groups: tokens per position that it can decode.
        choice: what is used.
    """

    modality: ClassVar[ModalityName]
    unit: ClassVar[Literal["", "kbps", "codebooks"]] = ""
    sample_rate: int | None = None
    channels: int
    stride: int
    codebook_size: int
    most_groups: int
    choice: float | None = None

    def __init__(self, module: Any, choice: float | None) -> None:
        if choice is not None and not self.unit:
            raise UsageError(f"@{choice:g}: {type(module).__name__} has nothing to choose; leave it out")
        self.module: Any = module

    @property
    def network(self) -> nn.Module:
        """Its module, as torch knows it."""
        return self.module

    @abstractmethod
    def encode(self, signals: Tensor) -> Tensor:
        """signals: (batch, channels, *size) of whole positions -> tokens (batch, *grid, groups), by its own call."""

    @abstractmethod
    def decode(self, tokens: Tensor) -> Tensor:
        """tokens: (batch, *grid, groups) -> signals (batch, channels, *size), a few samples more or fewer."""


class Audio(Network):
    """One whose tokens are (batch, codebooks, positions) and that can be asked for fewer codebooks."""

    modality: ClassVar[ModalityName] = "audio"
    argument: ClassVar[str]

    def encode(self, signals: Tensor) -> Tensor:
        """By `encode` of the class, with its argument for the choice."""
        return self.module.encode(signals, **{self.argument: self.choice}).audio_codes.transpose(1, 2)

    def decode(self, tokens: Tensor) -> Tensor:
        """By `decode` of the class."""
        values = self.module.decode(audio_codes=tokens.transpose(1, 2).contiguous()).audio_values
        return values.reshape(len(values), self.channels, -1)


class OfBandwidths(Audio):
    """One that is asked for kbps: `target_bandwidths` of its configuration."""

    unit = "kbps"
    argument = "bandwidth"
    usual: ClassVar[int] = -1

    def __init__(self, module: Any, choice: float | None) -> None:
        super().__init__(module, choice)
        offered = list(module.config.target_bandwidths)
        if choice is not None and choice not in offered:
            listed = ", ".join(f"@{each:g}" for each in offered)
            raise UsageError(
                f"@{choice:g}: this {type(module).__name__} has no such bandwidth; expected {listed} (kbps)"
            )
        self.choice = offered[self.usual] if choice is None else choice
        self.codebook_size = module.config.codebook_size


class OfCodebooks(Audio):
    """One that is asked for a number of its residual codebooks."""

    unit = "codebooks"

    def __init__(self, module: Any, choice: float | None, most: int, least: int = 1) -> None:
        super().__init__(module, choice)
        if choice is not None and not (least <= choice <= most and choice == int(choice)):
            raise UsageError(
                f"@{choice:g}: this {type(module).__name__} has {most} codebooks; expected @{least} to @{most}"
            )
        self.choice = most if choice is None else int(choice)
        self.most_groups = most
        self.codebook_size = module.config.codebook_size


class Encodec(OfBandwidths):
    """EnCodec (arXiv 2210.13438); its library takes the lowest bandwidth where nobody says one."""

    usual = 0

    def __init__(self, module: Any, choice: float | None) -> None:
        super().__init__(module, choice)
        config = module.config
        if config.normalize or config.chunk_length is not None:
            raise MismatchError(
                "this EnCodec keeps the loudness of each stretch of sound beside its tokens (normalize, "
                "chunk_length_s), which tokens alone do not bring back; the 24 kHz one is complete in its tokens"
            )
        self.sample_rate, self.channels = config.sampling_rate, config.audio_channels
        self.stride, self.most_groups = config.hop_length, len(module.quantizer.layers)

    def encode(self, signals: Tensor) -> Tensor:
        """Its codes have an axis of frames in front, here of one."""
        return self.module.encode(signals, bandwidth=self.choice).audio_codes[0].transpose(1, 2)

    def decode(self, tokens: Tensor) -> Tensor:
        """With no loudness to restore."""
        return self.module.decode(tokens.transpose(1, 2)[None], [None]).audio_values


class Dac(OfCodebooks):
    """The Descript audio codec (arXiv 2306.06546)."""

    argument = "n_quantizers"
    channels = 1

    def __init__(self, module: Any, choice: float | None) -> None:
        super().__init__(module, choice, module.config.n_codebooks)
        self.sample_rate, self.stride = module.config.sampling_rate, module.config.hop_length


class Mimi(OfCodebooks):
    """Mimi of Moshi (arXiv 2410.00037), whose first codebooks are semantic."""

    argument = "num_quantizers"

    def __init__(self, module: Any, choice: float | None) -> None:
        config = module.config
        super().__init__(module, choice, config.num_quantizers, config.num_semantic_quantizers)
        self.sample_rate, self.channels = config.sampling_rate, config.audio_channels
        self.stride = round(config.sampling_rate / config.frame_rate)


class XCodec(OfBandwidths):
    """X-Codec (arXiv 2408.17175), with features of a speech model beside its acoustic ones."""

    channels = 1

    def __init__(self, module: Any, choice: float | None) -> None:
        super().__init__(module, choice)
        self.sample_rate, self.stride = module.config.sample_rate, module.config.hop_length
        self.most_groups = len(module.quantizer.quantizers)

    def decode(self, tokens: Tensor) -> Tensor:
        """By `decode` of the class."""
        return self.module.decode(tokens.transpose(1, 2).contiguous()).audio_values


class Image(Network):
    """One of RGB images, with one token per position."""

    modality: ClassVar[ModalityName] = "image"
    channels = 3
    most_groups = 1


class Janus(Image):
    """The tokenizer of Janus (arXiv 2410.13848), whose network is LlamaGen's VQ-16."""

    def __init__(self, module: Any, choice: float | None) -> None:
        super().__init__(module, choice)
        self.stride = 2 ** (len(module.config.channel_multiplier) - 1)
        self.codebook_size = module.config.num_embeddings

    def encode(self, signals: Tensor) -> Tensor:
        """Its tokens are one row for the whole batch."""
        batch, _, height, width = signals.shape
        tokens = self.module.encode(signals).image_tokens
        return tokens.reshape(batch, height // self.stride, width // self.stride, 1)

    def decode(self, tokens: Tensor) -> Tensor:
        """At the size of these tokens; its own is for one size of picture alone."""
        self.module.quantize.quant_state_dims = list(tokens.shape[1:3])
        return self.module.decode(tokens.flatten(1))


class Emu3(Image):
    """The tokenizer of Emu3 (arXiv 2409.18869), made for video: a picture is so many equal frames."""

    def __init__(self, module: Any, choice: float | None) -> None:
        super().__init__(module, choice)
        self.stride, self.codebook_size = module.spatial_scale_factor, module.config.codebook_size

    def encode(self, signals: Tensor) -> Tensor:
        """Every picture of the batch at its whole size."""
        sizes = torch.tensor([list(signals.shape[2:])] * len(signals))
        return torch.stack(list(self.module.encode(signals, sizes).image_tokens))[..., None]

    def decode(self, tokens: Tensor) -> Tensor:
        """The first of the frames."""
        return self.module.decode(tokens[..., 0])


class VQModel(Image):
    """`VQModel` of diffusers, as aMUSEd, Kandinsky's MoVQ and VQ-Diffusion have it."""

    def __init__(self, module: Any, choice: float | None) -> None:
        super().__init__(module, choice)
        self.stride = 2 ** (len(module.config.block_out_channels) - 1)
        self.codebook_size = module.config.num_vq_embeddings
        self.channels = module.config.in_channels

    def encode(self, signals: Tensor) -> Tensor:
        """The nearest codes of its latents."""
        latents = self.module.encode(signals).latents
        batch, _, height, width = latents.shape
        return self.module.quantize(latents)[2][2].reshape(batch, height, width, 1)

    def decode(self, tokens: Tensor) -> Tensor:
        """From the codes of the tokens."""
        shape = (*tokens.shape[:3], self.module.quantize.vq_embed_dim)
        if self.module.config.lookup_from_codebook:
            return self.module.decode(tokens.flatten(), force_not_quantize=True, shape=shape).sample
        codes = self.module.quantize.get_codebook_entry(tokens.flatten(), shape)
        return self.module.decode(codes, force_not_quantize=True).sample


@dataclass(frozen=True)
class Kind:
    """A line of the table.

    Attributes:
        library: that the class is of.
        class_name: its name there.
        network: how it is called.
    """

    library: Library
    class_name: str
    network: type[Network]


KINDS: dict[str, Kind] = {
    "encodec": Kind("transformers", "EncodecModel", Encodec),
    "dac": Kind("transformers", "DacModel", Dac),
    "mimi": Kind("transformers", "MimiModel", Mimi),
    "xcodec": Kind("transformers", "XcodecModel", XCodec),
    "janus_vqgan": Kind("transformers", "JanusVQVAE", Janus),
    "emu3_vqgan": Kind("transformers", "Emu3VQVAE", Emu3),
    "VQModel": Kind("diffusers", "VQModel", VQModel),
}
"""By what their config.json says: `model_type` of transformers, `_class_name` of diffusers."""


def find_kind(config: Mapping[str, Any], path: object) -> Kind:
    """The line for a model with this config.json. Raises MismatchError where there is none."""
    for key in ("model_type", "_class_name"):
        if config.get(key) in KINDS:
            return KINDS[config[key]]
    said = config.get("model_type") or config.get("_class_name")
    raise MismatchError(
        f"{path} holds a model of the kind {quote(said)}, which gives no tokens that tok knows; expected one of: "
        f"{', '.join(KINDS)}"
    )


@dataclass(frozen=True)
class Range:
    """What a network takes in the place of [-1, 1]: ((x + 1) / 2 − mean) / deviation.

    Attributes:
        mean: of each channel, of values from 0 to 1.
        deviation: likewise.
    """

    mean: Sequence[float] = (0.5,)
    deviation: Sequence[float] = (0.5,)

    @property
    def is_plain(self) -> bool:
        """Whether that is [-1, 1] itself."""
        return {*self.mean, *self.deviation} == {0.5}

    def enter(self, signals: Tensor) -> Tensor:
        """signals: (batch, channels, height, width) in [-1, 1] -> what the network takes."""
        mean, deviation = self._tensors(signals)
        return signals if self.is_plain else ((signals + 1) / 2 - mean) / deviation

    def leave(self, signals: Tensor) -> Tensor:
        """The way back."""
        mean, deviation = self._tensors(signals)
        return signals if self.is_plain else (signals * deviation + mean) * 2 - 1

    def _tensors(self, signals: Tensor) -> tuple[Tensor, Tensor]:
        return signals.new_tensor(self.mean).view(-1, 1, 1), signals.new_tensor(self.deviation).view(-1, 1, 1)
