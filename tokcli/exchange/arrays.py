"""Arrays of tokens as a generator saves them: integers in a `.npy` or a `.safetensors` file, and nothing said of them.

What an axis means follows from the tokenizer: its groups, and how many positions its items have.
"""

import math
import pathlib
from collections.abc import Iterator

import numpy

from tokcli.errors import InputError, MismatchError
from tokcli.exchange.base import ExchangeItem, Expected
from tokcli.exchange.sequences import check_range, format_grid
from tokcli.files import require_regular
from tokcli.tokens.npy import map_array
from tokcli.tokens.tensors import get_tensor, map_tensors

SUFFIXES = (".npy", ".safetensors")

AXES = {"image": 2, "audio": 1}
"""Axes of a grid, by modality."""


def read_arrays(path: pathlib.Path, expected: Expected) -> Iterator[ExchangeItem]:
    """The items of a file of arrays, numbered from 00000 on, or by the names that a safetensors file gives them.

    Raises:
        InputError: where the file is missing or holds nothing.
        MismatchError: where it holds no integers, or tokens that the codebook does not have.
        UsageError: where it is not clear what its axes mean.
    """
    for name, array in open_arrays(path).items():
        items = split_items(array, expected, str(path) if name is None else f"{path}: {name}")
        for number, tokens in enumerate(items):
            counted = f"{number:05d}"
            own = counted if name is None else name if len(items) == 1 else f"{name}-{counted}"
            whole = tokens.astype(numpy.int64) if tokens.dtype != numpy.uint64 else _narrow(tokens)
            check_range(whole, expected.codebook_size, own)
            yield ExchangeItem(own, whole)


def open_arrays(path: pathlib.Path) -> dict[str | None, numpy.ndarray]:
    """The arrays of a file by their names, mapped and not read; a single one has no name.

    Raises as `read_arrays` does, but for what only the tokenizer can tell.
    """
    if not path.exists():
        raise InputError(f"there is no file {path}")
    require_regular(path)
    if path.suffix == ".npy":
        arrays: dict[str | None, numpy.ndarray] = {None: map_array(path)}
    else:
        file = map_tensors(path)
        if (file.metadata() or {}).get("format", "").strip('"').startswith("tok-artifact/"):
            raise MismatchError(f"{path} is a tokenizer, and tokens were expected; a tokenizer is named by -m")
        names = list(file.keys())
        arrays = {None if len(names) == 1 else name: get_tensor(file, name, path) for name in names}
    if not any(array.size for array in arrays.values()):
        raise InputError(f"{path} holds no tokens")
    for name, array in arrays.items():
        if array.dtype.kind not in "iu":
            what = f"{path} holds" if name is None else f"{path}: {name} is"
            raise MismatchError(f"{what} {array.dtype}, and tokens are integers; convert them: array.astype('int64')")
    return arrays


def split_items(array: numpy.ndarray, expected: Expected, name: str) -> numpy.ndarray:
    """An array as (items, *grid, groups).

    One of (items, *grid) says it all. A row of tokens is laid on the grid that was given, on the model's own where it
    has as many positions, or on a square; sounds are rows. With several tokens a position these are the last axis.

    Args:
        array: integers of any shape.
        expected: what is known of the tokenizer, and the grid where one was given.
        name: of the array, for messages.

    Raises:
        MismatchError: where the shape is not of such tokens.
        UsageError: where a row makes no square and no grid is given.
    """
    axes = AXES[expected.modality]
    if expected.groups == 1 and not (array.ndim == axes + 2 and array.shape[-1] == 1):
        array = array[..., None]
    if array.ndim < 2 or array.ndim > axes + 2 or array.shape[-1] != expected.groups:
        raise MismatchError(
            f"{name} is of shape {format_grid(array.shape)}; expected {_describe_shapes(expected)} for this tokenizer"
        )
    body = array.shape[:-1]
    if len(body) == axes + 1:
        items, grid = body[0], body[1:]
    elif len(body) == axes and _is_one_item(body, expected):
        items, grid = 1, body
    else:
        positions = body[-1]
        items = math.prod(body[:-1])
        if len(body) == 1 and expected.grid is not None and positions % math.prod(expected.grid) == 0:
            items, positions = positions // math.prod(expected.grid), math.prod(expected.grid)
        grid = expected.find_grid(positions, name)
    if expected.grid is not None and grid != expected.grid:
        raise MismatchError(
            f"{name} holds items of {format_grid(grid)} tokens, and {format_grid(expected.grid)} was asked for"
        )
    return array.reshape(items, *grid, expected.groups)


def _is_one_item(shape: tuple[int, ...], expected: Expected) -> bool:
    """Whether the axes of a single grid are that, and not rows of tokens: an image's, where it is the grid."""
    if expected.modality == "audio":
        return True
    return shape == (expected.grid or expected.usual)


def _narrow(tokens: numpy.ndarray) -> numpy.ndarray:
    """uint64 as int64; what does not fit becomes the largest number, which no codebook has either."""
    return numpy.minimum(tokens, numpy.uint64(numpy.iinfo(numpy.int64).max)).astype(numpy.int64)


def _describe_shapes(expected: Expected) -> str:
    grid = ["height", "width"] if expected.modality == "image" else ["positions"]
    groups = [str(expected.groups)] if expected.groups > 1 else []
    shapes = [["items", *grid, *groups], *([["items", "positions", *groups]] if expected.modality == "image" else [])]
    return " or ".join(f"({', '.join(shape)})" for shape in shapes)
