"""Ranges stand in signatures: told together, whoever builds the class, and never in the way of a copy."""

import copy
import math
import pickle
from typing import Annotated

import pytest
from pydantic import Field

from tokcli.errors import ArgumentError
from tokcli.schema import (
    CheckedArguments,
    Codes,
    Count,
    CountOrZero,
    Counts,
    Finite,
    Momentum,
    NotNegative,
    OpenShare,
    Positive,
    Share,
    already_checked,
    complete_arguments,
    find_argument_problems,
)


class Part(CheckedArguments):
    def __init__(
        self,
        size: Codes,
        levels: Counts = (2, 3),
        rate: Share = 0.5,
        decay: OpenShare | None = None,
        betas: Annotated[list[Momentum], Field(min_length=2, max_length=2)] | None = None,
    ) -> None:
        self.size = size


@pytest.mark.parametrize(
    ("kind", "inside", "outside"),
    [
        (Finite, (-3, 0, 1e9), ()),
        (Positive, (1e-9, 5), (0, -1)),
        (NotNegative, (0, 5), (-1e-9,)),
        (Share, (0, 0.5, 1), (-0.1, 1.1)),
        (OpenShare, (0.5,), (0, 1)),
        (Momentum, (0, 0.99), (1, -0.1)),
        (Count, (1, 10**12), (0, -1, 1.5, True)),
        (CountOrZero, (0, 1), (-1,)),
        (Codes, (2,), (1,)),
    ],
)
def test_a_range_takes_what_it_says(kind: object, inside: tuple, outside: tuple) -> None:
    def function(value) -> None: ...

    function.__annotations__["value"] = kind
    for value in inside:
        assert find_argument_problems(function, {"value": value}, "", "it") == []
    for value in (*outside, math.nan, math.inf, -math.inf, "1"):
        assert len(find_argument_problems(function, {"value": value}, "", "it")) == 1, value


def test_everything_is_told_at_once() -> None:
    arguments = {"size": 1, "levels": [2, 0], "rate": math.nan, "decay": 1, "betas": [0.5], "sise": 3}
    assert find_argument_problems(Part, arguments, "p", "'part'") == [
        "p.size: expected 2 or more, got 1",
        "p.levels.1: expected 1 or more, got 0",
        "p.rate: expected a finite number, got nan",
        "p.decay: expected less than 1, got 1",
        "p.betas: expected at least 2 of them, got [0.5]",
        "p.sise: 'part' takes no such argument; did you mean 'size'?",
    ]


def test_a_class_built_by_hand_is_checked_before_its_constructor_runs() -> None:
    with pytest.raises(ArgumentError, match=r"^size: expected 2 or more, got 0; rate: expected 1 or less, got 2$"):
        Part(0, rate=2)
    assert Part(4, levels=(1, 2)).arguments == {"size": 4, "levels": (1, 2)}


def test_a_call_that_python_refuses_is_pythons_to_refuse() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'size'"):
        Part()
    with pytest.raises(TypeError, match="unexpected keyword argument 'sise'"):
        Part(4, sise=3)


def test_what_was_checked_is_not_checked_again() -> None:
    with already_checked():
        assert Part(0).size == 0
    with pytest.raises(ArgumentError):
        Part(0)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda part: pickle.loads(pickle.dumps(part))])
def test_a_copy_keeps_its_arguments(duplicate: object) -> None:
    again = duplicate(Part(4, rate=1))
    assert again.arguments == {"size": 4, "rate": 1}
    assert again.size == 4


def test_defaults_are_written_out_as_a_recipe_writes_them() -> None:
    assert complete_arguments(Part, {"rate": 1, "size": 4}) == {
        "size": 4,
        "levels": [2, 3],
        "rate": 1,
        "decay": None,
        "betas": None,
    }
