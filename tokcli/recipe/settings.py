"""The parts of a recipe that are settings: training, the adversary, evaluation, the codebook stage.

A recipe's section is read by the annotations of its class, as a part's arguments are (see `tokcli.schema`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from tokcli.discriminators.objectives import DiscriminatorLoss, GeneratorLoss
from tokcli.errors import ArgumentError
from tokcli.schema import (
    CheckedArguments,
    Codes,
    Count,
    CountOrZero,
    Evenness,
    Finite,
    Momentum,
    NotNegative,
    OpenShare,
    Positive,
)

Workers = Annotated[int, Field(ge=0, le=1024)]
"""Loading processes: more are a mistake that would take a machine down."""

WRITTEN_WHERE_SET = "written where set"
"""Marks a field that older recipes lack: it is left out where it is empty, so that their fingerprints stay."""

Betas = Annotated[Sequence[Momentum], Field(min_length=2, max_length=2)]
"""β₁ and β₂ of Adam."""


@dataclass(frozen=True)
class TrainingSettings(CheckedArguments):
    """How a tokenizer is trained.

    Args:
        steps: optimizer steps.
        batch_size: signals per optimizer step, over all processes and micro-batches, so that a recipe means the same
            on one device and on eight.
        accumulate: micro-batches per optimizer step.
        optimizer: Adam, or AdamW with its weight decay apart from the gradient.
        learning_rate: of the optimizer, after warm-up.
        betas: of Adam or AdamW.
        weight_decay: of Adam or AdamW.
        warmup_steps: of linear warm-up.
        decay: of the learning rate after the warm-up.
        final_fraction: of the learning rate that the cosine ends at.
        clip_norm: largest gradient norm; None does not clip.
        ema_decay: of the averaged weights, which are then the ones evaluated and exported; None keeps none. The
            average warms up, min(ema_decay, (1 + step) / (10 + step)), so that short runs are not held back by their
            start.
        precision: of the autoencoder; quantizers and losses compute in float32.
        channels_last: memory layout that is faster for convolutions on most devices.
        workers: loading processes; None picks by the number of cores.
        log_every: steps between two lines of the log.
        checkpoint_every: steps between two checkpoints.
        keep_checkpoints: how many of the latest stay.
        trackers: that receive every line of metrics.jsonl as well; each is a library to be installed.
    """

    steps: Count
    batch_size: Count = 16
    accumulate: Count = 1
    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: Positive = 1e-4
    betas: Betas = field(default_factory=lambda: [0.9, 0.99])
    weight_decay: NotNegative = 0.0
    warmup_steps: CountOrZero = 0
    decay: Literal["cosine", "constant"] = "cosine"
    final_fraction: Finite = 0.0
    clip_norm: Finite | None = 1.0
    ema_decay: OpenShare | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False
    workers: Workers | None = None
    log_every: Count = 20
    checkpoint_every: Count = 1000
    keep_checkpoints: Count = 2
    trackers: Sequence[Literal["tensorboard", "wandb"]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.batch_size % self.accumulate:
            raise ArgumentError(f"batch_size: {self.batch_size} does not divide into {self.accumulate} micro-batches")


@dataclass(frozen=True)
class AdversarySettings(CheckedArguments):
    """A discriminator to train against; a recipe without this section trains without one.

    Args:
        discriminator: the component, a node of its own.
        weight: of the tokenizer's adversarial loss.
        adaptive: multiply the weight by the ratio of gradient norms of the other reconstruction losses and of this one
            at the decoder's last layer (λ of VQGAN, arXiv 2012.09841, eq. 7).
        largest_ratio: cap on that ratio. A discriminator that has hardly learnt yet has a small gradient, which the
            ratio would blow up; the cap bounds what it can then do to the reconstruction.
        start_step: steps of training before the tokenizer learns from the adversary.
        lead_steps: for so many steps before that the discriminator already learns alone, so that the tokenizer never
            learns from a random network.
        generator_loss: the tokenizer's side of the game.
        discriminator_loss: the discriminator's side of it.
        feature_weight: of the distance between what the discriminator's inner layers see of an original and of its
            reconstruction, a mean over layers.
        lecam_weight: of the LeCam regulariser of the discriminator.
        learning_rate: of the discriminator's Adam. It has the shape of training's schedule, warm-up included, from the
            discriminator's first step on; training's clip_norm and precision hold as well.
        betas: of the discriminator's Adam.
    """

    discriminator: Mapping[str, Any] = field(default_factory=lambda: {"kind": "patchgan"})
    weight: Positive = 0.1
    adaptive: bool = False
    largest_ratio: Positive = 1e4
    start_step: CountOrZero = 0
    lead_steps: CountOrZero = 0
    generator_loss: GeneratorLoss = "non-saturating"
    discriminator_loss: DiscriminatorLoss = "hinge"
    lecam_weight: NotNegative = 0.0
    learning_rate: Positive = 1e-4
    betas: Betas = field(default_factory=lambda: [0.5, 0.9])
    feature_weight: NotNegative = field(default=0.0, metadata={WRITTEN_WHERE_SET: True})

    def __post_init__(self) -> None:
        if self.lead_steps > self.start_step:
            start = self.start_step
            raise ArgumentError(f"lead_steps: expected at most start_step ({start}), got {self.lead_steps}")


@dataclass(frozen=True)
class EvaluationSettings(CheckedArguments):
    """How a tokenizer is evaluated while it trains, and at the end.

    Args:
        every: steps between evaluations; None evaluates at the end alone.
        metrics: names from the table of metrics.
        items: of the evaluation data, the first so many; None takes all.
        batch_size: signals at a time.
        best: the metric by which the best checkpoint is kept (higher is better, but for lpips and distances).
        sheet: signals on the sheet of samples.
        weights: local files of weights by metric, safetensors of the features of a classifier: `lpips: FILE` serves the
            LPIPS metric whose backbone the file is of. A recipe without any does not write this key.
    """

    every: Count | None = None
    metrics: Annotated[Sequence[str], Field(min_length=1)] = field(
        default_factory=lambda: ["psnr", "ssim", "usage", "perplexity", "cvu"]
    )
    items: Count | None = None
    batch_size: Count = 8
    best: str | None = None
    sheet: Count = 8
    weights: Mapping[str, str] = field(default_factory=dict, metadata={WRITTEN_WHERE_SET: True})

    def __post_init__(self) -> None:
        if self.best is not None and self.best not in self.metrics:
            raise ArgumentError(f"best: '{self.best}' is not among the metrics: {', '.join(self.metrics)}")


@dataclass(frozen=True)
class CodebookSettings(CheckedArguments):
    """The stage after training that builds codebooks from the training data, so that a run ends usable.

    Args:
        sizes: one codebook for each; None builds the quantizer's own size.
        samples: latents that codebooks are built from.
        passes: over the training data, each with other random crops.
        items: read so many, evenly spaced; None reads all.
        evenness: of the codes' use: 0 for the least error, 1 for every code as often, below 0 for fewer bits of
            entropy.
        finetune_steps: then the decoder alone learns from the codes for so many steps.
        finetune_rate: its learning rate, which falls to 0.
    """

    sizes: Sequence[Codes] | None = None
    samples: Count = 200_000
    passes: Count = 1
    items: Count | None = None
    evenness: Evenness = field(default=0.0, metadata={WRITTEN_WHERE_SET: True})
    finetune_steps: CountOrZero = 0
    finetune_rate: Positive = 5e-4


def values_of(settings: TrainingSettings | AdversarySettings | EvaluationSettings | CodebookSettings) -> dict[str, Any]:
    """Settings as the plain values that a recipe writes."""
    fields = dataclasses.fields(settings)
    values = {
        each.name: getattr(settings, each.name)
        for each in fields
        if getattr(settings, each.name) or WRITTEN_WHERE_SET not in each.metadata
    }
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return list(value) if isinstance(value, list | tuple) else value
