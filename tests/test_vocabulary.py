"""One thing has one word: names in the code use the vocabulary of tokcli/README.md and none of its synonyms."""

import ast
import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "tokcli"
MODULES = sorted(PACKAGE.rglob("*.py"))

BANNED = {
    "picture": "image",
    "pictures": "images",
    "sound": "audio",
    "sounds": "audio",
    "judge": "evaluate",
    "judged": "evaluated",
    "judging": "evaluating",
    "judgement": "scores",
    "opponent": "adversary",
    "heard": "what it is: an adversary that counts, a sample rate that fits",
    "hears": "sample_rate",
    "shelf": "folder",
    "room": "folder, module",
    "rooms": "folders, modules",
    "handful": "group",
    "handfuls": "groups",
    "parcel": "group",
    "asking": "what is asked",
    "twin": "what they share",
    "twins": "what they share",
    "medium": "modality",
    "media": "modalities",
    "neighbour": "nearest",
    "entrant": "candidate",
    "contender": "candidate",
    "workflow": "command",
    "workflows": "commands",
}
"""The synonyms, and the word in their place. Words for users (messages, help) may say picture and sound."""

PAIRS = [({"found", "wanted"}, "reconstruction, reference")]
"""Names that must not stand together among the parameters of one function."""

KEPT = {
    "evaluation/report/views.py": {"media_type"},
    "cli/sweep.py": {"judge_cell"},
    "sweeps/judge_cell.py": {"judge_cell"},
}
"""Names that stay, by module, because something outside is called so: a MIME type, a hidden command of sweeps."""


def words_of(name: str) -> list[str]:
    """The words that an identifier is made of: `_PictureView` is picture, view."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Every name that a module gives: to functions, classes, parameters, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_thing_has_its_word(path: pathlib.Path) -> None:
    own = str(path.relative_to(PACKAGE))
    names = {*identifiers(ast.parse(path.read_text())), path.stem, path.parent.name} - KEPT.get(own, set())
    wrong = {name: BANNED[word] for name in names for word in words_of(name) if word in BANNED}
    assert not wrong, f"{own}: {wrong}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_pair_has_its_words(path: pathlib.Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            parameters = {each.arg for each in [*node.args.args, *node.args.kwonlyargs]}
            for pair, better in PAIRS:
                assert not pair <= parameters, f"{path}:{node.lineno}: {pair}; call them {better}"
