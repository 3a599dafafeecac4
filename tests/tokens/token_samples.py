"""Headers, items and the encode loop that the tests of token files share."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import torch

from tokcli.tokens import TokenFormat, TokenHeader, TokenItem, TokenWriter, open_writer

NAMES = ["a.png", "sub/b.png", "ü c.png", "d.png", "e.png"]
BROKEN = {"d.png": "not an image"}


class Killed(BaseException):
    """Stands for a signal."""


def name_of(kept: TokenFormat) -> str:
    """A path of this format."""
    return f"tokens{kept.suffix}"


def header(**changes: Any) -> TokenHeader:
    values: dict[str, Any] = {
        "codebook_size": 1000,
        "groups": 1,
        "modality": "image",
        "network_fingerprint": "ab" * 32,
        "codebook_fingerprint": "cd" * 32,
        "weights": "ema",
        "preprocessing": {"resize": 256, "crop": "centre"},
        "split": "val",
    }
    return TokenHeader(**values | changes)


def made_items(
    about: TokenHeader, names: Sequence[str] = NAMES, grid: tuple[int, ...] = (2, 3), ragged: bool = False
) -> list[TokenItem]:
    """Items of random tokens with the largest one in each; ragged: every item one longer than the last."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for index, name in enumerate(names):
        own = (*grid[:-1], grid[-1] + index * ragged)
        tokens = torch.randint(about.codebook_size, (*own, about.groups), generator=generator)
        tokens.view(-1)[-1] = about.codebook_size - 1
        known = {"label": "cat", "caption": "ein Kätzchen", "box": [1, 2.5]} if index == 1 else {}
        items.append(TokenItem(name, tokens, (100 + index, 90), tuple(4 * length - 1 for length in own), known))
    return items


def write(
    path: pathlib.Path, about: TokenHeader, items: Sequence[TokenItem], broken: dict[str, str] | None = None, **how: Any
) -> None:
    """What an encode does: everything that is not done yet, in order."""
    with open_writer(path, about, [item.name for item in items], **how) as writer:
        for item in items[len(writer.done) :]:
            feed(writer, item, broken or {})


def feed(writer: TokenWriter, item: TokenItem, broken: dict[str, str]) -> None:
    """Hand one item to the writer, or the news that it is broken."""
    if item.name in broken:
        writer.fail(item.name, broken[item.name])
    else:
        writer.append(item.name, item.tokens, item.original_size, item.signal_size, item.about)


def interrupted(
    path: pathlib.Path, items: Sequence[TokenItem], after: int, kept: TokenFormat | None = None
) -> pathlib.Path:
    """Encode up to `after` items, then be killed; returns the folder of the unfinished file."""
    with contextlib.suppress(Killed), open_writer(path, header(), NAMES, token_format=kept) as writer:
        for item in items[:after]:
            feed(writer, item, BROKEN)
        raise Killed
    return path.with_name(f".{path.name}.partial")


def assert_same(found: TokenItem, expected: TokenItem) -> None:
    assert found.tokens.dtype == torch.int64
    assert torch.equal(found.tokens, expected.tokens)
    assert dataclasses.replace(found, tokens=None) == dataclasses.replace(expected, tokens=None)


def contents(path: pathlib.Path) -> dict[str, bytes]:
    """Every file of a token file, by name, and nothing else that lies beside it."""
    return {str(file.relative_to(path.parent)): file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}
