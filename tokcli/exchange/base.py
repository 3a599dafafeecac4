"""What every exchange format promises: parts are written one by one, joined at the end, and can be read back."""

import hashlib
import json
import math
import pathlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy

from tokcli.errors import InputError, MismatchError, TokError, UsageError
from tokcli.exchange.sequences import SequenceLayout, format_grid
from tokcli.schema import CheckedArguments
from tokcli.untrusted import parse_json

META = "meta.json"
"""In every exported folder: what its files mean, for people and for `tok import`."""

ITEMS = "items.jsonl"
"""Beside formats that have no room for it: name, grid, sizes and metadata of every item, a line each, in order."""


@dataclass(frozen=True)
class ExchangeItem:
    """One item on its way out or in.

    Attributes:
        name: unique in the set, relative, with `/`.
        tokens: (*grid, groups) int64.
        original_size, signal_size: of the file, and of what was encoded; None where nobody knows.
        about: label, caption and other metadata, plain JSON values.
        label: number of its class; None where it has none.
    """

    name: str
    tokens: numpy.ndarray
    original_size: tuple[int, ...] | None = None
    signal_size: tuple[int, ...] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    label: int | None = None

    @property
    def grid(self) -> tuple[int, ...]:
        """Positions along each axis."""
        return tuple(self.tokens.shape[:-1])

    def to_json(self) -> dict[str, Any]:
        """All but the tokens, as a line of `items.jsonl`."""
        return {
            "name": self.name,
            "grid": list(self.grid),
            "original_size": list(self.original_size) if self.original_size else None,
            "signal_size": list(self.signal_size) if self.signal_size else None,
            "label": self.label,
            "about": dict(self.about),
        }


@dataclass(frozen=True)
class TokenSet:
    """What holds for all items of an export.

    Attributes:
        codebook_size: values of a token.
        groups: tokens of a position.
        modality: `image` or `audio`.
        items: how many there are.
        grid: of every item; None where they differ.
        labels: how many classes there are; 0 where items have no label.
        classes: their names, by number; empty where labels are mere numbers.
        header: of the token file, plain JSON values.
    """

    codebook_size: int
    groups: int
    modality: str
    items: int
    grid: tuple[int, ...] | None
    labels: int
    classes: Sequence[str]
    header: Mapping[str, Any]


class ExchangeFormat(CheckedArguments, ABC):
    """One way in which generators keep tokens. A constructor's arguments are its options.

    Attributes:
        summary: whose files these are, in a few words, for the help.
        file_suffix: of a single file that the whole set may be written to; None where it is always a folder.
    """

    summary: ClassVar[str]
    file_suffix: ClassVar[str | None] = None

    @abstractmethod
    def check(self, tokens: TokenSet) -> None:
        """Raise UsageError, before anything is written, for a set that the format cannot hold."""

    @abstractmethod
    def write_part(self, items: Sequence[ExchangeItem], tokens: TokenSet, folder: pathlib.Path, part: int) -> None:
        """Write some items into files of `folder` whose names begin with `name_part(part)`; a pure function."""

    @abstractmethod
    def join_parts(self, folder: pathlib.Path, parts: int, tokens: TokenSet, output: pathlib.Path) -> None:
        """Make the files of the whole set in the empty folder `output` out of the parts in `folder`."""

    @abstractmethod
    def read(self, path: pathlib.Path, expected: "Expected") -> Iterator[ExchangeItem]:
        """The items of a file or folder of this format, exported by this project or written by a generator.

        Raises:
            InputError: where nothing is there.
            MismatchError: where the content is not what the format and `expected` say.
        """

    def describe(self, tokens: TokenSet) -> dict[str, Any]:
        """What `meta.json` says beside the facts of the set."""
        return {}


