"""Imports point downward: a module uses lower ranks or its own room, and only some rooms know some libraries."""

import ast
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "tokcli"

RANKS = [
    {"errors", "progress", "spelling"},
    {"files", "locking", "numerics", "schema", "untrusted"},
    {"contracts", "shipped"},
    {"registry", "optional", "distributed", "shards"},
    {"backbones", "hub", "search", "windows"},
    {"quantizers", "autoencoders", "losses", "discriminators", "metrics", "data"},
    {"tokenizer"},
    {"recipe"},
    {"artifacts", "tokens", "codebooks", "codecs", "published"},
    {"models", "foreign_weights"},
    {"evaluation", "exchange"},
    {"training"},
    {"sweeps", "probing"},
    {"commands"},
    {"cli", "library"},
    {"__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}

KEEPERS = {
    "typer": {"cli"},
    "rich": {"cli"},
    "click": {"cli"},
    "accelerate": {"training", "probing", "commands"},
    "transformers": {"backbones", "probing", "published"},
    "diffusers": {"published"},
    "safetensors": {"artifacts", "tokens", "backbones", "probing", "published"},
    "huggingface_hub": {"hub"},
    "pyarrow": {"data", "exchange"},
    "yaml": {"recipe"},
    "pickle": set(),
}

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


def room_of(path: pathlib.Path) -> str:
    """The file or folder directly under the package that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: pathlib.Path) -> set[str]:
    """Every module that a file imports anywhere in it, functions included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path: pathlib.Path) -> None:
    own = room_of(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "tokcli" or parts[1] in ("__version__", own):
            continue
        assert RANK[parts[1]] < RANK[own], f"{path} (rank {RANK[own]}) imports {name} (rank {RANK[parts[1]]})"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_its_keepers_know_a_library(path: pathlib.Path) -> None:
    for name in imported(path):
        library = name.split(".")[0]
        if library in KEEPERS:
            assert room_of(path) in KEEPERS[library], f"{path} imports {library}"


def test_the_map_of_the_house_shows_these_ranks() -> None:
    rows = re.findall(r"^\| (\d+) \| ((?:`\w+`(?:, )?)+) \|", (PACKAGE / "README.md").read_text(), re.MULTILINE)
    drawn = {int(rank): set(re.findall(r"`(\w+)`", modules)) for rank, modules in rows}
    assert drawn == dict(enumerate(RANKS))
