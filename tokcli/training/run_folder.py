"""The folder of a run: what it was, what it made, what happened.

recipe.yaml  tokenizer.safetensors  metrics.jsonl  curves.png  log.txt  samples/  checkpoints/
(wandb-id.txt  init-from.json)

`.tok-run` marks the folder as made by this program: only then is anything in it replaced or removed, and only files
that stand in the list of `made`.
"""

import contextlib
import itertools
import json
import os
import pathlib
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from tokcli import __version__
from tokcli.artifacts import ARTIFACT_NAME
from tokcli.artifacts.artifact import lock_of
from tokcli.files import UNFINISHED, move_into_place, remove_abandoned, replacing, write_bytes, write_text
from tokcli.training.checkpoint import list_checkpoints
from tokcli.untrusted import parse_json

MARKER = ".tok-run"

CELL = "cell.yaml"
"""The recipe that a sweep leaves in the folder of a cell."""

FORMER = re.compile(r"tokenizer-\d{8}\.safetensors")

SAMPLE = re.compile(r"step-\d{8}(\.png|-\d\.wav)|original-\d\.wav")
"""What a run leaves to look at and to listen to."""


class RunFolder:
    """Paths and small files of one run under `path`, which need not exist yet.

    watchers: called with each line that is recorded.
    warned: whether the user has been told that the codebook collapsed; once is enough.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.marker = path / MARKER
        self.recipe = path / "recipe.yaml"
        self.artifact = path / ARTIFACT_NAME
        self.lock = lock_of(self.artifact)
        self.log = path / "log.txt"
        self.metrics = path / "metrics.jsonl"
        self.curves = path / "curves.png"
        self.tensorboard = path / "tensorboard"
        self.wandb_id = path / "wandb-id.txt"
        self.origin = path / "init-from.json"
        self.samples = path / "samples"
        self.checkpoints = path / "checkpoints"
        self.best = self.checkpoints / "best.safetensors"
        self.watchers: list[Callable[[Mapping[str, Any]], None]] = []
        self.warned = False

    @property
    def started(self) -> bool:
        """Whether something of a run is already here."""
        # Runs of the first version have no marker.
        unmarked = self.artifact.exists() or (self.recipe.exists() and (self.metrics.exists() or self._has_checkpoints))
        return self.marker.exists() or unmarked

    @property
    def _has_checkpoints(self) -> bool:
        return any(list_checkpoints(self.checkpoints))

    @property
    def in_the_way(self) -> list[pathlib.Path]:
        """Files of somebody else under names that a run takes."""
        if self.started:
            return []
        logged = (self.path / CELL).exists()  # by the sweep, before the training begins
        taken = (self.recipe, self.metrics, self.curves, *([] if logged else [self.log]))
        return [path for path in taken if os.path.lexists(path)]

    @property
    def made(self) -> list[pathlib.Path]:
        """Every file that a run makes and that is here; nothing else in the folder is ever removed."""
        whole = (self.recipe, self.artifact, self.metrics, self.curves, self.wandb_id, self.log, self.best, self.origin)
        files = [path for path in whole if os.path.lexists(path)]
        files += [path for path in self.samples.glob("*") if SAMPLE.fullmatch(path.name)]
        files += list_checkpoints(self.checkpoints)
        files += [path for path in self.checkpoints.glob("tokenizer-*.safetensors") if FORMER.fullmatch(path.name)]
        events = ("events.out.tfevents.*", "hparams.yml")
        return files + [path for name in events for path in self.tensorboard.rglob(name)]

    def former_artifact(self, steps: int) -> pathlib.Path:
        """Where the tokenizer after `steps` steps stays when the run goes on to more."""
        return self.checkpoints / f"tokenizer-{steps:08d}.safetensors"

    def clear(self) -> None:
        """Remove what a run has made, and the folders of it that are empty then."""
        for path in self.made:
            path.unlink(missing_ok=True)
        inner = sorted((path for path in self.tensorboard.rglob("*") if path.is_dir()), reverse=True)
        for folder in (*inner, self.tensorboard, self.samples, self.checkpoints):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def mark(self) -> None:
        """Make the folder, and mark it as this program's before anything else stands in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.marker, json.dumps({"format": "tok-run/1", "version": __version__}) + "\n")

    def prepare(self, recipe_yaml: str) -> None:
        """Make the folders and write the resolved recipe."""
        self.mark()
        for folder in (self.path, self.samples, self.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
            remove_abandoned(folder)
        write_text(self.recipe, recipe_yaml)

    def keep_wandb_id(self) -> str:
        """The name under which W&B knows this run: made once, so that a resumed run goes on with the same one."""
        if not self.wandb_id.exists():
            write_text(self.wandb_id, secrets.token_hex(4) + "\n")
        return self.wandb_id.read_text(encoding="utf-8").strip()

    def read_origin(self) -> dict[str, Any]:
        """`init_from`: whose weights the run began with, where these were another run's; else empty."""
        try:
            return {"init_from": parse_json(self.origin.read_bytes())}
        except (OSError, ValueError):
            return {}

    def record(self, entry: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl, and tell the watchers."""
        with open(self.metrics, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(entry, allow_nan=False) + "\n")
        for tell in self.watchers:
            tell(entry)

    def forget_after(self, step: int) -> pathlib.Path | None:
        """Drop what a run resumed at `step` writes again: later lines, and the evaluation of that step.

        Returns where the file was set aside, if lines of it are damaged; those are dropped as well.
        """
        if not self.metrics.exists():
            return None
        lines = self.metrics.read_bytes().split(b"\n")[:-1]  # what stands behind the last line was cut by a kill
        entries = [(line, parse_entry(line)) for line in lines]
        damaged = any(entry is None for _, entry in entries)
        aside = set_aside(self.metrics, copy=True) if damaged else None
        kept = [
            line + b"\n"
            for line, entry in entries
            if entry and (entry["step"] < step or (entry["step"] == step and "evaluation" not in entry))
        ]
        write_bytes(self.metrics, b"".join(kept))
        return aside

    def checkpoint(self, step: int) -> pathlib.Path:
        """Where the checkpoint after `step` steps goes."""
        return self.checkpoints / f"step-{step:08d}.safetensors"

    def forget_checkpoints(self, keep: int) -> None:
        """Remove all but the latest `keep` checkpoints, and what a killed save left behind."""
        for path in list_checkpoints(self.checkpoints)[:-keep]:
            path.unlink(missing_ok=True)
        for leftover in self.checkpoints.glob(UNFINISHED):
            leftover.unlink(missing_ok=True)

    def locate_audio(self, step: int, number: int) -> pathlib.Path:
        """Where the reconstruction of a sound after `step` steps goes; its original is `original-NUMBER.wav`."""
        return self.samples / f"step-{step:08d}-{number}.wav"

    def save_sheet(self, sheet: Image.Image, step: int) -> pathlib.Path:
        """Write the sheet of samples after `step` steps; returns its path."""
        path = self.samples / f"step-{step:08d}.png"
        with replacing(path) as unfinished:
            sheet.save(unfinished, format="PNG")
        return path


def parse_entry(line: bytes | str) -> dict[str, Any] | None:
    """A line of metrics.jsonl; None where it is damaged."""
    try:
        entry = parse_json(line)
    except ValueError:
        return None
    whole = isinstance(entry, dict) and type(entry.get("step")) is int
    return entry if whole and isinstance(entry.get("evaluation", {}), dict) else None


def set_aside(path: pathlib.Path, copy: bool = False) -> pathlib.Path:
    """Move a damaged file out of the way, or copy it, to a name beside it that is free; returns that."""
    names = (path.with_name(f"{path.name}.damaged{number or ''}") for number in itertools.count())
    aside = next(name for name in names if not os.path.lexists(name))
    if copy:
        write_bytes(aside, path.read_bytes())
    else:
        move_into_place(path, aside)
    return aside
