"""A protocol that a test can afford, and tokens that can be predicted."""

import dataclasses
import pathlib

import numpy
import pytest

from tokcli.probing import protocols
from tokcli.tokens import TokenHeader, open_writer

HEADER = TokenHeader(
    codebook_size=12,
    groups=1,
    modality="image",
    network_fingerprint="n" * 64,
    codebook_fingerprint="c" * 64,
    weights="ema",
)


def shrink_protocol(monkeypatch: pytest.MonkeyPatch) -> protocols.Protocol:
    """`probe-small`, made small enough for a test."""
    small = protocols.PROTOCOLS["probe-small"]
    training = dataclasses.replace(small.training, steps=12, batch_size=4, warmup_steps=2, learning_rate=1e-2)
    tiny = dataclasses.replace(
        small, layers=1, heads=2, width=16, inner_width=24, context=16, training=training, points=3, point_sequences=8
    )
    monkeypatch.setitem(protocols.PROTOCOLS, "probe-small", tiny)
    return tiny


def write_counting_tokens(
    path: pathlib.Path,
    items: int = 40,
    header: TokenHeader = HEADER,
    grid: tuple[int, ...] = (4, 4),
    seed: int = 0,
    labelled: bool = False,
) -> pathlib.Path:
    """A token file of items that count up from a random code: all of their surprise is in the first token."""
    generator = numpy.random.default_rng(seed)
    names = [
        f"{'cat/' if number % 2 else 'dog/'}{number}.png" if labelled else f"{number}.png" for number in range(items)
    ]
    with open_writer(path, header, names, force=True) as writer:
        for name in names:
            count = numpy.arange(int(numpy.prod(grid)) * header.groups) + generator.integers(header.codebook_size)
            tokens = (count % header.codebook_size).reshape(*grid, header.groups)
            writer.append(name, tokens, [8 * length for length in grid], [8 * length for length in grid])
    return path
