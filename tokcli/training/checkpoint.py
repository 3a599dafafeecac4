"""Checkpoints: all that the next step depends on, as plain tensors in one safetensors file.

Data order, learning rate and randomness are functions of the step, so a checkpoint is the weights, their average,
the optimizer's moments and the step.
"""

import contextlib
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tokcli.artifacts.tensors import TensorFile, read_metadata, read_tensors, write_tensors
from tokcli.errors import InputError, MismatchError


class DamagedCheckpointError(MismatchError):
    """A checkpoint that is not what was saved; an older one may be whole."""


NAME = re.compile(r"step-\d{8}\.safetensors")


class AveragedWeights:
    """Exponential moving average (EMA) of a module's trainable parameters: what is evaluated and exported, where asked.

    Buffers are not averaged, they are taken as they stand.

    Args:
        module: Whose parameters are averaged.
        decay: Share of the old average kept in each update, less in the first steps.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._module = module
        self._parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self.averages = {name: value.detach().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after optimizer step `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage] - as torch's own averages do
            list(self.averages.values()), list(self._parameters.values()), 1 - decay
        )

    @torch.no_grad()
    def restart(self) -> None:
        """Begin again with the module's parameters as they are."""
        for name, value in self._parameters.items():
            self.averages[name].copy_(value)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the module holds the averages; afterwards its own parameters again."""
        own = {name: value.detach().clone() for name, value in self._parameters.items()}
        self._write(self.averages)
        try:
            yield
        finally:
            self._write(own)

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, value in self._parameters.items():
            value.copy_(values[name])


@dataclass(frozen=True)
class TrainingState:
    """What training changes: updated in place by the loop, saved and restored by this file.

    Attributes:
        modules: Networks by the name that their weights have in a checkpoint.
        optimizers: By the name of the module whose parameters they change.
        averages: Of the tokenizer's weights; None where the recipe asks for none.
    """

    modules: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]
    averages: AveragedWeights | None


def save_checkpoint(path: pathlib.Path, state: TrainingState, step: int, fingerprint: str) -> None:
    """Write the state after `step` steps of the recipe with this fingerprint, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    for name, module in state.modules.items():
        tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in state.optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.optimizer/{index}/{key}": value for key, value in moments.items()}
    if state.averages is not None:
        tensors |= {f"averages/{key}": value for key, value in state.averages.averages.items()}
    write_tensors(path, tensors, {"step": str(step), "recipe": fingerprint})


def load_checkpoint(path: pathlib.Path, state: TrainingState, fingerprint: str | None) -> int:
    """Restore `state` in place; returns the step to go on from.

    Args:
        path: Of the checkpoint.
        state: What is restored.
        fingerprint: Of the recipe that the checkpoint must belong to; None takes any whose tensors fit.

    Raises:
        InputError: The file is missing.
        DamagedCheckpointError: It is damaged; `state` is as it was.
        MismatchError: It is of another recipe, or no checkpoint.
    """
    file = _read(path)
    if "step" not in file.metadata:
        raise MismatchError(f"{path} is no checkpoint; a run's checkpoints are under its folder checkpoints/")
    if fingerprint not in (None, file.metadata.get("recipe")):
        raise MismatchError(f"{path} belongs to a run of another recipe; choose another --out, or --resume never")
    by_owner: dict[str, dict[str, Tensor]] = {}
    for name, tensor in file.tensors.items():
        owner, _, key = name.partition("/")
        by_owner.setdefault(owner, {})[key] = tensor
    # A run of another recipe may bring in an adversary that the checkpoint's had not.
    loaded = [name for name in state.modules if name in by_owner or fingerprint is not None or name == "tokenizer"]
    problem = _find_damage(file.metadata["step"], by_owner, state, loaded)
    if problem is not None:
        raise DamagedCheckpointError(f"{path} is a damaged checkpoint: {problem}")
    for name in loaded:
        state.modules[name].load_state_dict(by_owner[name])
    if state.averages is not None:
        for name, average in state.averages.averages.items():
            average.copy_(by_owner["averages"][name])
    for name, optimizer in state.optimizers.items():
        _load_moments(optimizer, by_owner.get(f"{name}.optimizer", {}))
    return int(file.metadata["step"])


def _read(path: pathlib.Path) -> TensorFile:
    try:
        return read_tensors(path)
    except MismatchError as error:
        raise DamagedCheckpointError(str(error)) from error


def _find_damage(
    step: str, by_owner: Mapping[str, Mapping[str, Tensor]], state: TrainingState, loaded: Sequence[str]
) -> str | None:
    """What of a checkpoint does not fit `state`, before anything of it is taken over; None where all does."""
    if not (step.isdecimal() and len(step) < 19):
        return f"its step is {step[:40]!r}"
    expected = [(name, state.modules[name].state_dict()) for name in loaded]
    if state.averages is not None:
        expected.append(("averages", state.averages.averages))
    for owner, values in expected:
        found = {name: value.shape for name, value in by_owner.get(owner, {}).items()}
        wanted = {name: value.shape for name, value in values.items()}
        differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        if differing:
            return f"{owner}/{differing[0]} is missing, unknown or of another shape"
    for name, optimizer in state.optimizers.items():
        shapes = [value.shape for group in optimizer.param_groups for value in group["params"]]
        for key, tensor in by_owner.get(f"{name}.optimizer", {}).items():
            index = key.partition("/")[0]
            known = index.isdecimal() and len(index) < 10 and int(index) < len(shapes)
            if not known or tensor.shape not in (torch.Size([]), shapes[int(index)]):
                return f"{name}.optimizer/{key} fits no parameter"
    return None


def _load_moments(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition("/")
        moments.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def list_checkpoints(folder: pathlib.Path) -> list[pathlib.Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("step-*.safetensors") if NAME.fullmatch(path.name))


def find_newest_checkpoint(folder: pathlib.Path) -> pathlib.Path | None:
    """The latest checkpoint that can be read; None where there is none."""
    for path in reversed(list_checkpoints(folder)):
        try:
            read_metadata(path)
        except (InputError, MismatchError):
            continue
        return path
    return None


def all_finite(state: TrainingState) -> bool:
    """Whether every floating-point weight is a number: what is saved can be trusted as the last good state."""
    values = [value for module in state.modules.values() for value in module.parameters()]
    return bool(torch.stack([torch.isfinite(value).all() for value in values]).all())
