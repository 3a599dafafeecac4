"""The recipes and sweeps that come with the program, by name. Reads text only, so that listing them needs no torch."""

import pathlib
from dataclasses import dataclass

from tokcli.errors import InputError
from tokcli.files import exists, find_problem, read_text
from tokcli.schema import nearest

LONGEST = 1 << 20
"""Bytes of a recipe."""

LONGEST_NAME = 100
"""Characters of a shipped recipe's name, generously."""

SWEEPS = "sweeps"
"""The folder, within that of the recipes, which holds sweeps; functions below look there where they are told so."""


@dataclass(frozen=True)
class Shipped:
    """A shipped recipe or sweep: its name, the first sentence of its header, its text."""

    name: str
    summary: str
    text: str


def find_folder() -> pathlib.Path:
    """Where the recipes are: inside an installed package, beside the package in a checkout."""
    package = pathlib.Path(__file__).parent.parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def list_shipped(subfolder: str = "") -> list[str]:
    """Every shipped recipe; with the subfolder SWEEPS, every shipped sweep."""
    return sorted(path.stem for path in (find_folder() / subfolder).glob("*.yaml"))


def read_shipped(name: str, subfolder: str = "") -> Shipped:
    """The recipe or sweep `name`. Raises InputError with the nearest name where there is none."""
    if name not in list_shipped(subfolder):
        noun, listing = ("sweep", "tok sweep --list lists them") if subfolder else ("recipe", "tok recipes lists them")
        raise InputError(f"there is no {noun} '{name}'; {nearest(name, list_shipped(subfolder))} ({listing})")
    text = (find_folder() / subfolder / f"{name}.yaml").read_text(encoding="utf-8")
    return Shipped(name, read_summary(text), text)


def read_summary(text: str) -> str:
    """The first line of a recipe's header comment."""
    first = text.splitlines()[0] if text else ""
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def find_recipe_text(reference: str, subfolder: str = "") -> tuple[str, str]:
    """The name and text of a recipe or sweep given as a file or as a shipped name; a file wins.

    Raises InputError where it is neither, or cannot be read as text.
    """
    path = pathlib.Path(reference)
    problem = find_problem(path)
    if problem is None:
        return str(path), read_text(path, LONGEST)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1 or len(reference) > LONGEST_NAME:
        if exists(path):
            raise InputError(f"{path}: {problem}")
        noun, listing = ("sweep", "tok sweep --list") if subfolder else ("recipe", "tok recipes")
        raise InputError(f"there is no {noun} file {path}; a shipped {noun} goes by its bare name ({listing})")
    return reference, read_shipped(reference, subfolder).text
