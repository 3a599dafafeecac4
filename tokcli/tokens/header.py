"""What a token file says about itself: which tokenizer gave the tokens, from what, and what each item was.

A reader needs nothing else to refuse the wrong tokenizer and to give every item its own size back.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch import Tensor

from tokcli import untrusted
from tokcli.contracts import ModalityName
from tokcli.data.items import Failure
from tokcli.errors import MismatchError, quote
from tokcli.schema import find_argument_problems

FORMAT = "tok-tokens/1"
LARGEST_CODEBOOK = 2**31
LARGEST_SAMPLE_RATE = 10_000_000


@dataclass(frozen=True)
class TokenHeader:
    """What holds for every item of a token file.

    Attributes:
        codebook_size: values per token.
        groups: tokens per position.
        modality: of the signals.
        network_fingerprint: sha256 sum of the tokenizer's network.
        codebook_fingerprint: sha256 sum of its codebook.
        weights: which of its weights were used.
        preprocessing: what was done to the signals before encoding, plain JSON values.
        sample_rate: of the signals, in Hz, where they are audio.
        split: of the data, where known.
        model: name and version of the shipped tokenizer that made the tokens, as `photo@1`; None for any other. It says
            where to look, and the fingerprints say whether that is the one.
        published: where the tokenizer is from, its revision and its library, where it was not trained by tok; plain
            JSON values, None for any other.

    Raises:
        ValueError: for numbers that make no sense.
    """

    codebook_size: int
    groups: int
    modality: ModalityName
    network_fingerprint: str
    codebook_fingerprint: str
    weights: Literal["ema", "raw"]
    preprocessing: dict[str, Any] = field(default_factory=dict)
    sample_rate: int | None = None
    split: str | None = None
    model: str | None = None
    published: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.codebook_size <= LARGEST_CODEBOOK:
            raise ValueError(f"codebook_size must be from 1 to {LARGEST_CODEBOOK}, got {self.codebook_size}")
        if self.groups < 1:
            raise ValueError(f"groups must be at least 1, got {self.groups}")
        if self.sample_rate is not None and not 1 <= self.sample_rate <= LARGEST_SAMPLE_RATE:
            raise ValueError(f"sample_rate must be from 1 to {LARGEST_SAMPLE_RATE}, got {self.sample_rate}")

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned integer that holds codebook_size − 1, little-endian."""
        for name in ("|u1", "<u2", "<u4"):
            if self.codebook_size - 1 <= np.iinfo(name).max:
                return np.dtype(name)
        raise AssertionError(f"codebook_size {self.codebook_size} was checked to fit 32 bits")

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the format's version first; the last two are left out where None, as in older files."""
        plain = dataclasses.asdict(self)
        for name in ("model", "published"):
            if plain[name] is None:
                del plain[name]
        return {"format": FORMAT, **plain}

    @classmethod
    def from_json(cls, values: Any, path: pathlib.Path) -> "TokenHeader":
        """The header that `values`, read from `path`, spell out.

        Raises MismatchError where they are of no token file, of another version, or damaged.
        """
        found = values.get("format") if isinstance(values, Mapping) else None
        if not isinstance(found, str) or not found.startswith("tok-tokens/"):
            raise MismatchError(f"{path} was not written by tok encode: it does not carry the format {FORMAT}")
        if found != FORMAT:
            raise MismatchError(
                f"{path} has the format {quote(found)}, this version of tok reads {FORMAT}; encode again"
            )
        names = {known.name for known in dataclasses.fields(cls)}
        arguments = {name: value for name, value in values.items() if name in names}
        problems = find_argument_problems(cls, arguments, "", "a token file")
        if problems:
            raise MismatchError(f"{path} has a damaged header: {'; '.join(problems)}")
        try:
            untrusted.check_plain(arguments)
            return cls(**arguments)
        except ValueError as error:
            raise MismatchError(f"{path} has a damaged header: {error}") from error


@dataclass(frozen=True)
class TokenRecord:
    """One encoded item, but for its tokens. All sizes are of the axes behind the channels.

    Attributes:
        item: its name.
        grid: positions.
        original_size: of the file.
        signal_size: of what was encoded; decoding crops to it.
        about: its label, its caption and whatever else is known; plain JSON values.
    """

    item: str
    grid: tuple[int, ...]
    original_size: tuple[int, ...]
    signal_size: tuple[int, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values; what nothing more is known of says nothing about it, as files of older versions."""
        plain = {name: value for name, value in vars(self).items() if name != "about"}
        return plain | ({"about": dict(self.about)} if self.about else {})


@dataclass(frozen=True)
class TokenItem:
    """One item of a token file.

    Attributes:
        name: the item's, as its source gave it.
        tokens: (*grid, groups) int64.
        original_size: of the file.
        signal_size: of what was encoded; decoding crops to it.
        about: its label, its caption and whatever else is known; plain JSON values.
    """

    name: str
    tokens: Tensor
    original_size: tuple[int, ...]
    signal_size: tuple[int, ...]
    about: Mapping[str, Any] = field(default_factory=dict)


def record_from_json(values: Any, path: pathlib.Path) -> TokenRecord | Failure:
    """The record, or the failure, that one entry of a list of items spells out.

    Raises MismatchError where it is neither.
    """
    if isinstance(values, Mapping) and isinstance(values.get("item"), str):
        if isinstance(values.get("reason"), str):
            return Failure(values["item"], values["reason"])
        grid, original, signal = (_size(values.get(name)) for name in ("grid", "original_size", "signal_size"))
        about = values.get("about", {})
        if grid and original and signal and _is_plain_map(about):
            return TokenRecord(values["item"], grid, original, signal, about)
    raise MismatchError(f"{path} has a damaged list of items: {quote(values)} does not describe one")


def _is_plain_map(about: Any) -> bool:
    if not isinstance(about, dict):
        return False
    try:
        untrusted.check_plain(about)
    except ValueError:
        return False
    return True


def _size(values: Any) -> tuple[int, ...]:
    """A list of positive numbers as a tuple; an empty one for anything else."""
    whole = isinstance(values, list) and all(type(number) is int and number > 0 for number in values)
    return tuple(values) if whole else ()


def get_file_shape(record: TokenRecord, groups: int) -> tuple[int, ...]:
    """The shape of an item's tokens in a file: the last axis is dropped where there is one token per position."""
    return record.grid if groups == 1 else (*record.grid, groups)


def dump_json(values: object) -> bytes:
    """One line of JSON, in UTF-8."""
    return json.dumps(values, ensure_ascii=False).encode()


def parse_json(text: bytes, path: pathlib.Path) -> Any:
    """The values of a piece of JSON read from `path`. Raises MismatchError where it is damaged."""
    try:
        return untrusted.parse_json(text)
    except ValueError as error:
        raise MismatchError(f"{path} is damaged: {text[:40]!r} is not JSON that can be read ({error})") from error


def read_entries(lists: Iterable[Any], path: pathlib.Path) -> tuple[list[TokenRecord], list[Failure]]:
    """The encoded items and the failed ones of the lists of items that `path` holds, in their order.

    Raises MismatchError where one of them is no list of items, or names one twice.
    """
    entries: list[TokenRecord | Failure] = []
    for values in lists:
        if not isinstance(values, list):
            raise MismatchError(f"{path} has a damaged list of items: {quote(values)}")
        entries += [record_from_json(value, path) for value in values]
    records = [entry for entry in entries if isinstance(entry, TokenRecord)]
    if len({record.item for record in records}) != len(records):
        raise MismatchError(f"{path} lists an item twice")
    return records, [entry for entry in entries if isinstance(entry, Failure)]
