"""The parts of a recipe that are settings: training, the adversary, evaluation, the codebook stage."""

from dataclasses import dataclass, field
from typing import Any, Literal

from tokcli.discriminators.games import DiscriminatorLoss, GeneratorLoss


@dataclass(frozen=True)
class TrainingSettings:
    """How a tokenizer is trained.

    steps: optimizer steps. batch_size: signals per optimizer step, over all processes and micro-batches, so that a
        recipe means the same on one device and on eight.
    accumulate: micro-batches per optimizer step.
    betas, weight_decay: of Adam or AdamW. warmup_steps: of linear warm-up. decay: after it.
    final_fraction: of the learning rate that the cosine ends at.
    clip_norm: largest gradient norm; None does not clip.
    ema_decay: of the averaged weights, which are then the ones evaluated and exported; None keeps none. The average
        warms up, min(ema_decay, (1 + step) / (10 + step)), so that short runs are not held back by their start.
    precision: of the autoencoder; quantizers and losses compute in float32.
    channels_last: memory layout that is faster for convolutions on most devices.
    workers: loading processes; None picks by the number of cores.
    log_every, checkpoint_every: in steps. keep_checkpoints: how many of the latest stay.
    trackers: that receive every line of metrics.jsonl as well; each is a library to be installed.
    """

    steps: int
    batch_size: int = 16
    accumulate: int = 1
    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = 1e-4
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])
    weight_decay: float = 0.0
    warmup_steps: int = 0
    decay: Literal["cosine", "constant"] = "cosine"
    final_fraction: float = 0.0
    clip_norm: float | None = 1.0
    ema_decay: float | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False
    workers: int | None = None
    log_every: int = 20
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    trackers: list[Literal["tensorboard", "wandb"]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "log_every", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate: expected a positive number, got {self.learning_rate}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: expected two numbers in [0, 1), got {self.betas}")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay: expected a number between 0 and 1, got {self.ema_decay}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size: {self.batch_size} does not divide into {self.accumulate} micro-batches")
        if self.warmup_steps < 0 or (self.workers is not None and self.workers < 0):
            raise ValueError("warmup_steps and workers: expected 0 or more")


@dataclass(frozen=True)
class AdversarySettings:
    """A discriminator to train against; a recipe without this section trains without one.

    discriminator: the component, a node of its own.
    weight: of the tokenizer's adversarial loss. adaptive: multiply it by the ratio of gradient norms of the other
        reconstruction losses and of this one at the decoder's last layer (λ of VQGAN, arXiv 2012.09841, eq. 7).
    largest_ratio: cap on that ratio. A discriminator that has hardly learnt yet has a small gradient, which the ratio
        would blow up; the cap bounds what it can then do to the picture.
    start_step: steps of training before the tokenizer hears the adversary.
    lead_steps: for so many steps before that the discriminator already learns, unheard, so that its first word is not
        that of a random network.
    generator_loss, discriminator_loss: the two sides of the game.
    lecam_weight: of the LeCam regulariser of the discriminator.
    learning_rate, betas: of the discriminator's Adam. The rate has the shape of training's schedule, warm-up included,
        from its first step on; training's clip_norm and precision hold as well.
    """

    discriminator: dict[str, Any] = field(default_factory=lambda: {"kind": "patchgan"})
    weight: float = 0.1
    adaptive: bool = False
    largest_ratio: float = 1e4
    start_step: int = 0
    lead_steps: int = 0
    generator_loss: GeneratorLoss = "non-saturating"
    discriminator_loss: DiscriminatorLoss = "hinge"
    lecam_weight: float = 0.0
    learning_rate: float = 1e-4
    betas: list[float] = field(default_factory=lambda: [0.5, 0.9])

    def __post_init__(self) -> None:
        for name in ("weight", "learning_rate", "largest_ratio"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        for name in ("start_step", "lead_steps", "lecam_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if self.lead_steps > self.start_step:
            start = self.start_step
            raise ValueError(f"lead_steps: expected at most start_step ({start}), got {self.lead_steps}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: expected two numbers in [0, 1), got {self.betas}")


@dataclass(frozen=True)
class EvaluationSettings:
    """How a tokenizer is judged while it trains, and at the end.

    every: steps between evaluations; None evaluates at the end alone.
    metrics: names from the table of metrics. items: of the evaluation data, the first so many; None takes all.
    best: the metric by which the best checkpoint is kept (higher is better, but for lpips and distances).
    sheet: pictures on the sheet of samples.
    """

    every: int | None = None
    metrics: list[str] = field(default_factory=lambda: ["psnr", "ssim", "usage", "perplexity", "cvu"])
    items: int | None = None
    batch_size: int = 8
    best: str | None = None
    sheet: int = 8

    def __post_init__(self) -> None:
        for name in ("every", "items", "batch_size", "sheet"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected 1 or more, got {value}")
        if not self.metrics:
            raise ValueError("metrics: expected at least one name")
        if self.best is not None and self.best not in self.metrics:
            raise ValueError(f"best: '{self.best}' is not among the metrics: {', '.join(self.metrics)}")


@dataclass(frozen=True)
class CodebookSettings:
    """The stage after training that builds codebooks from the training data, so that a run ends usable.

    sizes: one codebook for each; None builds the quantizer's own size. samples: latents they are built from.
    passes: over the training data, each with other random crops. items: read so many, evenly spaced; None reads all.
    finetune_steps, finetune_rate: then the decoder alone learns from the codes for so many steps; the rate falls to 0.
    """

    sizes: list[int] | None = None
    samples: int = 200_000
    passes: int = 1
    items: int | None = None
    finetune_steps: int = 0
    finetune_rate: float = 5e-4

    def __post_init__(self) -> None:
        for name in ("samples", "passes", "items"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected 1 or more, got {value}")
        if self.finetune_steps < 0 or self.finetune_rate <= 0:
            raise ValueError("finetune_steps: expected 0 or more; finetune_rate: a positive number")
        if any(size < 2 for size in self.sizes or []):
            raise ValueError(f"sizes: expected 2 codes or more in each, got {self.sizes}")
