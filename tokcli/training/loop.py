"""The training loop: batches in, a trained tokenizer out, everything else a function of the step.

batch -> tokenizer -> losses (and adversary) -> gradients -> optimizer -> averages
                                           every so often: log, checkpoint, evaluate
"""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping

import torch
from torch import Tensor

from tokcli.contracts import Loss
from tokcli.data.batches import Batch, open_training_loader
from tokcli.data.items import default_workers
from tokcli.distributed import sum_over_ranks
from tokcli.errors import DivergedError, InterruptedRunError
from tokcli.progress import SILENT, Reporter
from tokcli.quantizers.ops import usage_stats
from tokcli.tokenizer import Reconstructed
from tokcli.training.checkpoint import all_finite, find_newest_checkpoint, save_checkpoint
from tokcli.training.log import TrainingLog
from tokcli.training.parts import Training
from tokcli.training.process import StopRequest, leave_cores
from tokcli.training.run_folder import RunFolder
from tokcli.training.schedule import learning_rate, mix_step_seed

SYNC_EVERY = 10
"""Steps between the moments at which several processes agree whether to stop."""


def train(
    training: Training, run: RunFolder, evaluate: Callable[[Training], None], reporter: Reporter = SILENT
) -> None:
    """Train from `training.step` to the recipe's last step.

    Args:
        training: All parts of the run, changed in place.
        run: Where lines and checkpoints go.
        evaluate: Called between steps whenever the recipe asks for an evaluation; it records and draws.
        reporter: Is told how far training has come.

    Raises:
        DivergedError: A loss is not finite.
        InterruptedRunError: The user stopped the run. Both leave a checkpoint to go on from.
    """
    settings = training.recipe.training
    log = TrainingLog(run if training.accelerator.is_main_process else None, reporter, settings.batch_size)
    if _is_evaluation_due(training):  # the run was stopped between the checkpoint of this step and its evaluation
        evaluate(training)
    training.model.train()
    workers = count_loading_workers(training)
    batches = _batches(training, workers)
    progress = reporter.task("training", settings.steps, "steps", done=training.step)
    with StopRequest() as stop, leave_cores(workers), progress, contextlib.closing(batches):
        while training.step < settings.steps:
            take_step(training, batches, log)
            training.step += 1
            done = training.step == settings.steps
            figures = {}
            if training.step % settings.log_every == 0 or done:
                figures = log.write(training.step, learning_rate(settings, training.step - 1))
                _require_finite(training, run, figures)
            progress.advance(1, **figures)
            stopping = agree_to_stop(training, stop)
            if training.step % settings.checkpoint_every == 0 or done or stopping:
                _save(training, run)
            if stopping and not done:
                raise InterruptedRunError(
                    f"stopped after step {training.step} of {settings.steps}; the same command goes on from there "
                    f"({run.checkpoint(training.step)})"
                )
            if _is_evaluation_due(training):
                evaluate(training)
                training.model.train()
                log.restart_clock()


def time_steps(training: Training, count: int) -> list[float]:
    """The seconds of each of so many steps more than the recipe has, reading included. They change the weights."""
    recipe = training.recipe
    longer = dataclasses.replace(recipe.training, steps=training.step + count)
    training.recipe = dataclasses.replace(recipe, training=longer)
    log = TrainingLog(None, SILENT, longer.batch_size)
    workers, seconds = count_loading_workers(training), []
    training.model.train()
    with leave_cores(workers), contextlib.closing(_batches(training, workers)) as batches:
        for _ in range(count):
            started = time.perf_counter()
            take_step(training, batches, log)
            log.write(training.step + 1, 0.0)  # waits for the device, as a line of the log does
            training.step += 1
            seconds.append(time.perf_counter() - started)
    training.recipe = recipe
    return seconds


def _is_evaluation_due(training: Training) -> bool:
    """Whether the recipe asks for an evaluation after the present step; the last step has one of its own."""
    every = training.recipe.evaluation.every
    within = 0 < training.step < training.recipe.training.steps
    return every is not None and within and training.step % every == 0


def take_step(training: Training, batches: Iterator[Batch], log: TrainingLog) -> None:
    """One optimizer step over all its micro-batches."""
    settings, accelerator = training.recipe.training, training.accelerator
    torch.manual_seed(mix_step_seed(training.recipe.seed, training.step, accelerator.process_index))
    for group in training.optimizer.param_groups:
        group["lr"] = learning_rate(settings, training.step)
    for micro in range(settings.accumulate):
        batch = next(batches)
        log.add_unreadable(batch.failures)
        last = micro == settings.accumulate - 1
        with contextlib.nullcontext() if last else training.local_gradients():
            log.add(backward(training, batch.move(accelerator.device)))
    if settings.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(training.parameters, settings.clip_norm)
    training.optimizer.step()
    training.optimizer.zero_grad(set_to_none=True)
    if training.active_adversary is not None:
        training.active_adversary.update(training.step)
    if training.averages is not None:
        training.averages.update(training.step)


