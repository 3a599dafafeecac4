"""A model that was opened: a codec on its device, with what commands ask of it besides signals and tokens."""

import pathlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from tokcli.artifacts import ARTIFACT_NAME, Artifact
from tokcli.artifacts.artifact import codebook_ready, use_codebook
from tokcli.artifacts.fingerprint import compute_fingerprints, compute_network_fingerprint
from tokcli.contracts import Codec, Source
from tokcli.data.modality import MODALITIES, Modality
from tokcli.errors import UsageError
from tokcli.models.finding import find_label, name_model
from tokcli.published import Published, PublishedCodec
from tokcli.recipe.build import build_evaluation_source
from tokcli.recipe.settings import EvaluationSettings
from tokcli.tokenizer import Tokenizer
from tokcli.tokens import TokenHeader

WEIGHTS = {"ema": "averaged", "raw": "raw"}
"""What people read of the kinds of weights. The averaging is over training steps, not that of a codebook."""


@dataclass(frozen=True)
class Model(ABC):
    """An opened codec, and where it came from.

    Attributes:
        path: what was opened: a file, a folder, or a name with what is picked of it.
        device: that it is on.
    """

    path: pathlib.Path
    device: torch.device

    @property
    @abstractmethod
    def codec(self) -> Codec:
        """What encodes and decodes."""

    @property
    @abstractmethod
    def settings(self) -> EvaluationSettings:
        """How it is evaluated where nobody says otherwise."""

    @property
    @abstractmethod
    def weights(self) -> Literal["ema", "raw"]:
        """Whether its weights are averages over training steps."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """What it is, in a few words."""

    @property
    def name(self) -> str:
        """What people call it: `photo@1`, `hf:USER/NAME@COMMIT`, or its path where it has no such name."""
        return name_model(self.path)

    @property
    def short_name(self) -> str:
        """The shortest that -m takes for it: `photo@1`, `hf:USER/NAME@COMMIT`, the folder of its run, or its file."""
        return find_label(self.path) or str(self.path.parent if self.path.name == ARTIFACT_NAME else self.path)

    @property
    def modality(self) -> Modality:
        """What its signals are, and all that follows from that."""
        return MODALITIES[self.codec.modality]

    @property
    def trained_size(self) -> int | None:
        """The size that it was made to be good at; None where items keep their own, or nobody knows."""
        return None

    @property
    def default_size(self) -> int | None:
        """The size that files are brought to where nobody names one; None where they keep their own."""
        return self.modality.default_size(self.trained_size)

    @property
    def steps(self) -> int | None:
        """That it was trained for; None where nobody knows."""
        return None

    @property
    def figures(self) -> Mapping[str, Any]:
        """Of its training's own evaluation with the codebook in use, by metric; empty where there is none."""
        return {}

    @property
    def advice(self) -> str:
        """What to do where few of its codes do the work: the end of a sentence, in the imperative."""
        return "a smaller codebook would do"

    @property
    @abstractmethod
    def network_fingerprint(self) -> str:
        """The sum by which tokens know the network that made them."""

    @property
    @abstractmethod
    def codebook_fingerprint(self) -> str:
        """The sum of the codebook in use."""

    @abstractmethod
    def use_codebook(self, size: int) -> None:
        """Use the codebook of so many codes. Raises UsageError where there is none."""

    @abstractmethod
    def describe(self) -> str:
        """What is noted when it is opened, behind its name."""

    @abstractmethod
    def open_evaluation_source(self) -> tuple[Source, str]:
        """The data that it says it is evaluated on, and what that is called.

        Raises UsageError where it says none, InputError where it is not there.
        """

    def open_source(self, inputs: Sequence[str], size: int | None, sample_rate: int | None = None) -> Source:
        """The files that folders, files and lists stand for, as the model takes them.

        Args:
            inputs: folders, single files and .txt lists of files.
            size: that each item is brought to, in samples; None leaves it at its own.
            sample_rate: of audio, in Hz; None takes the model's own.

        Raises:
            InputError: where there are none.
        """
        return self.modality.open_source(inputs, size, sample_rate or self.codec.sample_rate)

    def protocol(self) -> dict[str, Any]:
        """What figures depend on that lies in the model; plain JSON values."""
        return {"weights": self.weights}

    def with_groups(self, groups: int) -> "Model":
        """The same, encoding to the first groups alone. Raises UsageError where so many cannot be decoded."""
        if groups != self.codec.groups:
            raise UsageError(
                f"--groups: the first {groups} of the {self.codec.groups} groups of {self.name} cannot be decoded alone"
            )
        return self

    def describe_tokens(self, preprocessing: Mapping[str, Any]) -> TokenHeader:
        """What a file of its tokens says about it, and about what was done to the signals before it."""
        return TokenHeader(
            codebook_size=self.codec.codebook_size,
            groups=self.codec.groups,
            modality=self.codec.modality,
            network_fingerprint=self.network_fingerprint,
            codebook_fingerprint=self.codebook_fingerprint,
            weights=self.weights,
            preprocessing=dict(preprocessing),
            sample_rate=self.codec.sample_rate,
        )


