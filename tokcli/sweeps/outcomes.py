"""What a cell left in its folder: its figures where it has finished, else why not.

A finished cell is one whose artifact holds the very recipe of the cell; its figures are read from there. Beside the
run lie `judged.json` (further evaluations), `outcome.json` (how the last attempt ended) and `log.txt`.
"""

import contextlib
import dataclasses
import json
import math
import pathlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tokcli.artifacts.tensors import read_metadata
from tokcli.errors import DivergedError, TokError
from tokcli.files import write_text
from tokcli.recipe.recipe import from_artifact
from tokcli.sweeps.cells import Cell, FurtherEvaluation, shorten_fingerprint
from tokcli.sweeps.plan import IN_DOMAIN
from tokcli.training.curves import Curve, read_curves
from tokcli.training.run_folder import RunFolder, set_aside
from tokcli.untrusted import parse_json

State = Literal["finished", "failed", "diverged", "missing"]


@dataclass(frozen=True)
class Figures:
    """Metrics of a tokenizer on one set of data.

    Attributes:
        metrics: By name; None where there is no figure.
        codes: In the codebook that it was evaluated with.
    """

    metrics: dict[str, float | None]
    codes: int | None


@dataclass(frozen=True)
class Ended:
    """How the last attempt at a cell ended.

    Attributes:
        exit_code: 0 where there was none, or where it went well.
        reason: What went wrong.
        seconds: Of all attempts.
    """

    exit_code: int = 0
    reason: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a cell stands.

    Attributes:
        state: In a word.
        reason: Why there are not all figures.
        figures: What there is, by data and codebook (None: the one in use).
        curves: Of the evaluations over training, by metric.
        seconds: Of all attempts that this program saw the end of.
    """

    state: State
    reason: str | None
    figures: dict[tuple[str, int | None], Figures]
    curves: Mapping[str, Curve]
    seconds: float


def reuse_finished(cells: Iterable[Cell]) -> list[Cell]:
    """The cells, each that a sweep beside this one has finished being the one there: the same recipe, the same run."""
    return [_reuse_finished(cell) for cell in cells]


def _reuse_finished(cell: Cell) -> Cell:
    if cell.path.exists():
        return cell
    for path in sorted(cell.path.parent.parent.glob(f"*/*-{shorten_fingerprint(cell.recipe)}")):
        if read_own_figures(cell, RunFolder(path)) is not None:
            return dataclasses.replace(cell, path=path)
    return cell


def read_outcome(cell: Cell) -> Outcome:
    """Read a cell's folder, which need not exist."""
    run = RunFolder(cell.path)
    ended = read_ended(run.path)
    evaluations = read_evaluations(run.path)
    figures: dict[tuple[str, int | None], Figures] = {}
    if (own := read_own_figures(cell, run)) is not None:
        figures[IN_DOMAIN, None] = own
    for further in cell.further:
        if further.key in evaluations and own is not None:
            figures[further.name, further.codebook] = Figures(**evaluations[further.key])
    curves = read_curves(run.metrics)[1] if run.metrics.exists() else {}
    state, reason = _state(ended, whole=len(figures) == 1 + len(cell.further))
    return Outcome(
        state, reason or (None if state == "finished" else _describe_progress(run)), figures, curves, ended.seconds
    )


def _state(ended: Ended, whole: bool) -> tuple[State, str | None]:
    if whole:
        return "finished", None
    if not ended.exit_code:
        return "missing", None
    return "diverged" if ended.exit_code == DivergedError.exit_code else "failed", ended.reason


def read_own_figures(cell: Cell, run: RunFolder) -> Figures | None:
    """The final evaluation of the training; None where it has not finished, or was of another recipe."""
    if not run.artifact.exists():
        return None
    try:
        metadata = {key: parse_json(value) for key, value in read_metadata(run.artifact).items()}
        if from_artifact(metadata["recipe"]).fingerprint() != cell.recipe.fingerprint():
            return None
        figures = {"metrics": metadata["training"]["metrics"], "codes": metadata["codebook"]}
        return Figures(**figures) if _is_evaluation(figures) else None
    except (TokError, KeyError, ValueError, TypeError):
        return None


def read_evaluations(path: pathlib.Path) -> dict[str, Any]:
    """The further evaluations of a run folder, by key."""
    content = _read(path / "judged.json")
    return {key: value for key, value in content.items() if _is_evaluation(value)}


def _is_evaluation(value: object) -> bool:
    if not isinstance(value, dict) or value.keys() != {"metrics", "codes"}:
        return False
    metrics, codes = value["metrics"], value["codes"]
    numbers = isinstance(metrics, dict) and all(
        figure is None or isinstance(figure, int | float) for figure in metrics.values()
    )
    return numbers and (codes is None or isinstance(codes, int))


def add_evaluation(path: pathlib.Path, further: FurtherEvaluation, figures: Figures) -> None:
    """Keep the figures of one further evaluation."""
    write_text(path / "judged.json", json.dumps(read_evaluations(path) | {further.key: asdict(figures)}, indent=1))


def read_ended(path: pathlib.Path) -> Ended:
    """How the last attempt at a cell ended."""
    content = _read(path / "outcome.json")
    code, reason, seconds = (content.get(name) for name in ("exit_code", "reason", "seconds"))
    return Ended(
        code if type(code) is int else 0,
        reason if isinstance(reason, str) else None,
        float(seconds) if isinstance(seconds, int | float) and math.isfinite(seconds) else 0.0,
    )


def add_ended(path: pathlib.Path, exit_code: int, reason: str | None, seconds: float) -> None:
    """Keep how an attempt ended; its seconds are added to those of earlier ones."""
    ended = Ended(exit_code, reason, round(read_ended(path).seconds + seconds, 1))
    write_text(path / "outcome.json", json.dumps(asdict(ended)))


def count_steps(path: pathlib.Path) -> int:
    """How far a training has come, by the last whole line of its metrics."""
    metrics = RunFolder(path).metrics
    if not metrics.exists():
        return 0
    with open(metrics, "rb") as file:
        file.seek(max(0, metrics.stat().st_size - 8192))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            return int(parse_json(line)["step"])
        except (ValueError, TypeError, KeyError, OverflowError):
            continue
    return 0


def _describe_progress(run: RunFolder) -> str:
    steps = count_steps(run.path)
    return f"stopped after step {steps}" if steps else "not run"


def _read(path: pathlib.Path) -> dict[str, Any]:
    """What a small file of a cell holds; one that is damaged is set aside, and the work that it told of done again."""
    if not path.exists():
        return {}
    try:
        content = parse_json(path.read_bytes())
    except ValueError:
        content = None
    if isinstance(content, dict):
        return content
    with contextlib.suppress(OSError):  # a sweep that is only rendered may be read-only
        set_aside(path)
    return {}