def backward(training: Training, signals: Tensor) -> dict[str, Tensor]:
    """Forward and backward of one micro-batch (batch, channels, *size), on the device; its figures, detached."""
    settings, accelerator = training.recipe.training, training.accelerator
    if settings.channels_last and signals.dim() == 4:
        signals = signals.contiguous(memory_format=torch.channels_last)
    with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        output = training.model(signals)
    figures = compute_losses(training.losses, output, signals)
    distance = sum_weighted(training.losses, figures)
    total = distance + output.quantized.loss
    adversary = training.active_adversary
    if adversary is not None and adversary.teaches_in(training.step):
        adversarial = adversary.tokenizer_loss(signals, output.reconstructions, distance)
        total, figures = total + adversarial.loss, figures | adversarial.figures
    accelerator.backward(total / settings.accumulate)
    if adversary is not None:
        figures |= adversary.backward(signals, output.reconstructions, share=1 / settings.accumulate)
    quantized = output.quantized
    logged = {"loss": total, **figures, "quantizer_loss": quantized.loss, **quantized.stats}
    if quantized.tokens is not None:
        logged |= usage_stats(quantized.tokens, training.tokenizer.quantizer.codebook_size)
    return {name: value.detach() for name, value in logged.items()}


def compute_losses(losses: Mapping[str, Loss], output: Reconstructed, signals: Tensor) -> dict[str, Tensor]:
    """Each loss, averaged over everything the quantizer asked to decode; not yet weighted."""
    figures = {}
    for kind, loss in losses.items():
        values = [loss(branch.float(), signals) for branch in output.reconstructions]
        figures[kind] = functools.reduce(torch.add, values) / len(values)
    return figures


def sum_weighted(losses: Mapping[str, Loss], figures: Mapping[str, Tensor]) -> Tensor:
    """The reconstruction losses together, as the recipe weighs them."""
    return functools.reduce(torch.add, [loss.weight * figures[kind] for kind, loss in losses.items()])


def count_loading_workers(training: Training) -> int:
    """Processes that read ahead: the recipe's number, or what this machine has cores for."""
    chosen = training.recipe.training.workers
    return default_workers(processes=training.accelerator.num_processes) if chosen is None else chosen


def _batches(training: Training, workers: int) -> Generator[Batch]:
    settings, accelerator = training.recipe.training, training.accelerator
    return open_training_loader(
        training.train_source,
        batch_size=settings.batch_size // settings.accumulate,
        seed=training.recipe.seed,
        start_step=training.step * settings.accumulate,
        steps=settings.steps * settings.accumulate,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        workers=workers,
    )


def agree_to_stop(training: Training, stop: StopRequest) -> bool:
    """Whether every process stops now: they must leave at the same step, or the others wait for ever."""
    accelerator = training.accelerator
    if accelerator.num_processes == 1:
        return stop.requested
    if training.step % SYNC_EVERY:
        return False
    requests = torch.tensor(float(stop.requested), device=accelerator.device)
    return bool(sum_over_ranks(requests) > 0)


def _save(training: Training, run: RunFolder) -> None:
    if not all_finite(training.state):
        _require_finite(training, run, {"loss": math.nan})
    if training.accelerator.is_main_process:
        save_checkpoint(run.checkpoint(training.step), training.state, training.step, training.recipe.fingerprint())
        run.forget_checkpoints(training.recipe.training.keep_checkpoints)
    training.accelerator.wait_for_everyone()


def _require_finite(training: Training, run: RunFolder, figures: Mapping[str, float]) -> None:
    wild = [name for name, value in figures.items() if not math.isfinite(value)]
    if not wild:
        return
    recipe, loss = training.recipe, "the loss"
    setting, rate = "training.learning_rate", recipe.training.learning_rate
    if recipe.adversary is not None and "loss" not in wild:
        loss, setting, rate = "the discriminator's loss", "adversary.learning_rate", recipe.adversary.learning_rate
    good = find_newest_checkpoint(run.checkpoints)
    start = f"--resume {good} goes on from the last good state" if good else "there is no checkpoint yet; start again"
    raise DivergedError(
        f"training diverged: {loss} is not finite at step {training.step}; {start}, with a lower rate such as "
        f"{setting}={rate / 2:g}"
    )
