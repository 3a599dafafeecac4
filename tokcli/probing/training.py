"""Training a probe and evaluating it: everything is a function of the step, so a killed one goes on and ends equal.

batch -> network -> bits of each next token -> gradients -> weights
                          every so often: a point of the curve, and a checkpoint
"""

import contextlib
import json
import math
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from tokcli.distributed import sum_over_ranks
from tokcli.errors import DivergedError, InterruptedRunError, MismatchError
from tokcli.files import write_text
from tokcli.probing.protocols import Protocol
from tokcli.probing.sequences import IGNORED, Sequences, choose_batch
from tokcli.progress import Reporter
from tokcli.training.checkpoint import (
    DamagedCheckpointError,
    TrainingState,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from tokcli.training.process import StopRequest
from tokcli.training.schedule import learning_rate
from tokcli.untrusted import parse_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SYNC_EVERY = 10
"""Steps between the moments at which several processes agree whether to stop."""


@dataclass
class Progress:
    """How far a probe is.

    Attributes:
        step: steps taken.
        nats: of the training tokens since the last point.
        tokens: that these are of.
        points: of the curve.
    """

    step: int = 0
    nats: float = 0.0
    tokens: int = 0
    points: list[dict[str, Any]] = field(default_factory=list)


class ProbeTraining:
    """One probe, from new or from its newest checkpoint to its last step.

    Args:
        network: to train, in place.
        train: what it learns from.
        val: what it is evaluated on.
        protocol: how.
        seed: of the order of the sequences.
        folder: of its checkpoints.
        fingerprint: of all that the result depends on: checkpoints of another one are refused.
        accelerator: the device, and the processes that share each batch.
    """

    def __init__(
        self,
        network: "PreTrainedModel",
        train: Sequences,
        val: Sequences,
        protocol: Protocol,
        seed: int,
        folder: pathlib.Path,
        fingerprint: str,
        accelerator: Accelerator,
    ) -> None:
        self.network: nn.Module = network.to(accelerator.device)  # pyright: ignore[reportArgumentType] - a wrapped method
        self.train_set, self.val_set = train, val
        self.protocol, self.seed = protocol, seed
        self.folder, self.fingerprint = folder, fingerprint
        self.accelerator = accelerator
        self.model: nn.Module = accelerator.prepare_model(self.network)
        self.optimizer = _make_optimizer(self.network, protocol)
        self.state = TrainingState({"probe": self.network}, {"probe": self.optimizer}, None)
        self.progress = Progress()

    def resume(self) -> int:
        """Take up the newest checkpoint that is whole; returns its step, 0 where there is none.

        Raises:
            MismatchError: where it is of another probe.
        """
        for checkpoint in reversed(list_checkpoints(self.folder)):
            try:
                beside = parse_json(checkpoint.with_suffix(".json").read_text(encoding="utf-8"))
                step = load_checkpoint(checkpoint, self.state, self.fingerprint)
                self.progress = Progress(**beside)
            except (DamagedCheckpointError, OSError, ValueError, TypeError):
                continue
            except MismatchError as error:
                raise MismatchError(
                    f"{checkpoint} is of other tokens, or of another protocol or seed; resume it as it was begun, "
                    "start over with --force, or name another folder with -o"
                ) from error
            if self.progress.step != step:
                raise MismatchError(
                    f"{checkpoint} and the file beside it differ in their step; start over with --force"
                )
            return step
        return 0

    def run(self, reporter: Reporter, label: str) -> list[dict[str, Any]]:
        """Train to the last step; returns the curve.

        Raises:
            DivergedError: where the loss is not finite.
            InterruptedRunError: where the user stopped it; a checkpoint is kept.
        """
        steps, progress = self.protocol.training.steps, self.progress
        every = max(1, steps // self.protocol.points)
        figures: dict[str, float] = {}
        with StopRequest() as stop, reporter.task(f"training {label}", steps, "steps", done=progress.step) as task:
            while progress.step < steps:
                bits = self._take_step()
                progress.step += 1
                due = progress.step % every == 0 or progress.step == steps
                if due:
                    figures = self._add_point()
                task.advance(1, train_bits=bits, **figures)
                stopping = self._agree_to_stop(stop) and progress.step < steps
                if due or stopping:
                    self._save()
                if stopping:
                    raise InterruptedRunError(
                        f"stopped after step {progress.step} of {steps} of {label}; the same command with --resume "
                        "goes on"
                    )
        return progress.points

    def _take_step(self) -> float:
        """One step on this process's share of a batch; bits per token of that share."""
        settings, accelerator = self.protocol.training, self.accelerator
        batch = choose_batch(len(self.train_set), settings.batch_size, self.progress.step, self.seed)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.progress.step)
        total = sum(math.prod(self.train_set.pieces[index].shape) for index in batch) * self.train_set.groups
        share = batch[accelerator.process_index :: accelerator.num_processes]
        self.model.train()
        inputs, targets, _ = (each.to(accelerator.device) for each in self.train_set.collate(share))
        nats = self._nats(self.model, inputs, targets).sum()
        # Gradients are averaged over processes, and each has an equal say for every token of the whole batch.
        accelerator.backward(nats * accelerator.num_processes / total)
        if settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        own, tokens = float(nats.detach()), int((targets != IGNORED).sum())
        if not math.isfinite(own):
            raise DivergedError(f"the probe diverged: its loss is not finite at step {self.progress.step + 1}")
        self.progress.nats += own
        self.progress.tokens += tokens
        return own / tokens / math.log(2)

    def _nats(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """-ln p of every target, (batch, length) float32; 0 behind the end of a sequence."""
        precision = self.protocol.training.precision
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(input_ids=inputs).logits
        # On rows: the softmax over a transposed axis is slower.
        rows = logits.float().flatten(0, -2)
        nats = functional.cross_entropy(rows, targets.flatten(), reduction="none", ignore_index=IGNORED)
        return nats.view_as(targets)

    def _add_point(self) -> dict[str, float]:
        """A point of the curve; the figures to show beside the bar."""
        spaced = min(len(self.val_set), self.protocol.point_sequences)
        indices = [index * len(self.val_set) // spaced for index in range(spaced)]
        nats, tokens = self._sum([self.progress.nats, self.progress.tokens])
        val_bits = self.evaluate(indices)
        point = {"step": self.progress.step, "train_bits": nats / tokens / math.log(2), "val_bits": val_bits}
        self.progress.points.append(point)
        self.progress.nats, self.progress.tokens = 0.0, 0
        return {"val_bits": val_bits}

    @torch.no_grad()
    def evaluate(self, indices: Sequence[int] | None = None, reporter: Reporter | None = None) -> float:
        """Bits per counted token of these validation sequences, or of all."""
        chosen = range(len(self.val_set)) if indices is None else indices
        accelerator, size = self.accelerator, self.protocol.training.batch_size
        share = chosen[accelerator.process_index :: accelerator.num_processes]
        self.network.eval()
        nats, tokens = 0.0, 0
        shown = reporter.task("evaluating", len(share), "sequences") if reporter else contextlib.nullcontext()
        with shown as task:
            for first in range(0, len(share), size):
                batch = share[first : first + size]
                inputs, targets, counted = (each.to(accelerator.device) for each in self.val_set.collate(batch))
                nats += float(self._nats(self.network, inputs, targets)[counted].double().sum())
                tokens += int(counted.sum())
                if task is not None:
                    task.advance(len(batch))
        nats, tokens = self._sum([nats, tokens])
        return nats / max(tokens, 1) / math.log(2)

    def _sum(self, values: Sequence[float]) -> list[float]:
        """Each value, summed over all processes."""
        device = self.accelerator.device
        kind = torch.float32 if device.type == "mps" else torch.float64
        return sum_over_ranks(torch.tensor(list(values), dtype=kind, device=device)).tolist()

    def _agree_to_stop(self, stop: StopRequest) -> bool:
        if self.accelerator.num_processes == 1:
            return stop.requested
        if self.progress.step % SYNC_EVERY:
            return False
        return bool(sum_over_ranks(torch.tensor(float(stop.requested), device=self.accelerator.device)) > 0)

    def _save(self) -> None:
        """A checkpoint with the progress beside it, which is written first; older ones go."""
        if self.accelerator.is_main_process:
            path = self.folder / f"step-{self.progress.step:08d}.safetensors"
            write_text(path.with_suffix(".json"), json.dumps(vars(self.progress)))
            save_checkpoint(path, self.state, self.progress.step, self.fingerprint)
            for older in list_checkpoints(self.folder)[:-1]:
                older.unlink()
                older.with_suffix(".json").unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()


def _make_optimizer(network: nn.Module, protocol: Protocol) -> torch.optim.AdamW:
    """AdamW; norms and other vectors do not decay."""
    settings = protocol.training
    matrices = [value for value in network.parameters() if value.dim() > 1]
    vectors = [value for value in network.parameters() if value.dim() < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(settings.betas[0], settings.betas[1]))
