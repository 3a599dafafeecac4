"""The parts of a run: all that training touches, built once from a recipe and checked where parts meet."""

import contextlib
import pathlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import KwargsHandler
from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from tokcli.contracts import Loss, Source
from tokcli.discriminators.objectives import LogitMeans
from tokcli.errors import RecipeError
from tokcli.numerics import lay_out
from tokcli.recipe.build import (
    build_discriminator,
    build_evaluation_source,
    build_losses,
    build_tokenizer,
    build_training_source,
)
from tokcli.recipe.recipe import Recipe
from tokcli.recipe.settings import TrainingSettings
from tokcli.tokenizer import Tokenizer
from tokcli.training.adversarial import Adversary
from tokcli.training.checkpoint import AveragedWeights, TrainingState


@dataclass
class Training:
    """The parts of a run, built once and changed in place by the loop.

    Attributes:
        recipe: What the run is made from.
        accelerator: What spreads the run over devices and processes.
        tokenizer: What is trained.
        model: The tokenizer, wrapped where several processes train it.
        optimizer: Of the tokenizer's parameters.
        averages: Of the tokenizer's weights; None where the recipe asks for none.
        losses: By kind.
        train_source: What it learns from.
        eval_source: What it is evaluated on.
        adversary: None where the recipe has none.
        step: Optimizer steps done.
        state: All that a checkpoint holds.
        parameters: The tokenizer's, as far as they are trained.
    """

    recipe: Recipe
    accelerator: Accelerator
    tokenizer: Tokenizer
    model: nn.Module
    optimizer: Optimizer
    averages: AveragedWeights | None
    losses: dict[str, Loss]
    train_source: Source
    eval_source: Source
    adversary: Adversary | None
    step: int = 0
    state: TrainingState = field(init=False)
    parameters: list[nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        modules: dict[str, nn.Module] = {"tokenizer": self.tokenizer}
        optimizers = {"tokenizer": self.optimizer}
        if self.adversary is not None:
            modules |= self.adversary.modules
            optimizers |= {"discriminator": self.adversary.optimizer}
        self.state = TrainingState(modules, optimizers, self.averages)
        self.parameters = list_trainable(self.tokenizer)

    @property
    def weights(self) -> Literal["ema", "raw"]:
        """Which weights are judged and exported."""
        return "raw" if self.averages is None else "ema"

    @property
    def active_adversary(self) -> Adversary | None:
        """The adversary in the present step; None before the first step in which it learns."""
        return self.adversary if self.adversary is not None and self.adversary.learns_in(self.step) else None

    @contextlib.contextmanager
    def local_gradients(self) -> Iterator[None]:
        """Within this context gradients stay in their process: more micro-batches follow."""
        models = [self.model] if self.adversary is None else [self.model, self.adversary.model]
        with contextlib.ExitStack() as contexts:
            for model in models:
                contexts.enter_context(self.accelerator.no_sync(model))
            yield

    @contextlib.contextmanager
    def export_weights(self) -> Iterator[Tokenizer]:
        """Within this context the tokenizer holds the weights that are judged and exported, in evaluation mode."""
        self.tokenizer.eval()
        with self.averages.applied() if self.averages is not None else contextlib.nullcontext():
            yield self.tokenizer
        self.tokenizer.train()


def make_accelerator(
    device: str, trackers: Sequence[str] = (), tracker_folder: pathlib.Path | None = None
) -> Accelerator:
    """The accelerate context on a device of the type cpu, cuda or mps; several CPU processes need to be told so.

    Quantizers keep their own buffers equal on all processes, so buffers are not broadcast in every step.

    Args:
        device: cpu, cuda or mps.
        trackers: Of a recipe.
        tracker_folder: Where trackers that write files do so.
    """
    handlers: list[KwargsHandler] = [DistributedDataParallelKwargs(broadcast_buffers=False)]
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision="no",
        kwargs_handlers=handlers,
        log_with=list(trackers) or None,
        project_dir=tracker_folder,
    )


def prepare(recipe: Recipe, accelerator: Accelerator) -> Training:
    """Build everything that the recipe names, on the device.

    Raises:
        TokError: For what a user can fix.
    """
    torch.manual_seed(recipe.seed)
    tokenizer = build_tokenizer(recipe)
    settings = recipe.training
    if settings.batch_size % (settings.accumulate * accelerator.num_processes):
        raise RecipeError(
            f"training.batch_size: {settings.batch_size} does not divide into {settings.accumulate} micro-batches "
            f"on {accelerator.num_processes} processes"
        )
    modality, sample_rate = tokenizer.modality, tokenizer.autoencoder.sample_rate
    losses = build_losses(recipe, modality, sample_rate)
    train_source = build_training_source(recipe, modality, sample_rate)
    eval_source = build_evaluation_source(recipe, modality, sample_rate)
    lay_out(tokenizer.to(accelerator.device), settings.channels_last)
    return Training(
        recipe=recipe,
        accelerator=accelerator,
        tokenizer=tokenizer,
        model=_wrap(tokenizer, accelerator),
        optimizer=_optimizer(tokenizer, settings),
        averages=AveragedWeights(tokenizer, settings.ema_decay) if settings.ema_decay is not None else None,
        losses={kind: loss.to(accelerator.device) for kind, loss in losses.items()},
        train_source=train_source,
        eval_source=eval_source,
        # Built last, so that a recipe with an adversary starts from the same tokenizer as one without.
        adversary=_adversary(recipe, tokenizer, accelerator),
    )


def _adversary(recipe: Recipe, tokenizer: Tokenizer, accelerator: Accelerator) -> Adversary | None:
    settings = recipe.adversary
    discriminator = build_discriminator(recipe, tokenizer.autoencoder)
    if settings is None or discriminator is None:
        return None
    betas = (settings.betas[0], settings.betas[1])
    lay_out(discriminator.to(accelerator.device), recipe.training.channels_last)
    return Adversary(
        settings=settings,
        training=recipe.training,
        accelerator=accelerator,
        discriminator=discriminator,
        model=_wrap(discriminator, accelerator),
        optimizer=Adam(discriminator.parameters(), lr=settings.learning_rate, betas=betas),
        last_layer=tokenizer.autoencoder.last_layer if settings.adaptive else None,
        logit_means=LogitMeans().to(accelerator.device) if settings.lecam_weight else None,
    )


def _wrap(module: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The module as all processes train it."""
    with warnings.catch_warnings():
        # The replacement that newer versions of torch name differs from what `make_accelerator` asks for.
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
        return accelerator.prepare_model(module)


def _optimizer(tokenizer: Tokenizer, settings: TrainingSettings) -> Optimizer:
    kind = {"adam": Adam, "adamw": AdamW}[settings.optimizer]
    betas = (settings.betas[0], settings.betas[1])
    return kind(list_trainable(tokenizer), lr=settings.learning_rate, betas=betas, weight_decay=settings.weight_decay)


def list_trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that an optimizer changes."""
    return [value for value in module.parameters() if value.requires_grad]
