"""What a shell offers behind a key of tab: recipes, runs, keys of a recipe, files. Nothing here imports torch."""

import glob
import os
from collections.abc import Iterator, Sequence
from typing import Any

import typer

from tokcli.errors import TokError
from tokcli.recipe.shipped import find_recipe_text, list_shipped, list_shipped_sweeps
from tokcli.shipped import list_names

RUNS = "runs"


def complete_recipe(incomplete: str) -> list[str]:
    """Shipped recipes, and files of one's own."""
    return [*_begin(list_shipped(), incomplete), *complete_file(incomplete, (".yaml", ".yml"))]


def complete_sweep(incomplete: str) -> list[str]:
    """Shipped sweeps, and files of one's own."""
    return [*_begin(list_shipped_sweeps(), incomplete), *complete_file(incomplete, (".yaml", ".yml"))]


def complete_model(incomplete: str) -> list[str]:
    """Runs here, artifacts by their files, and what comes with the program."""
    named = [*_list_runs(), *list_names()]
    return list(dict.fromkeys([*_begin(named, incomplete), *complete_file(incomplete, (".safetensors",))]))


def complete_anything(incomplete: str) -> list[str]:
    """All that `tok info` takes."""
    shipped = [*list_names(), *list_shipped(), *list_shipped_sweeps()] if incomplete else []
    return list(dict.fromkeys([*_begin([*_list_runs(), *shipped], incomplete), *complete_file(incomplete)]))


def complete_key(context: typer.Context, incomplete: str) -> list[str]:
    """`KEY.PATH=` of the recipe that stands before it."""
    recipe = context.params.get("recipe")
    if not isinstance(recipe, str) or "=" in incomplete:
        return []
    from tokcli.recipe.keys import list_keys
    from tokcli.recipe.text import parse

    try:
        name, text = find_recipe_text(recipe)
        content = parse(text, name)
    except TokError:
        return []
    return _begin([f"{key}=" for key in list_keys(content)], incomplete) if isinstance(content, dict) else []


def complete_named(context: typer.Context, incomplete: str) -> list[str]:
    """What stands behind `tok recipes list|show|copy|explain`."""
    from tokcli.recipe.keys import FAMILIES, SETTINGS, list_kinds

    action, name = context.params.get("action"), context.params.get("name")
    if action == "explain" and isinstance(name, str) and name != incomplete:
        return _begin(list_kinds(name) if name in FAMILIES else [], incomplete)
    if action == "explain":
        return _begin([*FAMILIES, *SETTINGS], incomplete)
    return _begin(["image", "audio", "sweeps"] if action == "list" else _list_shipped_names(), incomplete)


def complete_file(incomplete: str, suffixes: Sequence[str] = ()) -> list[str]:
    """Files and folders that begin so; folders end in a slash, to go on from there."""
    return list(_find_files(incomplete, tuple(suffixes)))


def _find_files(incomplete: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    for path in sorted(glob.glob(glob.escape(incomplete) + "*")):
        if os.path.isdir(path):
            yield path + "/"
        elif not suffixes or path.endswith(suffixes):
            yield path


def _list_shipped_names() -> list[str]:
    return [*list_shipped(), *list_shipped_sweeps()]


def _list_runs() -> list[str]:
    """The folders in ./runs."""
    return [path for path in sorted(glob.glob(f"{RUNS}/*")) if os.path.isdir(path)]


def _begin(words: Sequence[Any], incomplete: str) -> list[str]:
    return [str(word) for word in words if str(word).startswith(incomplete)]
