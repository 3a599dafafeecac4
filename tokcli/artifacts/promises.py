"""Whether a file's tensors are those that its recipe promises, found out before memory is taken.

A recipe of a few words can ask for more memory than there is, or for more layers than anybody waits for. So building
stops before a tensor, or a part, that the file could not fill.
"""

import contextlib
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

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
"""What torch and Python raise of sizes that no tensor has (a TypeError then speaks of an overflow). Anything else
that a constructor raises is a mistake of ours, and looks like one."""


class _TooManyParts(Exception):
    """Building went on beyond what the file could fill."""


def build_as_promised(path: pathlib.Path, recipe: Recipe, promises: Mapping[str, Tensor]) -> Tokenizer:
    """Build the tokenizer of a recipe within what the file's header says it holds.

    Args:
        path: of the file, for messages.
        recipe: that it holds.
        promises: a tensor on the meta device for each of the file's.

    Raises:
        MismatchError: where the recipe asks for more than the file could fill.
        RecipeError: where the recipe cannot be built.
    """
    held = sum(tensor.numel() for tensor in promises.values())
    for node in (recipe.autoencoder, recipe.quantizer):
        _check_numbers(path, node)
    try:
        with _SmallTensors(2 * held + SPARE_VALUES), _limited_parts(len(promises), held):
            tokenizer = build_tokenizer(recipe)
    except _TooManyParts:
        raise MismatchError(f"{path} is damaged: its recipe asks for more layers than it holds tensors for") from None
    except UNBUILDABLE as error:
        if isinstance(error, TypeError) and "verflow" not in str(error):
            raise
        raise RecipeError(f"{type(error).__name__}: {error}") from error
    taken = sum(tensor.numel() for tensor in (*tokenizer.parameters(), *tokenizer.buffers()))
    if taken > held + SPARE_VALUES + _training_values(tokenizer):
        raise MismatchError(f"{path} is damaged: its recipe asks for {taken:,} numbers, and it holds {held:,}")
    return tokenizer


def load_strictly(
    path: pathlib.Path, tokenizer: Tokenizer, tensors: Mapping[str, Tensor], stored: Mapping[str, torch.dtype]
) -> None:
    """Put tensors in their places: all that the tokenizer has, no others, of its shapes and types.

    Args:
        path: of the file, for messages.
        tokenizer: to fill.
        tensors: of the file.
        stored: the types of those that the file holds in another type than the tokenizer.

    Raises:
        MismatchError: where that cannot be done.
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
        expected = stored.get(name, own.dtype)
        if name in tensors and tensors[name].dtype != expected:
            raise MismatchError(f"{path} is damaged: the tensor {name} is {tensors[name].dtype}, not {expected}")


class _SmallTensors(TorchFunctionMode):
    """Within this mode no function of torch that makes a tensor from its size is asked for more than `most` numbers.

    Not the meta device, where tensors have no content: torch computes there in Python code that takes 1.6 s and 70 MB
    to import, in every command.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        size = SIZES.get(func)
        if size is not None and size(*args) > self.most:
            raise _TooManyParts
        return func(*args, **(kwargs or {}))


def _multiply(*sizes: Any) -> int:
    """How many numbers a tensor has whose size is given as several arguments, or as one sequence."""
    lengths = sizes[0] if sizes and isinstance(sizes[0], Sequence) else sizes
    return math.prod(lengths)


def _count_steps(start: Any, end: Any = None, step: Any = 1) -> int:
    return math.ceil(((start if end is None else end) - (0 if end is None else start)) / step)


SIZES: dict[Callable[..., Any], Callable[..., int]] = {
    torch.empty: _multiply,
    torch.zeros: _multiply,
    torch.ones: _multiply,
    torch.rand: _multiply,
    torch.randn: _multiply,
    torch.full: lambda size, *_: math.prod(size),
    torch.eye: lambda rows, columns=None: rows * (rows if columns is None else columns),
    torch.arange: _count_steps,
    torch.linspace: lambda start, end, steps: steps,
    torch.hann_window: lambda length, *_: length,
}
"""How many numbers each function makes that the parts of a tokenizer make tensors with."""


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
