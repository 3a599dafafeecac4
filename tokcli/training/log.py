"""What the loop writes down: means since the last line, summed on the device and fetched once a line."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from tokcli.data.items import Failure
from tokcli.evaluation.run import json_figures
from tokcli.progress import Reporter
from tokcli.training.run_folder import RunFolder


class TrainingLog:
    """Figures of the steps since the last line of metrics.jsonl.

    run: where lines go; None on processes that only compute. signals_per_step: over all processes.
    """

    def __init__(self, run: RunFolder | None, reporter: Reporter, signals_per_step: int) -> None:
        self._run = run
        self._reporter = reporter
        self._signals_per_step = signals_per_step
        self._sums: dict[str, Tensor] = {}
        self._micro_batches: dict[str, int] = {}
        self._steps_from: int | None = None
        self._unreadable: set[str] = set()
        self.restart_clock()

    def add(self, figures: dict[str, Tensor]) -> None:
        """Take in the figures of one micro-batch without waiting for the device."""
        for name, value in figures.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._micro_batches[name] = self._micro_batches.get(name, 0) + 1

    def unreadable(self, failures: Sequence[Failure]) -> None:
        """Tell of items that were replaced because they cannot be read, each once."""
        for failure in failures:
            if failure.item not in self._unreadable:
                self._unreadable.add(failure.item)
                self._reporter.note(f"cannot read {failure.item}, trained on the next item instead: {failure.reason}")

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
            self._run.record({"step": step, **json_figures(means), "learning_rate": learning_rate, **rate, **unread})
        self._sums, self._micro_batches = {}, {}
        self._steps_from, self._clock = step, time.perf_counter()
        return {name: means[name] for name in ("loss", "discriminator_loss") if name in means} | rate

    def restart_clock(self) -> None:
        """Leave out of the rate what was no training."""
        self._clock = time.perf_counter()
        self._steps_from = None