@dataclass(frozen=True)
class TrainedModel(Model):
    """One that tok trained, or imported: an artifact.

    Attributes:
        artifact: the tokenizer with its recipe.
    """

    artifact: Artifact

    @property
    def codec(self) -> Tokenizer:
        """The tokenizer itself."""
        return self.artifact.tokenizer

    @property
    def tokenizer(self) -> Tokenizer:
        """The same, for those that need its parts."""
        return self.artifact.tokenizer

    def with_groups(self, groups: int) -> "TrainedModel":
        """The same, encoding to the first groups alone. Raises UsageError where so many cannot be decoded."""
        return replace(self, artifact=replace(self.artifact, tokenizer=self.tokenizer.with_groups(groups)))

    @property
    def settings(self) -> EvaluationSettings:
        """Those of its recipe."""
        return self.artifact.recipe.evaluation

    @property
    def weights(self) -> Literal["ema", "raw"]:
        """Whether its weights are averages over training steps."""
        return self.artifact.weights

    @property
    def summary(self) -> str:
        """Its quantizer and its codes."""
        quantizer = self.tokenizer.quantizer
        groups = f" in {self.codec.groups} groups" if quantizer.groups > 1 else ""
        return f"{self.artifact.recipe.quantizer['kind']}, {quantizer.codebook_size} codes{groups}"

    @property
    def trained_size(self) -> int | None:
        """The size that its recipe evaluates at, which it was made to be good at; None where items keep their own."""
        return self.artifact.recipe.eval_data.get("size")

    @property
    def steps(self) -> int | None:
        """That it was trained for."""
        return self.artifact.training.get("steps")

    @property
    def figures(self) -> Mapping[str, Any]:
        """Of its run's end, where that was with the one codebook that it has."""
        return self.artifact.training.get("metrics") or {} if len(self.artifact.codebooks) < 2 else {}

    @property
    def advice(self) -> str:
        """What helps its quantizer."""
        return self.tokenizer.quantizer.advice_for_uneven_use()

    @property
    def network_fingerprint(self) -> str:
        """Of the network with the recipe's words for it."""
        return compute_network_fingerprint(self.tokenizer, self.artifact.recipe)

    @property
    def codebook_fingerprint(self) -> str:
        """Of the codebook in use."""
        return compute_fingerprints(self.tokenizer, self.artifact.recipe).codebook

    def use_codebook(self, size: int) -> None:
        """Use one of those that were learnt or built. Raises UsageError where there is none of that size."""
        use_codebook(self.tokenizer, size)

    def describe(self) -> str:
        """Its quantizer, its codes, its weights and where it is."""
        quantizer = self.tokenizer.quantizer
        codes = f", {quantizer.codebook_size} codes" if codebook_ready(self.tokenizer) else ", no codebook yet"
        kind = self.artifact.recipe.quantizer["kind"]
        return f"{kind}{codes}, {WEIGHTS[self.artifact.weights]} weights, on {self.device}"

    def open_evaluation_source(self) -> tuple[Source, str]:
        """The evaluation data of its recipe. Raises InputError where it is not there."""
        recipe = self.artifact.recipe
        source = build_evaluation_source(recipe, self.codec.modality, way_on="judge on other data with --data FOLDER")
        return source, str(recipe.eval_data.get("path", recipe.eval_data["kind"]))

    def describe_tokens(self, preprocessing: Mapping[str, Any]) -> TokenHeader:
        """With its name, where it has one that means the same everywhere."""
        return replace(super().describe_tokens(preprocessing), model=find_label(self.path))


@dataclass(frozen=True)
class PublishedModel(Model):
    """One that another library ships.

    Attributes:
        published: the codec, and what is recorded of it.
    """

    published: Published

    @property
    def codec(self) -> PublishedCodec:
        """What encodes and decodes."""
        return self.published.codec

    def with_groups(self, groups: int) -> "PublishedModel":
        """Itself. Raises UsageError for another number than it was opened with, which its name says."""
        if groups != self.codec.groups:
            raise UsageError(
                f"--groups: the number of codebooks, or the bandwidth, of {self.name} is named with it: @N"
            )
        return self

    @property
    def settings(self) -> EvaluationSettings:
        """What judges any signals, and how its codes are used."""
        return choose_settings(self.modality)

    @property
    def weights(self) -> Literal["ema", "raw"]:
        """As they were published."""
        return "raw"

    @property
    def summary(self) -> str:
        """Its class, what was picked of it, its codes."""
        return self.published.summary

    @property
    def network_fingerprint(self) -> str:
        """Of its class, its configuration and its weights."""
        return self.published.fingerprint

    @property
    def codebook_fingerprint(self) -> str:
        """The same: its codebooks lie in its weights."""
        return self.published.fingerprint

    def use_codebook(self, size: int) -> None:
        """Raises UsageError for another size than its own."""
        require_only_codebook(self.name, self.codec, size)

    def describe(self) -> str:
        """Its class, what was picked of it, its codes and where it is."""
        return f"{self.summary}, on {self.device}"

    def open_evaluation_source(self) -> tuple[Source, str]:
        """Raises UsageError: it names none."""
        raise UsageError(
            f"{self.name} was published without data to judge it on; name some with --data FOLDER, for all models"
        )

    def protocol(self) -> dict[str, Any]:
        """Where it is from, its revision, its library, and what was picked of it."""
        return super().protocol() | {"published": self.published.record}

    def describe_tokens(self, preprocessing: Mapping[str, Any]) -> TokenHeader:
        """With where it is from."""
        return replace(super().describe_tokens(preprocessing), published=self.published.record)


def choose_settings(modality: Modality) -> EvaluationSettings:
    """How a model that says nothing of it is evaluated."""
    return EvaluationSettings(metrics=[*modality.signal_metrics, "usage", "perplexity", "cvu"])


def require_only_codebook(name: str, codec: Codec, size: int | None) -> None:
    """Raise UsageError where `size` is asked of a codec that has codebooks of another size alone."""
    if size is not None and size != codec.codebook_size:
        raise UsageError(f"{name} has codebooks of {codec.codebook_size} codes and no others; leave the size out")
