"""`tok build-codebook`: codebooks of any size for a tokenizer that was trained without one, added to its artifact."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import PartialState

from tokcli.artifacts import save_artifact
from tokcli.artifacts.artifact import lock_of
from tokcli.codebooks import build_codebooks, require_builder, sample_latents
from tokcli.contracts import CodebookReport, Source
from tokcli.data.items import default_workers
from tokcli.errors import UsageError
from tokcli.files import remove_abandoned
from tokcli.locking import wait
from tokcli.models import Model, find_model, open_model, pick_device
from tokcli.progress import SILENT, Reporter
from tokcli.recipe.build import build_training_source


@dataclass(frozen=True)
class BuiltCodebooks:
    """New codebooks of an artifact.

    Attributes:
        artifact: the file.
        reports: how well each new codebook fits.
    """

    artifact: pathlib.Path
    reports: Sequence[CodebookReport]

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        codebooks = {str(report.size): dataclasses.asdict(report) for report in self.reports}
        return {"artifact": str(self.artifact), "codebooks": codebooks}


def build_codebook(
    model: str | None = None,
    *,
    sizes: Sequence[int] | None = None,
    data: str | None = None,
    samples: int = 200_000,
    passes: int = 1,
    seed: int = 0,
    force: bool = False,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> BuiltCodebooks:
    """Encode data once and build a codebook of each of `sizes` from its latents.

    Several processes share the encoding. Codebooks of other sizes stay; one of the same size is replaced with `force`,
    and disowns the tokens it made. Waits for another process that writes the artifact.

    Args:
        model: a file or a run folder; None takes $TOK_MODEL, else the last finished run.
        sizes: codes of each codebook; None builds one of the size that the model was trained for.
        data: a folder, a file or a .txt list; None takes the recipe's training data.
        samples: latents to build from, at most.
        passes: over the data, each under another draw of what is random in it.
        seed: of the sample and of the building.
        force: replace a codebook of the same size.
        device: auto, cpu, cuda or mps.
        reporter: is told what happens.

    Example:
        >>> import tokcli
        >>> built = tokcli.build_codebook("runs/quickstart", samples=500)
        >>> tokcli.load("runs/quickstart").codebook_size
        1000

    Raises:
        UsageError: where the quantizer builds no codebook or the size is there.
        InputError: where there is no data.
    """
    picked = pick_device(device)
    processes = PartialState(cpu=picked.type == "cpu")
    path = find_model(model)
    # From reading to writing: of two that build for one artifact, the later one reads what the earlier one has added.
    with wait(lock_of(path), path, reporter) if processes.is_main_process else contextlib.nullcontext():
        processes.wait_for_everyone()
        opened = _open_shared(str(path), picked, processes, reporter)
        artifact, tokenizer = opened.artifact, opened.tokenizer
        require_builder(tokenizer)
        sizes = list(sizes or [tokenizer.quantizer.codebook_size])
        if not force:
            _check_new(opened, sizes)
        source = _open_data(opened, data, reporter)
        latents = _sample(opened, source, processes.num_processes, samples, passes, seed, reporter)
        reports = build_codebooks(tokenizer, latents, sizes, seed=seed, reporter=reporter)
        if processes.is_main_process:
            remove_abandoned(path.parent)
            save_artifact(path, dataclasses.replace(artifact, codebooks=_add_reports(opened, reports)))
        processes.wait_for_everyone()
    return BuiltCodebooks(path, reports)


def _open_data(model: Model, data: str | None, reporter: Reporter) -> Source:
    """The data to build from; None takes the recipe's training data."""
    if data is None:
        source = build_training_source(model.artifact.recipe, model.tokenizer.modality)
    else:
        source = model.open_source([data], model.default_size)
    reporter.note(f"encoding {data or 'the training data of the recipe'}, {len(source)} items")
    return source


def _sample(
    model: Model, source: Source, processes: int, samples: int, passes: int, seed: int, reporter: Reporter
) -> torch.Tensor:
    """Latents (count, input_dim) of the data, encoded by all processes together."""
    return sample_latents(
        model.tokenizer,
        source,
        samples,
        passes=passes,
        items=None,
        seed=seed,
        batch_size=model.artifact.recipe.evaluation.batch_size,
        workers=default_workers(len(source), processes),
        reporter=reporter,
    )


def _open_shared(model: str | None, device: torch.device, processes: PartialState, reporter: Reporter) -> Model:
    """The model, on this process's own device where several share the work."""
    own = processes.device if processes.num_processes > 1 else None
    return open_model(model, own or device, reporter, need_tokens=False)


def _check_new(model: Model, sizes: Sequence[int]) -> None:
    existing = {report.size for report in model.artifact.codebooks}
    if twice := sorted(existing & set(sizes)):
        raise UsageError(
            f"{model.path} has a codebook of {twice[0]} codes; --force replaces it, and tokens made with it can then "
            "no longer be decoded"
        )


def _add_reports(model: Model, reports: Sequence[CodebookReport]) -> list[CodebookReport]:
    """The reports of all codebooks that the model has now: `reports`, and those of other sizes, by size."""
    built = {report.size for report in reports}
    held = require_builder(model.tokenizer).codebooks
    kept = [report for report in model.artifact.codebooks if report.size not in built and report.size in held]
    return sorted([*kept, *reports], key=lambda report: report.size)
