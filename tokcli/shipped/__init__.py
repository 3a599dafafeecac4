"""The trained tokenizers that come with the program: `photo` means the newest of that name, `photo@1` that very one.

Beside this file lie NAME-VERSION.safetensors, an artifact like any other, and NAME-VERSION.json, its card. A later
version is one more pair of files: the older stays, because tokens name the version that made them. To ship a tokenizer
is to put its files here. Only names are read, so that listing them needs no torch.
"""

import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokcli.errors import InputError
from tokcli.files import read_text
from tokcli.untrusted import check_plain, parse_json

FOLDER = pathlib.Path(__file__).parent

DEFAULTS: Mapping[str, str] = {"image": "photo", "audio": "speech"}
"""What is taken for signals of a modality where nobody names a tokenizer and none was trained."""

LONGEST_CARD = 1 << 20
"""Bytes."""

FILE = re.compile(r"([a-z][a-z0-9-]*)-([1-9][0-9]{0,5})\.safetensors")
NAME = re.compile(r"([a-z][a-z0-9-]*)(?:@([1-9][0-9]{0,5}))?")


@dataclass(frozen=True)
class ShippedTokenizer:
    """One version of a tokenizer.

    Attributes:
        name: what it is called, without its version.
        version: counts from 1.
        path: of the artifact.
    """

    name: str
    version: int
    path: pathlib.Path

    @property
    def label(self) -> str:
        """`photo@1`: what tokens, tables and messages call it."""
        return f"{self.name}@{self.version}"

    def read_card(self) -> dict[str, Any]:
        """What there is to know of it beside its own file: plain values; empty where there is no card.

        Raises:
            InputError: where it is damaged.
        """
        path = self.path.with_suffix(".json")
        if not path.exists():
            return {}
        try:
            card = parse_json(read_text(path, LONGEST_CARD))
            check_plain(card, finite=True)
        except ValueError as error:
            raise InputError(f"{path} is damaged: {error}; install tok anew") from error
        if not isinstance(card, dict):
            raise InputError(f"{path} is damaged: a card is a map of JSON; install tok anew")
        return card


def list_tokenizers() -> list[ShippedTokenizer]:
    """All that are installed, by name, the newest version of each first."""
    found = ((FILE.fullmatch(path.name), path) for path in FOLDER.glob("*.safetensors"))
    tokenizers = [ShippedTokenizer(match[1], int(match[2]), path) for match, path in found if match]
    return sorted(tokenizers, key=lambda each: (each.name, -each.version))


def list_names() -> list[str]:
    """The names that mean the newest versions, each once."""
    return list(dict.fromkeys(each.name for each in list_tokenizers()))


def is_name(text: str) -> bool:
    """Whether `text` is spelt as a shipped tokenizer's name, with a version or without; its file may be absent."""
    match = NAME.fullmatch(text)
    return match is not None and match[1] in {*DEFAULTS.values(), *list_names()}


def find_tokenizer(text: str) -> ShippedTokenizer:
    """The one that `text` names, for which `is_name` is true; without a version, the newest.

    Raises:
        InputError: where this installation does not have it, with those that it has.
    """
    name, _, version = text.partition("@")
    have = list_tokenizers()
    fitting = [each for each in have if each.name == name and version in ("", str(each.version))]
    if fitting:
        return fitting[0]
    others = ", ".join(each.label for each in have) or "none"
    raise InputError(
        f"this installation of tok does not have the tokenizer {text} (it has: {others}); "
        "install the version of tok that does, or name a file or a run folder"
    )


def find_label(path: pathlib.Path) -> str | None:
    """`photo@1` for the file of a shipped tokenizer; None for any other path."""
    match = FILE.fullmatch(path.name)
    return f"{match[1]}@{match[2]}" if match and path.parent == FOLDER else None
