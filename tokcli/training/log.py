"""What the loop writes down: means since the last line, summed on the device and fetched once a line.

step figures -> TrainingLog -> metrics.jsonl -> TensorBoard or Weights & Biases, where a recipe asks for them

accelerate drives the trackers; this file says what they are told, and refuses a recipe whose tracker is not installed.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from tokcli.data.items import Failure
from tokcli.errors import UsageError
from tokcli.evaluation.run import make_json_figures
from tokcli.optional import require
from tokcli.progress import FailureNotes, Reporter
from tokcli.training.parts import Training
from tokcli.training.run_folder import RunFolder

PROJECT = "tok"
"""Under which W&B keeps the runs, and the folder's name within `RunFolder.tensorboard`."""


class TrainingLog:
    """Figures of the steps since the last line of metrics.jsonl.

    Args:
        run: Where lines go; None on processes that only compute.
        reporter: Is told of items that cannot be read.
        signals_per_step: Over all processes.
    """

    def __init__(self, run: RunFolder | None, reporter: Reporter, signals_per_step: int) -> None:
        self._run = run
        self._signals_per_step = signals_per_step
        self._sums: dict[str, Tensor] = {}
        self._micro_batches: dict[str, int] = {}
        self._steps_from: int | None = None
        self._unreadable: set[str] = set()
        self._failures = FailureNotes(reporter, "metrics.jsonl counts them as unreadable")
        self.restart_clock()

    def add(self, figures: dict[str, Tensor]) -> None:
        """Take in the figures of one micro-batch without waiting for the device."""
        for name, value in figures.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._micro_batches[name] = self._micro_batches.get(name, 0) + 1

    def add_unreadable(self, failures: Sequence[Failure]) -> None:
        """Tell of items that were replaced because they cannot be read, each once."""
        for failure in failures:
            if failure.item not in self._unreadable:
                self._unreadable.add(failure.item)
                self._failures.add(f"cannot read {failure.item}, trained on the next item instead: {failure.reason}")

    def write(self, step: int, learning_rate: float) -> dict[str, float]:
        """Write the line of `step` and start the next; the losses and the rate come back, to be shown and watched."""
        names = list(self._sums)
        sums = torch.stack([self._sums[name].float() for name in names]).tolist()
        means = {name: total / self._micro_batches[name] for name, total in zip(names, sums, strict=True)}
        seconds = time.perf_counter() - self._clock
        steps = step - self._steps_from if self._steps_from is not None else None
        rate = {"items_per_second": steps * self._signals_per_step / seconds} if steps else {}
        if self._run is not None:
            unread = {"unreadable": len(self._unreadable)} if self._unreadable else {}
            self._run.record(
                {"step": step, **make_json_figures(means), "learning_rate": learning_rate, **rate, **unread}
            )
        self._sums, self._micro_batches = {}, {}
        self._steps_from, self._clock = step, time.perf_counter()
        return {name: means[name] for name in ("loss", "discriminator_loss") if name in means} | rate

    def restart_clock(self) -> None:
        """Leave out of the rate what was no training."""
        self._clock = time.perf_counter()
        self._steps_from = None


def require_trackers(names: Sequence[str]) -> None:
    """Raise UsageError, with the command that installs it, for a tracker whose library is absent."""
    for name in names:
        require(name, extra=name)


@contextlib.contextmanager
def track(training: Training, run: RunFolder) -> Iterator[None]:
    """Within this context what `run` records goes to the recipe's trackers too. Every process enters it.

    Raises:
        UsageError: W&B refuses to start.
    """
    accelerator = training.accelerator
    trackers = training.recipe.training.trackers
    if not trackers:
        yield
        return
    settings: dict[str, dict[str, Any]] = {
        # A resumed run writes the steps after its checkpoint again.
        "tensorboard": {"purge_step": training.step + 1},
        "wandb": {"name": run.path.name, "dir": str(run.path), "config": training.recipe.to_dict()},
    }
    if "wandb" in trackers and accelerator.is_main_process:
        # Steps that a resumed run writes again are ignored there; their figures are the same.
        resume = "allow" if run.wandb_id.exists() else None
        settings["wandb"] |= {"resume": resume, "id": run.keep_wandb_id()}
    with _explain_wandb() if "wandb" in trackers else contextlib.nullcontext():
        accelerator.init_trackers(PROJECT, init_kwargs=settings)
    run.watchers.append(lambda entry: _tell(accelerator, entry))
    try:
        yield
    finally:
        run.watchers.pop()
        for tracker in accelerator.trackers:
            tracker.finish()


@contextlib.contextmanager
def _explain_wandb() -> Iterator[None]:
    """Raise UsageError for what W&B says when it has no key, or cannot reach its server."""
    try:
        yield
    except require("wandb", extra="wandb").Error as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UsageError(
            f"W&B did not start: {reason}; run: wandb login, or set WANDB_MODE=offline to keep the run on this disk"
        ) from error


def _tell(accelerator: Accelerator, entry: Mapping[str, Any]) -> None:
    accelerator.log(flatten_figures(entry), step=entry["step"])


def flatten_figures(entry: Mapping[str, Any]) -> dict[str, float]:
    """A line of metrics.jsonl as flat names with a folder, `training/loss` or `evaluation/psnr`; unknowns left out."""
    figures = {f"training/{name}": value for name, value in entry.items() if name not in ("step", "evaluation")}
    figures |= {f"evaluation/{name}": value for name, value in entry.get("evaluation", {}).items()}
    return {name: value for name, value in figures.items() if isinstance(value, int | float)}
