"""The folder of a run: what it was, what it made, what happened.

recipe.yaml  tokenizer.safetensors  metrics.jsonl  curves.png  samples/  checkpoints/  (wandb-id.txt)
"""

import json
import pathlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from tokcli.artifacts import ARTIFACT_NAME
from tokcli.files import UNFINISHED, replacing, write_text
from tokcli.training.checkpoint import checkpoints_in


class RunFolder:
    """Paths and small files of one run under `path`, which need not exist yet.

    watchers: called with each line that is recorded.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.artifact = path / ARTIFACT_NAME
        self.metrics = path / "metrics.jsonl"
        self.curves = path / "curves.png"
        self.tensorboard = path / "tensorboard"
        self.wandb_id = path / "wandb-id.txt"
        self.samples = path / "samples"
        self.checkpoints = path / "checkpoints"
        self.best = self.checkpoints / "best.safetensors"
        self.watchers: list[Callable[[Mapping[str, Any]], None]] = []

    @property
    def started(self) -> bool:
        """Whether something of a run is already here."""
        return self.recipe.exists() or self.artifact.exists()

    def prepare(self, recipe_yaml: str) -> None:
        """Make the folder and write the resolved recipe."""
        for folder in (self.path, self.samples, self.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        write_text(self.recipe, recipe_yaml)

    def keep_wandb_id(self) -> str:
        """The name under which W&B knows this run: made once, so that a resumed run goes on with the same one."""
        if not self.wandb_id.exists():
            write_text(self.wandb_id, secrets.token_hex(4) + "\n")
        return self.wandb_id.read_text(encoding="utf-8").strip()

    def record(self, entry: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl, and tell the watchers."""
        with open(self.metrics, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(entry, allow_nan=False) + "\n")
        for tell in self.watchers:
            tell(entry)

    def forget_after(self, step: int) -> None:
        """Drop what a run resumed at `step` writes again: later lines, and the evaluation of that step."""
        if not self.metrics.exists():
            return
        kept = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                break  # a line cut short by a kill, and nothing stands behind it
            if entry["step"] < step or (entry["step"] == step and "evaluation" not in entry):
                kept.append(line + "\n")
        write_text(self.metrics, "".join(kept))

    def checkpoint(self, step: int) -> pathlib.Path:
        """Where the checkpoint after `step` steps goes."""
        return self.checkpoints / f"step-{step:08d}.safetensors"

    def forget_checkpoints(self, keep: int) -> None:
        """Remove all but the latest `keep` checkpoints, and what a killed save left behind."""
        for path in checkpoints_in(self.checkpoints)[:-keep]:
            path.unlink(missing_ok=True)
        for leftover in self.checkpoints.glob(UNFINISHED):
            leftover.unlink(missing_ok=True)

    def save_sheet(self, sheet: Image.Image, step: int) -> pathlib.Path:
        """Write the sheet of samples after `step` steps; returns its path."""
        path = self.samples / f"step-{step:08d}.png"
        with replacing(path) as unfinished:
            sheet.save(unfinished, format="PNG")
        return path
