"""What a training will take, by a few steps of it: time, memory, tokens."""

import resource
import statistics
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from tokcli.progress import SILENT
from tokcli.recipe.recipe import Recipe
from tokcli.training.announcement import count_evaluated, describe_rate
from tokcli.training.evaluation import evaluate_weights, provisional_codebook
from tokcli.training.loop import time_steps
from tokcli.training.parts import Training

TIMED = 4
"""Steps, of which the first warms up."""


@dataclass(frozen=True)
class Estimate:
    """What the whole of a training will take on this machine, as far as a few steps can tell.

    Attributes:
        steps: Of the whole training.
        seconds_per_step: The median of the steps that were timed.
        evaluations: Of the whole training, the last one included.
        seconds_per_evaluation: From the time of a few items.
        memory_bytes: The most that this process, or its GPU, held so far.
        rate: Tokens and bits of an item, in words.
    """

    steps: int
    seconds_per_step: float
    evaluations: int
    seconds_per_evaluation: float
    memory_bytes: int
    rate: str

    @property
    def seconds(self) -> float:
        """Of all steps and evaluations."""
        return self.steps * self.seconds_per_step + self.evaluations * self.seconds_per_evaluation

    def to_json(self) -> dict[str, Any]:
        """The object that stands under `estimate`."""
        return asdict(self) | {"seconds": self.seconds}


def estimate_training(training: Training, whole: Recipe) -> Estimate:
    """Time some steps and a small evaluation of a training that was tried out; every process takes part.

    Args:
        training: Changed by the steps.
        whole: The recipe that the training would follow.
    """
    steps = sorted(time_steps(training, TIMED)[1:])
    small = min(training.recipe.evaluation.items or 1, len(training.eval_source))
    started = time.perf_counter()
    with training.export_weights() as tokenizer, provisional_codebook(tokenizer):
        evaluate_weights(training, tokenizer, SILENT)
    per_item = (time.perf_counter() - started) / small
    every, items = whole.evaluation.every, count_evaluated(training.eval_source, whole.evaluation.items)
    return Estimate(
        steps=whole.training.steps,
        seconds_per_step=statistics.median(steps),
        evaluations=1 + (max(0, whole.training.steps - 1) // every if every else 0),
        seconds_per_evaluation=per_item * items,
        memory_bytes=_measure_memory(training.accelerator.device),
        rate=describe_rate(replace(training, recipe=whole)),
    )


def _measure_memory(device: torch.device) -> int:
    """The most bytes so far: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
