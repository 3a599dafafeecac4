"""The adversarial part of a training step: what a discriminator adds to the tokenizer's loss, and how it learns.

reconstructions -> frozen discriminator -> adversarial loss, into the tokenizer's own backward pass
originals, reconstructions without their history -> discriminator -> its loss -> its gradients -> its optimizer

Both players see the same reconstructions, made by the tokenizer as it was before the step. Where a quantizer has
several latents decoded, the discriminator judges all of them, as every loss does: a path that it never sees would
stay blurred, and the decoder could tell the two apart.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from tokcli.contracts import Discriminator
from tokcli.discriminators.features import feature_distance
from tokcli.discriminators.objectives import LogitMeans, discriminator_loss, generator_loss, lecam_penalty
from tokcli.distributed import mean_over_ranks
from tokcli.recipe.settings import AdversarySettings, TrainingSettings
from tokcli.training.schedule import learning_rate

SMALLEST_NORM = 1e-4
"""Added to the adversarial gradient's norm in the adaptive weight, as VQGAN does."""


@dataclass(frozen=True)
class AdversarialLoss:
    """What the tokenizer learns from the discriminator.

    Attributes:
        loss: Weighted, for the tokenizer's backward pass.
        figures: To log, detached.
    """

    loss: Tensor
    figures: dict[str, Tensor]


@dataclass
class Adversary:
    """A discriminator as it is trained beside the tokenizer.

    Attributes:
        settings: Of the recipe's section `adversary`.
        training: Of the recipe's section `training`.
        accelerator: What spreads the run over devices and processes.
        discriminator: The network itself.
        model: The same, wrapped where several processes train it.
        optimizer: Of its parameters.
        last_layer: The decoder's last weight, where the adversarial loss's weight is adaptive; else None.
        logit_means: Where LeCam needs them; else None.
    """

    settings: AdversarySettings
    training: TrainingSettings
    accelerator: Accelerator
    discriminator: Discriminator
    model: nn.Module
    optimizer: Optimizer
    last_layer: nn.Parameter | None
    logit_means: LogitMeans | None

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint keeps."""
        means = {"logit_means": self.logit_means} if self.logit_means is not None else {}
        return {"discriminator": self.discriminator, **means}

    def learns_in(self, step: int) -> bool:
        """Whether the discriminator learns in step `step`, counted from 0."""
        return step >= self._first_step

    def teaches_in(self, step: int) -> bool:
        """Whether the tokenizer learns from it in step `step`."""
        return step >= self.settings.start_step

    def tokenizer_loss(self, signals: Tensor, reconstructions: Sequence[Tensor], distance: Tensor) -> AdversarialLoss:
        """The tokenizer's adversarial loss over all `reconstructions`, and the distance of features if that counts.

        The discriminator is frozen here, so the tokenizer's backward pass leaves no gradient in it; and it is not the
        wrapped one, because processes share the discriminator's gradients once, after its own `backward`.

        Args:
            signals: (batch, channels, *size), as they were read.
            reconstructions: Of these signals, the same shape each.
            distance: The tokenizer's other reconstruction losses together, weighted, against which an adaptive weight
                is balanced.
        """
        with _freeze(self.discriminator), self._autocast():
            verdict = self.discriminator.discriminate(torch.cat(tuple(reconstructions)))
        loss = _over_scales(generator_loss(self.settings.generator_loss, scale.float()) for scale in verdict.logits)
        figures = {"adversarial_loss": loss.detach()}
        if self.last_layer is None:
            weighted = self.settings.weight * loss
        else:
            weight = self.settings.weight * self._balance(self.last_layer, distance, loss)
            figures["adversarial_weight"] = weight
            weighted = weight * loss
        if self.settings.feature_weight:
            with torch.no_grad(), self._autocast():
                originals = self.discriminator.discriminate(signals).features
            features = feature_distance(originals, verdict.features)
            figures["feature_distance"] = features.detach()
            weighted = weighted + self.settings.feature_weight * features
        return AdversarialLoss(weighted, figures)

    def backward(self, signals: Tensor, reconstructions: Sequence[Tensor], share: float) -> dict[str, Tensor]:
        """Add `share` of the discriminator's gradient on one micro-batch; the figures to log come back.

        Args:
            signals: (batch, channels, *size), as they were read.
            reconstructions: Of these signals, the same shape each.
            share: Of this micro-batch in the step.
        """
        original = self._logits(signals)
        reconstructed = self._logits(torch.cat(tuple(reconstructions)).detach())
        scales = list(zip(original, reconstructed, strict=True))
        loss = _over_scales(discriminator_loss(self.settings.discriminator_loss, *scale) for scale in scales)
        figures = {
            "discriminator_loss": loss.detach(),
            "logits_original": _over_scales(scale.detach().mean() for scale in original),
            "logits_reconstructed": _over_scales(scale.detach().mean() for scale in reconstructed),
        }
        if self.logit_means is not None:
            penalty = _over_scales(lecam_penalty(*scale, self.logit_means) for scale in scales)
            loss = loss + self.settings.lecam_weight * penalty
            means = torch.stack([figures["logits_original"], figures["logits_reconstructed"]])
            self.logit_means.update(*mean_over_ranks(means))
            figures["lecam"] = penalty.detach()
        self.accelerator.backward(loss * share)
        return figures

    def update(self, step: int) -> None:
        """The discriminator's optimizer step, at its rate for training step `step`."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        if self.training.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.discriminator.parameters(), self.training.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def learning_rate(self, step: int) -> float:
        """The discriminator's rate in training step `step`: the shape of training's schedule, from its own first."""
        start = self._first_step
        own = dataclasses.replace(
            self.training, learning_rate=self.settings.learning_rate, steps=self.training.steps - start
        )
        return learning_rate(own, step - start)

    @property
    def _first_step(self) -> int:
        return self.settings.start_step - self.settings.lead_steps

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.training.precision == "bf16")

    def _logits(self, signals: Tensor) -> tuple[Tensor, ...]:
        with self._autocast():
            return tuple(scale.float() for scale in self.model(signals))

    def _balance(self, last_layer: nn.Parameter, distance: Tensor, loss: Tensor) -> Tensor:
        """λ of VQGAN, eq. 7: the ratio of two norms of gradients at the last layer.

        That of the other losses' gradient over that of the adversarial loss's. The gradients are averaged
        over processes first, so that all of them use the same λ.
        """
        gradients = [torch.autograd.grad(value, last_layer, retain_graph=True)[0] for value in (distance, loss)]
        others, own = (torch.linalg.vector_norm(mean_over_ranks(value)) for value in gradients)
        return (others / (own + SMALLEST_NORM)).clamp(max=self.settings.largest_ratio)


def _over_scales(values: Iterable[Tensor]) -> Tensor:
    """The mean of one value for each scale of the discriminator: all weigh the same, however many logits they have."""
    return torch.stack(list(values)).mean()


@contextlib.contextmanager
def _freeze(module: nn.Module) -> Iterator[None]:
    """Within this context no parameter of `module` takes part in a graph."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
