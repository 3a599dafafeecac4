"""The schema is the signature, and its complaints are sentences."""

import pytest

import tokcli.registry
from tokcli.errors import ArgumentError, InputError, RecipeError
from tokcli.registry import CheckedNode, Registry, nearest


class Part:
    def __init__(self, levels: list[int], rate: float = 0.5, path: str | list[str] = "") -> None:
        if rate > 1:
            raise ArgumentError(f"rate: expected at most 1, got {rate}")
        if path == "missing":
            raise InputError("there is no 'missing'")
        self.levels, self.rate = levels, rate


PARTS: Registry[Part] = Registry("part", {"part": Part}, Part)


def test_a_node_is_a_constructor_call() -> None:
    built = PARTS.build({"kind": "part", "levels": [1, 2], "rate": 1})
    assert (built.levels, built.rate) == ([1, 2], 1)


@pytest.mark.parametrize(
    ("node", "problems"),
    [
        ({"kind": "part"}, ["p.levels: 'part' needs this argument"]),
        (
            {"kind": "part", "levels": [1], "levles": 2},
            ["p.levles: 'part' takes no such argument; did you mean 'levels'?"],
        ),
        ({"kind": "part", "levels": [1, "x"]}, ["p.levels.1: input should be a valid integer, got 'x'"]),
        ({"kind": "part", "levels": [True]}, ["p.levels.0: input should be a valid integer, got True"]),
        (
            {"kind": "part", "levels": [1], "path": 3},
            ["p.path: input should be a valid string, got 3, or input should be a valid list, got 3"],
        ),
        ({"kind": "prt"}, ["p.kind: there is no part 'prt'; did you mean 'part'?"]),
        ({}, ["p.kind: which part? one of: part"]),
        (7, ["p: expected a part with a 'kind', got 7"]),
    ],
)
def test_each_problem_is_a_sentence_with_its_path(node: object, problems: list[str]) -> None:
    assert PARTS.problems(node, "p") == problems


def test_what_the_constructor_refuses_carries_the_path_and_keeps_its_kind() -> None:
    with pytest.raises(RecipeError, match="p: rate: expected at most 1, got 2"):
        PARTS.build({"kind": "part", "levels": [], "rate": 2.0}, "p")
    with pytest.raises(InputError, match="p: there is no 'missing'"):
        PARTS.build({"kind": "part", "levels": [], "path": "missing"}, "p")


def test_the_hint_is_the_nearest_word_or_all_of_them() -> None:
    assert nearest("stpes", ["steps", "seed"]) == "did you mean 'steps'?"
    assert nearest("xyz", ["steps", "seed"]) == "expected one of: steps, seed"


def test_another_error_of_a_constructor_is_a_bug_and_stays_loud() -> None:
    class Broken(Part):
        def __init__(self) -> None:
            int("x")

    with pytest.raises(ValueError, match="invalid literal") as caught:
        Registry("part", {"broken": Broken}, Part).build({"kind": "broken"}, "p")
    assert caught.type is ValueError


def test_a_node_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    check = tokcli.registry.find_argument_problems
    monkeypatch.setattr("tokcli.registry.find_argument_problems", lambda *given: calls.append(given) or check(*given))
    node = PARTS.check({"kind": "part", "levels": [1]}, "p")
    assert isinstance(node, CheckedNode)
    assert node == {"kind": "part", "levels": [1], "rate": 0.5, "path": ""}
    PARTS.build(node, "p")
    PARTS.build(node, "p")
    assert len(calls) == 1
    PARTS.build(dict(node), "p")
    assert len(calls) == 2
