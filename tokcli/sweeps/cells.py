"""The cells of a sweep: which trainings it takes, each with its recipe and a folder that no other recipe has."""

import dataclasses
import hashlib
import json
import pathlib
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tokcli.data import SOURCES
from tokcli.errors import InputError, RecipeError, UsageError
from tokcli.recipe.build import build_evaluation_source, build_training_source
from tokcli.recipe.recipe import Recipe, from_text
from tokcli.recipe.shipped import find_recipe_text
from tokcli.recipe.text import parse
from tokcli.spelling import nearest
from tokcli.sweeps.plan import IN_DOMAIN, Method, Sweep

CHOICES = ("seeds", "sizes", "methods")

NEW_DATA = "evaluate.NAME={kind: images, path: FOLDER}"


@dataclass(frozen=True)
class FurtherEvaluation:
    """An evaluation beyond the one that ends a training.

    Attributes:
        name: Of the data.
        data: Its node; None is the recipe's evaluation data.
        codebook: Its size; None is the one in use.
        metrics: By name.
    """

    name: str
    data: dict[str, Any] | None
    codebook: int | None
    metrics: tuple[str, ...]

    @property
    def key(self) -> str:
        """Under which its figures are kept: other data, codebook or metrics have another key."""
        content = json.dumps([self.data, self.codebook, self.metrics], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        method: By name.
        size: Of the codebook; None where the method is trained once, or the sweep has no sizes.
        seed: Of the recipe.
        recipe: What is trained.
        path: Its folder.
        command: What a person would type for this training.
        further: Evaluations beyond the one that ends it.
    """

    method: str
    size: int | None
    seed: int
    recipe: Recipe
    path: pathlib.Path
    command: str
    further: tuple[FurtherEvaluation, ...]

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"{self.method}{f', K = {self.size}' if self.size is not None else ''}, seed {self.seed}"


def apply_choices(sweep: Sweep, overrides: Sequence[str]) -> tuple[Sweep, list[str]]:
    """Apply what a command line changes in the sweep itself; the overrides that are left are of every cell.

    `seeds=[0]` sets the seeds, `sizes=[256]` and `methods=[fsq, fsp]` keep some, `evaluate.NAME.KEY=VALUE` changes
    further data, and `evaluate.NAME={kind: images, path: FOLDER}` adds some. An override of the sweep's own whose
    key is among those that are left is dropped: a table says which hold.

    Raises:
        UsageError: For what the sweep does not have.
        RecipeError: For data that no source is made of.
    """
    rest = []
    for override in overrides:
        path, _, text = override.partition("=")
        if path in CHOICES:
            sweep = _narrow(sweep, path, parse(text, override))
        elif path.startswith("evaluate."):
            sweep = _redirect(sweep, path, parse(text, override))
        else:
            rest.append(override)
    given = {override.partition("=")[0] for override in rest}
    kept = [override for override in sweep.overrides if override.partition("=")[0] not in given]
    return dataclasses.replace(sweep, overrides=kept), rest


def make_cells(sweep: Sweep, folder: pathlib.Path, overrides: Sequence[str] = ()) -> list[Cell]:
    """Every training of the sweep, each in a folder of its own under `folder`.

    Raises:
        RecipeError: With the problems of all recipes, one a line.
    """
    problems: dict[str, None] = {}
    cells: list[Cell] = []
    for name, method in sweep.methods.items():
        for size in list_sizes(sweep, method):
            try:
                cells += _make_row(sweep, name, method, size, folder, overrides)
            except (RecipeError, InputError) as error:
                where = f"methods.{name}" + (f" at K = {size}" if size is not None else "")
                problems |= dict.fromkeys(f"{where}: {line}" for line in str(error).splitlines())
    if problems:
        raise RecipeError("\n".join(problems))
    return cells


def list_sizes(sweep: Sweep, method: Method) -> Sequence[int | None]:
    """The sizes at which a method is trained; one None where it is trained once."""
    if method.codebooks or not sweep.sizes:
        return [None]
    return [size for size in sweep.sizes if method.by_size is None or size in method.by_size]


def list_rows(sweep: Sweep) -> Iterator[tuple[str, int | None]]:
    """The rows of the table: a method, or a method at a size."""
    for name, method in sweep.methods.items():
        for size in [size for size in sweep.sizes if size in method.codebooks] or list_sizes(sweep, method):
            yield name, size


def _make_row(
    sweep: Sweep, name: str, method: Method, size: int | None, folder: pathlib.Path, overrides: Sequence[str]
) -> Iterator[Cell]:
    """One for each seed: the recipe is read and checked once."""
    stage = [f"codebook.sizes={json.dumps(sorted(method.codebooks))}"] if method.codebooks else []
    at_size = [] if method.by_size is None or size is None else method.by_size[size]
    changes = [*sweep.overrides, *method.overrides, *at_size, *stage, *overrides]
    source, text = find_recipe_text(method.recipe)
    recipe = from_text(text, source, changes)
    lacking = [metric for metric in sweep.columns if metric not in recipe.evaluation.metrics]
    if lacking:
        wanted = json.dumps([*recipe.evaluation.metrics, *lacking])
        raise RecipeError(f"its recipe does not evaluate {', '.join(lacking)}; override evaluation.metrics={wanted}")
    further = tuple(_list_further_evaluations(sweep, method, recipe))
    for seed in sweep.seeds:
        command = shlex.join(["tok", "train", method.recipe, *changes, f"seed={seed}"])
        seeded = dataclasses.replace(recipe, seed=seed)
        yield Cell(name, size, seed, seeded, folder / _name_folder(name, size, seeded), command, further)


def _name_folder(method: str, size: int | None, recipe: Recipe) -> str:
    """It tells a person which cell it is, and its last part which recipe: a changed one is another run."""
    parts = [method, *([str(size)] if size is not None else []), f"seed{recipe.seed}"]
    return f"{re.sub(r'[^A-Za-z0-9.+_-]+', '-', '-'.join(parts))}-{shorten_fingerprint(recipe)}"


def shorten_fingerprint(recipe: Recipe) -> str:
    """What every folder with a run of this very recipe ends with."""
    return recipe.fingerprint()[:10]


def _list_further_evaluations(sweep: Sweep, method: Method, recipe: Recipe) -> Iterator[FurtherEvaluation]:
    """Further data with the codebook in use; or, with several codebooks, every data with each of them."""
    metrics = tuple(recipe.evaluation.metrics)
    for codebook in sorted(method.codebooks) or [None]:
        if codebook is not None:
            yield FurtherEvaluation(IN_DOMAIN, None, codebook, metrics)
        for data, node in sweep.evaluate.items():
            yield FurtherEvaluation(data, node, codebook, metrics)


def _narrow(sweep: Sweep, choice: str, wanted: Any) -> Sweep:
    if not isinstance(wanted, list) or not wanted:
        raise UsageError(f"{choice}: expected a list such as {choice}=[{_find_example(sweep, choice)}], got {wanted!r}")
    if choice == "seeds":
        if not all(isinstance(seed, int) for seed in wanted):
            raise UsageError(f"seeds: expected whole numbers, got {wanted}")
        return dataclasses.replace(sweep, seeds=wanted)
    known = _choices(sweep, choice)
    for name in wanted:
        if name not in known:
            raise UsageError(f"{choice}: the sweep has no '{name}'; {nearest(str(name), map(str, known))}")
    if choice == "methods":
        kept = {name: method for name, method in sweep.methods.items() if name in wanted}
        claims = [claim for claim in sweep.claims if {claim.greater, claim.than} & set(sweep.methods) <= set(wanted)]
        return dataclasses.replace(sweep, methods=kept, claims=claims)
    methods = {
        name: dataclasses.replace(method, codebooks=[size for size in method.codebooks if size in wanted])
        for name, method in sweep.methods.items()
        if not method.codebooks or set(method.codebooks) & set(wanted)
    }
    return dataclasses.replace(sweep, sizes=[size for size in sweep.sizes if size in wanted], methods=methods)


def _choices(sweep: Sweep, choice: str) -> Sequence[str | int]:
    """What there is to choose from."""
    return {"seeds": sweep.seeds, "sizes": sweep.sizes, "methods": list(sweep.methods)}[choice]


def _find_example(sweep: Sweep, choice: str) -> str:
    return ", ".join(map(str, _choices(sweep, choice)[:2]))


def _redirect(sweep: Sweep, path: str, value: Any) -> Sweep:
    _, name, *keys = path.split(".")
    if not keys and isinstance(value, dict):
        node = value
    elif name in sweep.evaluate and len(keys) == 1:
        node = sweep.evaluate[name] | {keys[0]: value}
    else:
        known = [f"evaluate.{name}.path=FOLDER" for name in sweep.evaluate]
        raise UsageError(f"{path}: expected one such as {', '.join([*known, NEW_DATA])}")
    if problems := SOURCES.problems(node, f"evaluate.{name}"):
        raise RecipeError("\n".join(problems))
    return dataclasses.replace(sweep, evaluate=sweep.evaluate | {name: node})


def check_data(sweep: Sweep, cells: Sequence[Cell]) -> None:
    """Look for all data before the first training, so that what is missing is told once.

    Raises:
        InputError: With all that is missing, one a line.
    """
    missing: dict[str, None] = {}
    seen = set()
    for cell in cells:
        node = json.dumps([cell.recipe.train_data, cell.recipe.eval_data], sort_keys=True)
        if node in seen:
            continue
        seen.add(node)
        for build in (build_training_source, build_evaluation_source):
            try:
                build(cell.recipe, SOURCES[cell.recipe.train_data["kind"]].modality)
            except InputError as error:
                missing[str(error)] = None
    for name, node in sweep.evaluate.items():
        try:
            SOURCES.build(node, f"evaluate.{name}")
        except InputError as error:
            missing[f"{error}; set it with evaluate.{name}.path=FOLDER"] = None
    if missing:
        raise InputError("\n".join(missing))
