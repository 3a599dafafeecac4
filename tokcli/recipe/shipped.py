"""The recipes and sweeps that come with the program, by name. Reads text only, so that listing them needs no torch."""

import pathlib
import re
from dataclasses import dataclass

from tokcli.errors import InputError
from tokcli.files import exists, find_problem, read_text
from tokcli.shipped import DEFAULTS
from tokcli.spelling import nearest

LONGEST = 1 << 20
"""Bytes of a recipe."""

LONGEST_NAME = 100
"""Characters of a shipped recipe's name, generously."""

START_HERE = (
    "quickstart",
    "quickstart-audio",
    "image-small-fsp",
    "image-small-vqvae-ema",
    "image-small-vpvae",
    "audio-small-fsp",
    "audio-small-vpvae",
)
"""The first to try, in this order."""

NUMBERS = {"two": "2", "three": "3", "four": "4", "five": "5", "ten": "10"}

SWEEPS = "sweeps"
"""The folder, within that of the recipes, which holds sweeps; functions below look there where they are told so."""

BENCHES = "benches"
"""The folder of those that judge models and train none; `tok sweep` runs both."""


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
    """Every shipped recipe; with the subfolder SWEEPS or BENCHES, every one of those."""
    return sorted(path.stem for path in (find_folder() / subfolder).glob("*.yaml"))


def list_shipped_sweeps() -> list[str]:
    """All that `tok sweep` runs by its bare name, sweeps and benches."""
    return [*list_shipped(SWEEPS), *list_shipped(BENCHES)]


def read_shipped(name: str, subfolder: str = "") -> Shipped:
    """The recipe `name`; with SWEEPS the sweep or bench. Raises InputError, with the nearest name, where none is."""
    if subfolder == SWEEPS and name in list_shipped(BENCHES):
        subfolder = BENCHES
    if name not in list_shipped(subfolder):
        noun, listing = ("sweep", "tok sweep --list lists them") if subfolder else ("recipe", "tok recipes lists them")
        if name in (list_shipped() if subfolder else list_shipped_sweeps()):
            other, verb = ("a recipe", "train") if subfolder else ("a sweep", "sweep")
            raise InputError(f"'{name}' is {other}: tok {verb} {name}")
        known = list_shipped_sweeps() if subfolder else list_shipped()
        raise InputError(f"there is no {noun} '{name}'; {nearest(name, known)} ({listing})")
    text = (find_folder() / subfolder / f"{name}.yaml").read_text(encoding="utf-8")
    return Shipped(name, read_summary(text), text)


def read_summary(text: str) -> str:
    """The first line of a recipe's header comment."""
    first = text.splitlines()[0] if text else ""
    return first.lstrip("# ").strip() if first.startswith("#") else ""


@dataclass(frozen=True)
class Guide:
    """What one wants to know of a recipe before choosing it, from its text alone.

    Attributes:
        group: `start here`, `small` (for a CPU), `in the box` (of a tokenizer that comes with the program) or
            `published` (as a paper has it, for GPUs).
        modality: image or audio.
        codebook_size: as its header says.
        stride: pixels or samples of a token, along an axis.
        time: on two CPU cores, in words; of the others, what they want.
        needs: what is not there on a fresh machine.
    """

    group: str
    modality: str
    codebook_size: str
    stride: str
    time: str
    needs: str


def read_guide(recipe: Shipped) -> Guide:
    """The guide to a shipped recipe. Facts that its header does not state are a dash."""
    header, _, body = recipe.text.partition("\nname:")
    is_small = "small" in recipe.name or "middle" in recipe.name or recipe.name.startswith("quickstart")
    in_the_box = recipe.name.partition("-")[0] in DEFAULTS.values()
    group = "start here" if recipe.name in START_HERE else "small" if is_small else "published"
    group = "in the box" if in_the_box else group
    modality = "audio" if "audio" in recipe.name or "kind: audio" in body else "image"
    size = re.search(r"K = (\d+)", header)
    stride = re.search(r"\b(?:f = |hop )(\d+)", header)
    measured = re.search(r"in ([\w.]+) (minutes|hours)", recipe.summary)
    unmeasured = "minutes" if is_small else "hours" if in_the_box else "GPUs, days"
    unit = "min" if measured and measured[2] == "minutes" else "h"
    time = f"{NUMBERS.get(measured[1], measured[1])} {unit}" if measured else unmeasured
    needs = ["sounds" if modality == "audio" else "pictures"] if " path: " in body else []
    needs += ["LPIPS weights"] if "kind: lpips" in body else []
    needs += [f"extra {extra}" for extra, mark in (("fid", "rfid"), ("audio", "pesq")) if mark in body]
    codebook_size, covered = (found[1] if found else "–" for found in (size, stride))
    return Guide(group, modality, codebook_size, covered, time, ", ".join(needs) or "nothing")


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
