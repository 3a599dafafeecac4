"""Whether a file's tensors are those that its recipe promises, found out before memory is taken.

A recipe of a few words can ask for more memory than there is, or for more layers than anybody waits for. So the
tokenizer is first built on the meta device, where tensors have shapes and no content, and building stops as soon as it
has more parts than the file could fill.
"""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from tokcli.errors import MismatchError, RecipeError
from tokcli.recipe.build import build_tokenizer
from tokcli.recipe.recipe import Recipe
from tokcli.tokenizer import Tokenizer

PARTS_PER_TENSOR = 16
SPARE_PARTS = 4096
"""A tokenizer of so many tensors has at most PARTS_PER_TENSOR times as many modules, parameters and buffers, and these
more."""

SPARE_VALUES = 1 << 26
"""Numbers that a tokenizer may hold beside its file's, in tables that are computed anew; 256 MB of float32."""

LARGEST_WORD = 1 << 31
"""Whole numbers in the recipe's words for a tokenizer."""


UNBUILDABLE = (RuntimeError, ValueError, OverflowError, MemoryError, TypeError)
"""What torch and Python raise of sizes that no tensor has (a TypeError then speaks of an overflow), and of values that
the meta device does not hold. Anything else that a constructor raises is a mistake of ours, and looks like one."""


class _TooManyParts(Exception):
    """Building went on beyond what the file could fill."""


def check_promises(path: pathlib.Path, recipe: Recipe, promises: Mapping[str, Tensor]) -> None:
    """Compare what the recipe asks for with what the file's header says it holds.

    Args:
        path: of the file, for messages.
        recipe: that it holds.
        promises: a tensor on the meta device for each of the file's.

    Raises:
        MismatchError: where a tensor is missing, is not asked for, or is of another shape or type; and where the
            recipe asks for more than the file could fill.
        RecipeError: where the recipe cannot be built.
    """
    held = sum(tensor.numel() for tensor in promises.values())
    for node in (recipe.autoencoder, recipe.quantizer):
        _check_numbers(path, node)
    try:
        with torch.device("meta"), _limited_parts(len(promises), held):
            tokenizer = build_tokenizer(recipe)
    except _TooManyParts:
        raise MismatchError(f"{path} is damaged: its recipe asks for more layers than it holds tensors for") from None
    except UNBUILDABLE as error:
        if isinstance(error, TypeError) and "verflow" not in str(error):
            raise
        if any(":" in node["kind"] for node in (recipe.autoencoder, recipe.quantizer)):
            return  # a trusted class of somebody else's, which may compute with values while it is built
        raise RecipeError(f"{type(error).__name__}: {error}") from error
    taken = sum(tensor.numel() for tensor in (*tokenizer.parameters(), *tokenizer.buffers()))
    load_strictly(path, tokenizer, promises)
    if taken > held + SPARE_VALUES + _training_values(tokenizer):
        raise MismatchError(f"{path} is damaged: its recipe asks for {taken:,} numbers, and it holds {held:,}")


def load_strictly(path: pathlib.Path, tokenizer: Tokenizer, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors in their places: all that the tokenizer has, no others, of its shapes and types.

    Raises MismatchError where that cannot be done.
    """
    training_only = {f"quantizer.{name}" for name in tokenizer.quantizer.training_only}
    try:
        outcome = tokenizer.load_state_dict(dict(tensors), strict=False)
    except (RuntimeError, ValueError, OverflowError, TypeError) as error:
        raise MismatchError(f"{path}: a tensor does not have the shape its recipe asks for: {error}") from error
    missing = sorted(set(outcome.missing_keys) - training_only)
    if missing:
        raise MismatchError(f"{path} is damaged: it lacks {len(missing)} tensors, the first is {missing[0]}")
    if outcome.unexpected_keys:
        raise MismatchError(f"{path} is damaged: it has tensors its recipe does not name: {outcome.unexpected_keys[0]}")
    for name, own in tokenizer.state_dict().items():
        if name in tensors and tensors[name].dtype != own.dtype:
            raise MismatchError(f"{path} is damaged: the tensor {name} is {tensors[name].dtype}, not {own.dtype}")


def _training_values(tokenizer: Tokenizer) -> int:
    """Numbers in buffers that serve training alone, which no artifact holds; they are as large as the codebook."""
    buffers = dict(tokenizer.quantizer.named_buffers())
    return sum(buffers[name].numel() for name in tokenizer.quantizer.training_only if name in buffers)


def _check_numbers(path: pathlib.Path, value: Any) -> None:
    """Refuse whole numbers that no tokenizer has."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            _check_numbers(path, inner)
    elif isinstance(value, int) and abs(value) > LARGEST_WORD:
        raise MismatchError(f"{path} is damaged: its recipe asks for {value}, which is more than {LARGEST_WORD}")


@contextlib.contextmanager
def _limited_parts(tensors: int, values: int) -> Iterator[None]:
    """Within this context, modules are given parts until a file of so many tensors and values could not fill them."""
    parts_left, values_left = PARTS_PER_TENSOR * tensors + SPARE_PARTS, 2 * values + SPARE_VALUES

    def count(*registered: Any) -> None:
        nonlocal parts_left, values_left
        parts_left -= 1
        if isinstance(registered[-1], torch.nn.Parameter):
            values_left -= registered[-1].numel()  # some are replaced by others while they are built
        if parts_left < 0 or values_left < 0:
            raise _TooManyParts

    with contextlib.ExitStack() as hooks:
        for register in (
            register_module_buffer_registration_hook,
            register_module_module_registration_hook,
            register_module_parameter_registration_hook,
        ):
            hooks.callback(register(count).remove)
        yield
