"""Opening a file of somebody's weights without running anything that it brings.

A .pt or .ckpt is read by torch with `weights_only`, which builds tensors and plain values and nothing else; a file of
safetensors holds tensors alone.
"""

import pathlib
import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tokcli.artifacts.tensors import read_tensors
from tokcli.errors import InputError, MismatchError, quote
from tokcli.files import open_regular, require_regular

SECTIONS = ("ema", "model", "state_dict")
"""Where checkpoints keep the weights, the averaged ones first; other sections (optimizers, steps) are left out."""

STAND_INS = ("argparse.Namespace", "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")
"""Classes that the publishers' checkpoints mention beside the weights: an empty class of ours is put in their place."""


class _Nothing:
    """In the place of a class that has no say here."""


def read_weights(path: pathlib.Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names, on the CPU.

    Raises:
        InputError: there is no such file.
        MismatchError: it is no whole file of weights, or holds more than weights.
    """
    require_regular(path)
    if path.suffix == ".safetensors":
        return read_tensors(path).tensors
    content = _load(path)
    for section in SECTIONS:
        if isinstance(content, Mapping) and isinstance(content.get(section), Mapping):
            content = content[section]
            break
    if not isinstance(content, Mapping):
        raise MismatchError(f"{path} holds {quote(type(content).__name__)}; expected tensors by their names")
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        held = ", ".join(quote(name) for name in list(content)[:6]) or "nothing"
        raise MismatchError(
            f"{path} holds no weights under {', '.join(SECTIONS)}, nor by themselves; it holds {held}; "
            "expected the checkpoint that its makers offer"
        )
    return {str(name): tensor for name, tensor in tensors.items()}


def _load(path: pathlib.Path) -> Any:
    """What torch reads of it. Raises InputError where it may not be read, MismatchError where it is no such file."""
    harmless: Any = [(_Nothing, name) for name in STAND_INS]
    try:
        file = open_regular(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    try:
        with file, warnings.catch_warnings(), torch.serialization.safe_globals(harmless):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise  # of this machine, and no fault of the file
    except Exception as error:  # torch has no single error for damage
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted is None:
            raise MismatchError(
                f"{path} is no whole file of weights that torch reads ({type(error).__name__}); download it again"
            ) from error
        raise MismatchError(
            f"{path} holds more than weights: opening it would run {wanted[1]}, which is never done; where you trust "
            'it, save its weights alone and import those: torch.save({"model": STATE_DICT}, "weights.pt")'
        ) from error
