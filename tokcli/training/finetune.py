"""Fine-tuning the decoder on the codes it will meet, after a codebook has been built.

A decoder trained on perturbed latents has never seen a code. In this last phase latents are what `tok decode` reads,
and only the decoder learns, so that tokens and codebooks stay what they are. It sees the codebook in use; others that
the artifact holds share the decoder.
"""

import contextlib

import torch
from torch import Tensor

from tokcli.contracts import Quantized
from tokcli.data.batches import open_training_loader
from tokcli.distributed import mean_over_ranks
from tokcli.errors import DivergedError
from tokcli.progress import Reporter
from tokcli.tokenizer import Reconstructed, Tokenizer
from tokcli.training.loop import compute_losses, count_loading_workers, sum_weighted
from tokcli.training.parts import Training
from tokcli.training.schedule import mix_step_seed


def finetune_decoder(training: Training, tokenizer: Tokenizer, reporter: Reporter) -> None:
    """Take the recipe's `codebook.finetune_steps` steps on the weights that `tokenizer` holds, in place.

    The rate falls linearly from `codebook.finetune_rate` to 0. Batches go on where training stopped.

    Raises:
        DivergedError: The loss is not finite.
    """
    stage, settings, accelerator = training.recipe.codebook, training.recipe.training, training.accelerator
    if stage is None or not stage.finetune_steps:
        return
    first = settings.steps * settings.accumulate
    batches = open_training_loader(
        training.train_source,
        batch_size=settings.batch_size,
        seed=training.recipe.seed,
        start_step=first,
        steps=first + stage.finetune_steps,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        workers=count_loading_workers(training),
    )
    optimizer = torch.optim.Adam(
        training.parameters, lr=stage.finetune_rate, betas=(settings.betas[0], settings.betas[1])
    )
    progress = reporter.task("fine-tuning the decoder", stage.finetune_steps, "steps")
    with progress, contextlib.closing(batches):
        for step, batch in enumerate(batches):
            torch.manual_seed(mix_step_seed(training.recipe.seed, settings.steps + step, accelerator.process_index))
            optimizer.param_groups[0]["lr"] = stage.finetune_rate * (1 - step / stage.finetune_steps)
            loss = _backward(training, tokenizer, batch.move(accelerator.device))
            _share_gradients(training)
            torch.nn.utils.clip_grad_norm_(training.parameters, settings.clip_norm or float("inf"))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            told = step % settings.log_every == 0 or step == stage.finetune_steps - 1
            progress.advance(1, **({"loss": _finite(loss, step)} if told else {}))


def _backward(training: Training, tokenizer: Tokenizer, signals: Tensor) -> Tensor:
    """Gradients of the decoder alone: latents are constants here."""
    precision = training.recipe.training.precision
    latents = tokenizer.quantizer.dequantize(tokenizer.encode(signals))
    with torch.autocast(signals.device.type, torch.bfloat16, enabled=precision == "bf16"):
        decoded = tokenizer.decode_latents(latents, signals.shape[2:])
    output = Reconstructed((decoded,), Quantized(latents, None, latents.new_zeros(())))
    figures = compute_losses(training.losses, output, signals)
    loss = sum_weighted(training.losses, figures)
    loss.backward()
    return loss.detach()


def _share_gradients(training: Training) -> None:
    """Average over processes by hand: the wrapper that does so in training expects every parameter to take part."""
    for value in training.parameters:
        if value.grad is not None:
            value.grad = mean_over_ranks(value.grad)


def _finite(loss: Tensor, step: int) -> float:
    value = float(loss)
    if value != value or value == float("inf"):
        raise DivergedError(
            f"fine-tuning diverged at its step {step}; the checkpoint of training is whole: "
            "run the same recipe with a lower codebook.finetune_rate and --resume CHECKPOINT"
        )
    return value
