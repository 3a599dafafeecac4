"""Which tokenizer a command means: the one named, the environment's, or the last finished run."""

import os
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tokcli.artifacts import Artifact, load_artifact
from tokcli.artifacts.artifact import codebook_ready
from tokcli.errors import InputError, MismatchError, TokError, UsageError
from tokcli.progress import Reporter
from tokcli.recipe.recipe import Recipe
from tokcli.training.run_folder import RunFolder

RUNS = pathlib.Path("runs")
VARIABLE = "TOK_MODEL"

WEIGHTS = {"ema": "averaged", "raw": "raw"}
"""What people read of the kinds of weights. The averaging is over training steps, not that of a codebook."""

NAMED = 5
"""Runs that an error names."""


@dataclass(frozen=True)
class Model:
    """A loaded tokenizer on its device, and the file it came from."""

    path: pathlib.Path
    artifact: Artifact
    device: torch.device


def find_model(model: str | None) -> pathlib.Path:
    """The artifact that `model` names (a file or a run folder), else $TOK_MODEL, else the last finished run in ./runs.

    Raises InputError where there is none, with the command that makes one.
    """
    named = model or os.environ.get(VARIABLE)
    if named:
        path = pathlib.Path(named)
        return _artifact_in(path) if path.is_dir() else _artifact_at(path)
    finished = sorted(RUNS.glob("*/tokenizer.safetensors"), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise InputError(
            f"no tokenizer was named, ${VARIABLE} is not set and ./{RUNS} holds no finished run; "
            "train one with: tok train quickstart"
        )
    return finished[-1]


def find_models(models: Sequence[str]) -> list[pathlib.Path]:
    """The artifacts that `models` name, as `find_model` finds one; without a name, the one that it finds then.

    Raises what `find_model` raises, with every problem in one message.
    """
    found: list[pathlib.Path] = []
    problems: list[TokError] = []
    for model in models or [None]:
        try:
            found.append(find_model(model))
        except TokError as problem:
            problems.append(problem)
    if problems:
        raise type(problems[0])("\n".join(str(problem) for problem in problems))
    return found


def _artifact_at(path: pathlib.Path) -> pathlib.Path:
    if not path.is_file():
        raise InputError(f"there is no tokenizer at {path}; expected a .safetensors file or a run folder")
    if path.suffix != ".safetensors":
        raise MismatchError(f"{path} is no tokenizer; expected a .safetensors file or a run folder")
    return path


def _artifact_in(folder: pathlib.Path) -> pathlib.Path:
    """The artifact of a run folder. A folder of runs is no model: it says which runs it holds."""
    run = RunFolder(folder)
    if run.artifact.is_file():
        return run.artifact
    inside = [] if run.started else sorted(path.parent.name for path in folder.glob("*/tokenizer.safetensors"))
    if not inside:
        raise InputError(f"there is no tokenizer at {run.artifact}; has that run finished?")
    more = f" and {len(inside) - NAMED} more" if len(inside) > NAMED else ""
    raise InputError(
        f"{folder} is no run but a folder of finished runs: {', '.join(inside[:NAMED])}{more}; "
        f"name one of them, or compare all with: tok eval {folder}/*/"
    )


def short_labels(artifacts: Sequence[pathlib.Path]) -> list[str]:
    """What each is called beside the others: its run's folder or its file, less the folders that all of them share."""
    paths = [each.parent if each.name == "tokenizer.safetensors" and each.parent.name else each for each in artifacts]
    folders = [os.path.dirname(path) for path in paths]
    alike = len({os.path.isabs(folder) for folder in folders}) == 1
    shared = os.path.commonpath(folders) if alike else ""
    start = len(os.path.join(shared, "")) if shared else 0
    return [str(path)[start:] for path in paths]


def open_model(
    model: str | None, device: torch.device, reporter: Reporter, codebook: int | None = None, need_tokens: bool = True
) -> Model:
    """Load the tokenizer that `model` means and say which it is.

    codebook: which of the built ones; None takes the one in use when it was saved.
    need_tokens: refuse one whose codebook is still to be built.
    """
    path = find_model(model)
    artifact = load_artifact(path, codebook)
    if need_tokens and not codebook_ready(artifact.tokenizer):
        raise UsageError(f"the tokenizer {path} has no codebook yet; run: tok build-codebook {path}")
    artifact.tokenizer.to(device)
    quantizer = artifact.tokenizer.quantizer
    codes = f", {quantizer.codebook_size} codes" if codebook_ready(artifact.tokenizer) else ", no codebook yet"
    weights = f"{WEIGHTS[artifact.weights]} weights"
    reporter.note(f"model {path}: {artifact.recipe.quantizer['kind']}{codes}, {weights}, on {device}")
    return Model(path, artifact, device)


def judged_size(recipe: Recipe) -> int | None:
    """The size that the recipe judges at, which a model was made to be good at; None where that is each item's own."""
    return recipe.eval_data.get("size")
