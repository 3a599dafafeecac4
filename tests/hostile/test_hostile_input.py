"""Hostile recipes, artifacts, token files, pictures, sounds, paths and leftovers: refused or taken, and nothing else.

A failing case prints its class and number. It goes into KNOWN under a name, so that it is tried for ever.
"""

import pathlib

import numpy
import pytest
from hostile_generators import CLASSES
from hostile_harness import run_tok

FAST, SLOW = 4, 600
"""Cases of each class in the fast suite, and with `-m slow`."""

KNOWN: dict[str, tuple[str, int]] = {"a source of a billion items": ("recipes", 293)}
"""Cases that once failed: what was wrong, then class and number."""


def try_case(kind: str, number: int, base: pathlib.Path, folder: pathlib.Path) -> None:
    """Make the case, run its command, and fail unless it was refused or taken."""
    folder = folder / "work"  # a case may look into the folder above its own
    folder.mkdir()
    generator = numpy.random.default_rng([sorted(CLASSES).index(kind), number])
    arguments = CLASSES[kind](generator, base, folder)
    ended = run_tok(arguments, folder)
    assert ended.is_fine, f"{kind} {number}: {ended.verdict}, code {ended.code}\ntok {arguments}\n{ended.err[-3000:]}"


@pytest.mark.parametrize("number", range(FAST))
@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_hostile_input_is_refused_or_taken(kind: str, number: int, base: pathlib.Path, tmp_path: pathlib.Path) -> None:
    try_case(kind, number, base, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(FAST, SLOW))
@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_much_hostile_input_is_refused_or_taken(
    kind: str, number: int, base: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    try_case(kind, number, base, tmp_path)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_what_once_failed(name: str, base: pathlib.Path, tmp_path: pathlib.Path) -> None:
    kind, number = KNOWN[name]
    try_case(kind, number, base, tmp_path)