@dataclass(frozen=True)
class Expected:
    """What the reader of a generator's file knows beforehand.

    Attributes:
        codebook_size, groups: of the tokenizer that is to decode.
        modality: `image` or `audio`: a row of tokens is a square picture or a sound where no grid is given.
        grid: positions of an item, where the file does not say; None: unknown.
        usual: those of the items that the tokenizer was made for; None: they differ.
    """

    codebook_size: int
    groups: int
    modality: str
    grid: tuple[int, ...] | None = None
    usual: tuple[int, ...] | None = None

    def find_grid(self, positions: int, name: str) -> tuple[int, ...]:
        """The grid of an item of so many positions.

        Raises:
            UsageError: for a picture that is not square, where no grid is given.
            MismatchError: where the grid given has another number of positions.
        """
        if self.grid is None and self.modality == "audio":
            return (positions,)
        if self.grid is None:
            if self.usual is not None and math.prod(self.usual) == positions:
                return self.usual
            side = math.isqrt(positions)
            if side * side != positions or not positions:
                raise UsageError(
                    f"{name} has {positions} positions, which make no square; say the grid with --grid HxW"
                )
            return (side, side)
        if math.prod(self.grid) != positions:
            raise MismatchError(
                f"{name} has {positions} positions, and --grid {format_grid(self.grid)} makes {math.prod(self.grid)}"
            )
        return self.grid


def guard_items(items: Iterator[ExchangeItem], path: pathlib.Path) -> Iterator[ExchangeItem]:
    """The items that a format reads from `path`, which strangers wrote: whatever ends the reading is said of the file.

    Libraries that read tars, tables and arrays promise no single exception for damaged ones.

    Raises:
        InputError: where there is not enough memory.
        MismatchError: where the content is not what the format says.
    """
    try:
        yield from items
    except TokError:
        raise
    except MemoryError as error:
        raise InputError(
            f"{path}: there is not enough memory to read it; where it is small, a damaged header asks for so much"
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's, not the content's
        raise MismatchError(f"{path} is damaged: it cannot be read ({type(error).__name__}: {error})") from error


def name_part(part: int) -> str:
    """What the names of a part's files begin with."""
    return f"part-{part:06d}"


def choose_split(name: str, share: float | None) -> str:
    """`train` or `val`: by the name alone, so that it does not depend on order, shards or workers.

    Args:
        name: of the item.
        share: of the items that train; None: all.
    """
    if share is None:
        return "train"
    number = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "big")
    return "train" if number < share * 2**64 else "val"


def write_items(items: Iterable[ExchangeItem], path: pathlib.Path) -> None:
    """A line of JSON for each item, without its tokens."""
    with open(path, "w", encoding="utf-8") as lines:
        for item in items:
            lines.write(json.dumps(item.to_json(), ensure_ascii=False) + "\n")


def read_items(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The lines that `write_items` wrote. Raises MismatchError for a line that is none."""
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                entry = parse_json(line)
                grid = tuple(int(length) for length in entry["grid"])
                yield (
                    entry
                    | {"grid": grid}
                    | {key: tuple(entry[key]) if entry.get(key) else None for key in ("original_size", "signal_size")}
                )
            except (ValueError, KeyError, TypeError) as error:
                raise MismatchError(f"{path}, line {number}: not an item of an export ({error})") from error


def concatenate(sources: Iterable[pathlib.Path], target: pathlib.Path) -> None:
    """The bytes of the files one behind another."""
    with open(target, "wb") as whole:
        for source in sources:
            with open(source, "rb") as piece:
                shutil.copyfileobj(piece, whole, 1 << 20)


def count_digits(count: int, least: int = 5) -> int:
    """Digits that number `count` things, at least `least`."""
    return max(least, len(str(max(0, count - 1))))


def describe_layout(layout: SequenceLayout) -> dict[str, Any]:
    """A layout as plain values."""
    return {
        "order": layout.order,
        "layout": layout.layout,
        "offset": layout.offset,
        "bos": layout.bos,
        "eos": layout.eos,
        "pad": layout.pad,
        "label_base": layout.label_base,
    }
