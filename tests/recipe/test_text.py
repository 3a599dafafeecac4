"""YAML as people expect it."""

import pytest
from hypothesis import given, strategies

from tokcli.errors import RecipeError
from tokcli.recipe.text import parse, write


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "0.1e-3", ".1e-3", "1.e-4"])
def test_scientific_notation_is_a_number(text: str) -> None:
    assert parse(f"rate: {text}", "r.yaml")["rate"] == pytest.approx(1e-4)


@pytest.mark.parametrize("text", ["e4", "1e", "step-1e4x", "1e4e5"])
def test_what_only_looks_like_a_number_stays_text(text: str) -> None:
    assert parse(f"name: {text}", "r.yaml")["name"] == text


def test_a_key_written_twice_is_refused_with_both_places() -> None:
    with pytest.raises(RecipeError, match=r"r\.yaml, line 3: the key 'steps' stands twice, first in line 1"):
        parse("steps: 1\nname: a\nsteps: 2\n", "r.yaml")


def test_a_nested_duplicate_is_refused_too() -> None:
    with pytest.raises(RecipeError, match="'a' stands twice"):
        parse("outer: {a: 1, a: 2}", "r.yaml")


def test_broken_yaml_names_the_file_and_the_line() -> None:
    with pytest.raises(RecipeError, match=r"r\.yaml, line 2"):
        parse("a: [1, 2\nb: 3", "r.yaml")


def test_python_objects_are_refused() -> None:
    with pytest.raises(RecipeError, match="could not determine a constructor"):
        parse("a: !!python/object/apply:os.getcwd []", "r.yaml")


@given(
    strategies.dictionaries(
        strategies.text("abcdef", min_size=1),
        strategies.one_of(
            strategies.integers(-(2**63) + 1, 2**63 - 1),
            strategies.floats(allow_nan=False),
            strategies.booleans(),
            strategies.none(),
        ),
    )
)
def test_what_is_written_is_read_back(value: dict) -> None:
    assert parse(write(value), "r.yaml") == value
