"""The keys that a recipe can have, read off the source text of the constructors: nothing of torch is imported.

Completion on the command line has a tenth of a second. `tokcli.recipe.explanation` says what the keys mean.
"""

import ast
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

PACKAGE = pathlib.Path(__file__).parent.parent

FAMILIES = {
    "autoencoder": "autoencoders",
    "quantizer": "quantizers",
    "losses": "losses",
    "data": "data",
    "discriminator": "discriminators",
    "metrics": "metrics",
}
"""The package whose table holds the kinds of a section."""

SETTINGS = {
    "training": "TrainingSettings",
    "adversary": "AdversarySettings",
    "evaluation": "EvaluationSettings",
    "codebook": "CodebookSettings",
}


def list_keys(content: Mapping[str, Any]) -> list[str]:
    """Every KEY.PATH that a recipe of these plain values can be given: `quantizer.dim`, `training.steps`."""
    keys = ["seed", "name", "licence", "credits"]
    for section in ("autoencoder", "quantizer"):
        keys += _list_part_keys(section, section, content.get(section))
    data = content.get("data")
    for half in ("train", "eval"):
        keys += _list_part_keys("data", f"data.{half}", data.get(half) if isinstance(data, Mapping) else None)
    losses = content.get("losses")
    for index, node in enumerate(losses if isinstance(losses, list) else []):
        keys += _list_part_keys("losses", f"losses.{index}", node)
    for section, name in SETTINGS.items():
        keys += [f"{section}.{key}" for key in _list_fields("recipe/settings.py", name)]
    return keys


def list_kinds(section: str) -> list[str]:
    """The kinds of a section of parts."""
    return list(_read_table(section))


def _list_part_keys(section: str, path: str, node: Any) -> list[str]:
    kind = node.get("kind") if isinstance(node, Mapping) else None
    place = _read_table(section).get(kind) if isinstance(kind, str) else None
    arguments = _list_arguments(*place) if place is not None else []
    keys = [f"{path}.{key}" for key in ["kind", *arguments]]
    # A part made of another of its family names that in `of`.
    within = node.get("of") if isinstance(node, Mapping) else None
    return keys + _list_part_keys(section, f"{path}.of", within) if isinstance(within, Mapping) else keys


def _read_table(section: str) -> dict[str, tuple[str, str]]:
    """The file and the class of each kind, from the table of the section's package."""
    tree = _parse(f"{FAMILIES[section]}/__init__.py")
    origins = {
        alias.asname or alias.name: statement.module
        for statement in ast.walk(tree)
        if isinstance(statement, ast.ImportFrom) and statement.module is not None
        for alias in statement.names
    }
    table: dict[str, tuple[str, str]] = {}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Registry":
            for node in call.args:
                if isinstance(node, ast.Dict):
                    for key, value in zip(node.keys, node.values, strict=True):
                        if isinstance(key, ast.Constant) and isinstance(value, ast.Name) and value.id in origins:
                            file = origins[value.id].removeprefix("tokcli.").replace(".", "/") + ".py"
                            table[str(key.value)] = (file, value.id)
    return table


def _list_arguments(file: str, name: str) -> list[str]:
    """The arguments of a class's constructor, but for `self`."""
    for function in _find_class(file, name):
        if isinstance(function, ast.FunctionDef) and function.name == "__init__":
            return [argument.arg for argument in [*function.args.args[1:], *function.args.kwonlyargs]]
    return []


def _list_fields(file: str, name: str) -> list[str]:
    """The fields of a dataclass."""
    assigned = (each for each in _find_class(file, name) if isinstance(each, ast.AnnAssign))
    return [each.target.id for each in assigned if isinstance(each.target, ast.Name)]


def _find_class(file: str, name: str) -> Iterator[ast.stmt]:
    for statement in _parse(file).body:
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            yield from statement.body


def _parse(file: str) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
