"""Token files for the tests of exchange formats: items in two class folders."""

import pathlib

import numpy

from tokcli.tokens import TokenHeader, open_writer

HEADER = TokenHeader(
    codebook_size=1000,
    groups=1,
    modality="image",
    network_fingerprint="n" * 64,
    codebook_fingerprint="c" * 64,
    weights="ema",
)


def write_tokens(
    path: pathlib.Path,
    items: int = 7,
    header: TokenHeader = HEADER,
    grid: tuple[int, ...] = (4, 4),
    ragged: bool = False,
) -> dict[str, numpy.ndarray]:
    """A token file of items in two class folders; returns their tokens by name."""
    generator = numpy.random.default_rng(0)
    names = [f"{'cat' if number % 2 else 'dog'}/photo-{number}.png" for number in range(items)]
    tokens = {}
    with open_writer(path, header, names) as writer:
        for number, name in enumerate(names):
            own = (*grid[:-1], grid[-1] + (number % 3 if ragged else 0))
            tokens[name] = generator.integers(0, header.codebook_size, (*own, header.groups))
            size = tuple(8 * length - 3 for length in own)
            writer.append(name, tokens[name], (100, 90)[: len(own)], size)
    return tokens
