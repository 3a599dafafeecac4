"""Trackers: every line of metrics.jsonl goes to TensorBoard or Weights & Biases as well, where a recipe asks for it.

accelerate drives them; this file says what they are told, and refuses a recipe whose tracker is not installed.
"""

import contextlib
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from accelerate import Accelerator

from tokcli.errors import UsageError
from tokcli.optional import require
from tokcli.training.parts import Training
from tokcli.training.run_folder import RunFolder

PROJECT = "tok"
"""Under which W&B keeps the runs, and the folder's name within `RunFolder.tensorboard`."""


def require_trackers(names: Sequence[str]) -> None:
    """Raise UsageError, with the command that installs it, for a tracker whose library is absent."""
    for name in names:
        require(name, extra=name)


@contextlib.contextmanager
def tracked(training: Training, run: RunFolder) -> Iterator[None]:
    """Within this context what `run` records goes to the recipe's trackers too. Every process enters it.

    Raises UsageError where W&B refuses to start.
    """
    accelerator = training.accelerator
    trackers = training.recipe.training.trackers
    if not trackers:
        yield
        return
    settings = {
        # A resumed run writes the steps after its checkpoint again.
        "tensorboard": {"purge_step": training.step + 1},
        "wandb": {"name": run.path.name, "dir": str(run.path), "config": training.recipe.to_dict()},
    }
    if "wandb" in trackers and accelerator.is_main_process:
        # Steps that a resumed run writes again are ignored there; their figures are the same.
        resume = "allow" if run.wandb_id.exists() else None
        settings["wandb"] |= {"resume": resume, "id": run.keep_wandb_id()}
    with _explained() if "wandb" in trackers else contextlib.nullcontext():
        accelerator.init_trackers(PROJECT, init_kwargs=settings)
    run.watchers.append(lambda entry: _tell(accelerator, entry))
    try:
        yield
    finally:
        run.watchers.pop()
        for tracker in accelerator.trackers:
            tracker.finish()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Raise UsageError for what W&B says when it has no key, or cannot reach its server."""
    try:
        yield
    except require("wandb", extra="wandb").Error as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UsageError(
            f"W&B did not start: {reason}; run: wandb login, or set WANDB_MODE=offline to keep the run on this disk"
        ) from error


def _tell(accelerator: Accelerator, entry: Mapping[str, Any]) -> None:
    accelerator.log(tracked_figures(entry), step=entry["step"])


def tracked_figures(entry: Mapping[str, Any]) -> dict[str, float]:
    """A line of metrics.jsonl as flat names with a folder, `training/loss` or `evaluation/psnr`; unknowns left out."""
    figures = {f"training/{name}": value for name, value in entry.items() if name not in ("step", "evaluation")}
    figures |= {f"evaluation/{name}": value for name, value in entry.get("evaluation", {}).items()}
    return {name: value for name, value in figures.items() if isinstance(value, numbers.Real)}
