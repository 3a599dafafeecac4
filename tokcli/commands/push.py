"""`tok push`: a trained tokenizer as a repository of a hub, with a card that says what it is, how good, and whose."""

import dataclasses
import json
import pathlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tokcli import hub
from tokcli.artifacts import ARTIFACT_NAME, save_artifact
from tokcli.artifacts.artifact import FORMAT
from tokcli.commands.model_card import write_card
from tokcli.errors import UsageError
from tokcli.files import write_text
from tokcli.models import TrainedModel, open_trained
from tokcli.models.finding import CONFIG_NAME, LIBRARY
from tokcli.probing.tokenizers import read_evaluations
from tokcli.progress import SILENT, Reporter
from tokcli.recipe.recipe import UNSPECIFIED, change_record

CARD_NAME = "README.md"


@dataclass(frozen=True)
class Pushed:
    """What was shared, or would be.

    Attributes:
        name: USER/NAME.
        revision: the hash of the commit; None where nothing was uploaded.
        url: of the repository; None likewise.
        private: whether only its owner sees it.
        licence: that it is under.
        files: bytes of each file.
        card: the text of README.md.
    """

    name: str
    revision: str | None
    url: str | None
    private: bool
    licence: str
    files: dict[str, int]
    card: str

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return dataclasses.asdict(self)


def push(
    model: str,
    name: str,
    *,
    licence: str | None = None,
    evaluation: str | None = None,
    public: bool = False,
    force: bool = False,
    dry_run: bool = False,
    reporter: Reporter = SILENT,
) -> Pushed:
    """Share the tokenizer of a run.

    Args:
        model: a run, an artifact, or any other name of a trained tokenizer of tok.
        name: USER/NAME of the repository, which is made where it is absent.
        licence: of the weights, as `apache-2.0`; None takes the one that the artifact records.
        evaluation: what `tok eval --json` printed, for the card; None takes the figures of the run's own end.
        public: whether a new repository is seen by everybody.
        force: also write into a repository that holds something else.
        dry_run: upload nothing.
        reporter: is told how far it is.

    Raises:
        InputError: the tokenizer is not there, or the hub cannot be reached or does not let this user write.
        UsageError: it has no licence, or the repository holds something else.
    """
    name = name.removeprefix(hub.PREFIX)
    hub.check_repository(name)
    opened = open_trained(model, torch.device("cpu"), reporter)
    licence = _choose_licence(opened, licence)
    rows = read_evaluations(evaluation)
    with tempfile.TemporaryDirectory(prefix="tok-push-") as place:
        folder = pathlib.Path(place)
        card = _fill(folder, opened, name, licence, rows)
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        if dry_run:
            return Pushed(name, None, None, not public, licence, files, card)
        reporter.note(f"uploading {sum(files.values()) / 1e6:.1f} MB to {hub.PREFIX}{name}")
        message = f"{opened.artifact.recipe.name}, shared by tok push"
        shared = hub.share(folder, name, known_by=ARTIFACT_NAME, message=message, public=public, force=force)
    if public and shared.private:
        reporter.note(f"{hub.PREFIX}{name} was there and stays private; its settings at {shared.url} change that")
    return Pushed(name, shared.revision, shared.url, shared.private, licence, files, card)


def _choose_licence(model: TrainedModel, licence: str | None) -> str:
    """The licence that is meant. Raises UsageError where there is none."""
    chosen = (licence or model.artifact.recipe.licence).strip()
    if chosen in ("", UNSPECIFIED):
        raise UsageError(
            f"{model.name} records no licence, and nobody may use what has none; name it: --licence apache-2.0, or any "
            "other that the training data allows"
        )
    return chosen


def _fill(folder: pathlib.Path, model: TrainedModel, name: str, licence: str, rows: Sequence[dict[str, Any]]) -> str:
    """Put the files of the repository into an empty folder; the text of the card."""
    artifact, target = model.artifact, folder / ARTIFACT_NAME
    if licence == artifact.recipe.licence:
        shutil.copyfile(model.path, target)
    else:
        recipe = change_record(artifact.recipe, [f"licence={licence}"])
        artifact = dataclasses.replace(artifact, recipe=recipe)
        save_artifact(target, artifact)
    config = {
        "library_name": LIBRARY,
        "format": FORMAT,
        "file": ARTIFACT_NAME,
        "modality": model.codec.modality,
        "sample_rate": model.codec.sample_rate,
        "stride": model.tokenizer.autoencoder.stride,
        "groups": model.codec.groups,
        "codebook_sizes": sorted({model.codec.codebook_size, *(built.size for built in artifact.codebooks)}),
        "network_fingerprint": model.network_fingerprint,
        "licence": licence,
    }
    write_text(folder / CONFIG_NAME, json.dumps(config, indent=2) + "\n")
    card = write_card(model, artifact.recipe, name, rows)
    write_text(folder / CARD_NAME, card)
    return card
