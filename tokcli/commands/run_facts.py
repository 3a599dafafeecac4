"""What a run folder says of itself without its weights being loaded: its method, figures, age and state."""

import datetime
import json
import math
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from tokcli.artifacts.tensors import read_metadata
from tokcli.errors import InputError, MismatchError, RecipeError
from tokcli.locking import read_holder
from tokcli.recipe.text import parse
from tokcli.training.checkpoint import find_newest_checkpoint
from tokcli.training.run_folder import CELL, RunFolder, parse_entry

LOG_SEEN = 65536
"""Bytes at the end of a log that are read."""

FIGURES = ("psnr", "pesq", "si-sdr", "ssim", "stoi", "cvu")
"""Those that a list of runs shows, as far as the runs have them."""


def list_runs(folder: pathlib.Path) -> list[dict[str, Any]]:
    """A row for each run in a folder, the latest first; a cell of a sweep that has not begun is one too."""
    inside = sorted(path for path in folder.glob("*") if path.is_dir()) if folder.is_dir() else []
    runs = [RunFolder(path) for path in inside if RunFolder(path).started or (path / CELL).exists()]
    rows = [(_find_time(run), summarize_run(run)) for run in runs]
    return [row for _, row in sorted(rows, key=lambda each: -each[0])]


def summarize_run(run: RunFolder) -> dict[str, Any]:
    """Name, method, K, main figures, age and state; what is not known is None."""
    recipe = read_recipe_content(run)
    quantizer = recipe.get("quantizer")
    quantizer = quantizer if isinstance(quantizer, dict) else {}
    metrics = read_figures(run)
    return {
        "name": run.path.name,
        "method": quantizer.get("kind"),
        "K": _read_codebook_size(run) or find_codebook_size(quantizer),
        **{name: metrics[name] for name in FIGURES if metrics.get(name) is not None},
        "age": describe_age(time.time() - _find_time(run)),
        "state": describe_state(run),
    }


def describe_state(run: RunFolder) -> str:
    """`finished`, `running`, `interrupted at step 40 of 100`, `diverged`, `failed`, or that it has not begun."""
    holder = read_holder(run.lock)
    if holder is not None and not holder.dead:
        return "running"
    if run.artifact.exists():
        return "finished"
    if not run.started:
        return "not begun"
    end = find_end(run)
    if end is not None and "diverged" in end:
        return "diverged"
    steps = read_recipe_content(run).get("training")
    steps = steps.get("steps") if isinstance(steps, dict) else None
    newest = find_newest_checkpoint(run.checkpoints)
    at = int(newest.stem.removeprefix("step-")) if newest else 0
    return f"interrupted at step {at} of {steps}" if newest and steps else "stopped before its first checkpoint"


def advise(run: RunFolder) -> str:
    """The command to run next for a run that is not finished."""
    again = f"tok train {run.recipe} -o {run.path}"
    state = describe_state(run)
    if not run.recipe.exists():
        return "it was stopped before it began: run its command again"
    if state == "running":
        return "wait: another process writes it"
    if state == "diverged":
        training = read_recipe_content(run).get("training")
        rate = training.get("learning_rate") if isinstance(training, dict) else None
        lower = f"{rate / 3:.1g}" if isinstance(rate, float) else "LOWER"
        return f"{again} training.learning_rate={lower} --force    starts it anew with a lower rate"
    return f"{again}    {'goes on with it' if find_newest_checkpoint(run.checkpoints) else 'starts it again'}"


def find_end(run: RunFolder) -> str | None:
    """How the run's log says that it ended; None where it does not, or it finished."""
    ends = [line.partition("ended: ")[2] for line in _read_log(run) if "  ended: " in line]
    return ends[-1] if ends else None


def find_command(run: RunFolder) -> str | None:
    """What was typed to train it, the last time."""
    typed = [line.partition("  $ ")[2] for line in _read_log(run) if "  $ " in line]
    return typed[-1] if typed else None


def describe_history(run: RunFolder) -> dict[str, Any]:
    """When the run was written last, how long its attempts took, what it was trained on, by which command."""
    data = read_recipe_content(run).get("data")
    train = data.get("train") if isinstance(data, dict) else None
    train = train if isinstance(train, dict) else {}
    written = datetime.datetime.fromtimestamp(_find_time(run)).isoformat(" ", "seconds")
    return {
        "state": describe_state(run),
        "written": written,
        "duration": _measure_duration(run),
        "data": train.get("path") or train.get("kind"),
        "command": find_command(run),
    }


def read_recipe_content(run: RunFolder) -> dict[str, Any]:
    """The run's recipe as plain values; empty where it cannot be read."""
    path = run.recipe if run.recipe.exists() else run.path / CELL
    try:
        content = parse(path.read_bytes().decode(), str(path))
    except (RecipeError, UnicodeDecodeError, OSError):
        return {}
    return content if isinstance(content, dict) else {}


def read_figures(run: RunFolder) -> dict[str, Any]:
    """The figures of the last evaluation that the run has kept."""
    try:
        lines = run.metrics.read_bytes().splitlines()
    except OSError:
        return {}
    entries = (parse_entry(line) for line in reversed(lines))
    return next((entry["evaluation"] for entry in entries if entry and "evaluation" in entry), {})


def find_codebook_size(quantizer: Mapping[str, Any]) -> int | None:
    """K as the node of a quantizer says it; None where it does not."""
    size, levels = quantizer.get("codebook_size"), quantizer.get("levels")
    if type(size) is int:
        return size
    if isinstance(levels, list) and all(type(level) is int for level in levels):
        return math.prod(levels)
    bins, dim = quantizer.get("bins"), quantizer.get("dim")
    return bins**dim if type(bins) is int and type(dim) is int and 0 < dim < 64 else None


def describe_age(seconds: float) -> str:
    """`4 min`, `3 h`, `2 days`."""
    for unit, length in (("days", 172800.0), ("h", 7200.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds // {'days': 86400, 'h': 3600, 'min': 60}[unit]:.0f} {unit}"
    return "now"


def _read_codebook_size(run: RunFolder) -> int | None:
    try:
        size = json.loads(read_metadata(run.artifact)["codebook"]) if run.artifact.exists() else None
    except (InputError, MismatchError, KeyError, ValueError):
        return None
    return size if type(size) is int else None


def _find_time(run: RunFolder) -> float:
    """When anything of the run was written last."""
    times = [
        path.stat().st_mtime for path in (run.artifact, run.metrics, run.log, run.recipe, run.path) if path.exists()
    ]
    return max(times[:-1] or times, default=0.0)


def _read_log(run: RunFolder) -> list[str]:
    try:
        with open(run.log, "rb") as file:
            file.seek(max(0, run.log.stat().st_size - LOG_SEEN))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def _measure_duration(run: RunFolder) -> str | None:
    """The time that all attempts of the log took together, as `0:04:10`."""
    total, begun, last = datetime.timedelta(), None, None
    for line in _read_log(run):
        try:
            now = datetime.datetime.fromisoformat(line[:19])
        except ValueError:
            continue
        if line[19:].startswith("  $ "):
            total += last - begun if begun and last else datetime.timedelta()
            begun = now
        last = now
    if begun is None or last is None:
        return None
    return str(total + (last - begun))
