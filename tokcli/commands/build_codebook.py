"""`tok build-codebook`: codebooks of any size for a tokenizer that was trained without one, added to its artifact."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import PartialState

from tokcli import shipped
from tokcli.artifacts import save_artifact
from tokcli.artifacts.artifact import lock_of, use_codebook
from tokcli.artifacts.storage import STORAGES, Storage, round_weights
from tokcli.codebooks import build_codebooks, require_builder, sample_latents
from tokcli.contracts import CodebookReport, Source
from tokcli.data.items import default_workers
from tokcli.errors import UsageError
from tokcli.files import remove_abandoned, try_output
from tokcli.locking import wait
from tokcli.models import TrainedModel, find_label, find_model, name_model, open_trained, pick_device, require_trained
from tokcli.progress import SILENT, Reporter
from tokcli.recipe.build import build_training_source
from tokcli.recipe.recipe import change_record


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
    evenness: float = 0.0,
    samples: int = 200_000,
    passes: int = 1,
    seed: int = 0,
    codebook: int | None = None,
    output: str | None = None,
    storage: Storage | None = None,
    record: Sequence[str] = (),
    force: bool = False,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> BuiltCodebooks:
    """Encode data once and build a codebook of each of `sizes` from its latents.

    Several processes share the encoding. Codebooks of other sizes stay; one of the same size is replaced with `force`,
    and disowns the tokens it made. Waits for another process that writes the artifact.

    With `output` the artifact stays as it is, and a new one is written beside it, to be kept or given away: with
    weights in fewer bits and another record, where that is asked for, and without the run's own figures, which are of
    other weights or codes.

    Args:
        model: a file, a run folder or a shipped name; None takes $TOK_MODEL, else the last finished run.
        sizes: codes of each codebook; None builds one of the size that the model was trained for.
        data: a folder, a file or a .txt list; None takes the recipe's training data.
        evenness: of the codes' use, −3 to 1. 0: the least error; 1: every code as often; below 0: the fewer bits of
            entropy, the less even.
        samples: latents to build from, at most.
        passes: over the data, each under another draw of what is random in it.
        seed: of the sample and of the building.
        codebook: the size that is used where nobody names one; None: the one trained for if it is built, else the
            largest.
        output: a file for the new artifact.
        storage: of the network's weights in it: float32, float16 or bfloat16. Codebooks are built, and tokens made, by
            the rounded weights. None keeps what the model has.
        record: what the new artifact's recipe says in the place of the old one's, `key.path=value` each: `licence`,
            `credits`, `name`, `data.train.path`.
        force: replace a codebook of the same size, or a file at `output`.
        device: auto, cpu, cuda or mps.
        reporter: is told what happens.

    Example:
        >>> import tokcli
        >>> built = tokcli.build_codebook("runs/quickstart", samples=500)
        >>> tokcli.load("runs/quickstart").codebook_size
        1000

    Raises:
        UsageError: where the quantizer builds no codebook, the size or the output is there, or the output is needed.
        InputError: where there is no data.
    """
    picked = pick_device(device)
    processes = PartialState(cpu=picked.type == "cpu")
    path = require_trained(find_model(model))
    target = choose_target(path, output, storage, record, force)
    # From reading to writing: of two that build for one artifact, the later one reads what the earlier one has added.
    with wait(lock_of(target), target, reporter) if processes.is_main_process else contextlib.nullcontext():
        processes.wait_for_everyone()
        opened = _open_shared(str(path), picked, processes, reporter)
        artifact, tokenizer = opened.artifact, opened.tokenizer
        change_record(artifact.recipe, record)  # a wrong one is refused before the work
        replaces = force or output is not None
        sizes = prepare(opened, sizes, evenness, storage or artifact.storage, codebook, replaces)
        source = open_data(opened, data, reporter)
        latents = _sample(opened, source, processes.num_processes, samples, passes, seed, reporter)
        reports = build_codebooks(tokenizer, latents, sizes, evenness=evenness, seed=seed, reporter=reporter)
        use_codebook(tokenizer, codebook)
        if processes.is_main_process:
            save_codebooks(target, opened, reports, output, storage, record)
        processes.wait_for_everyone()
    return BuiltCodebooks(target, reports)


def prepare(
    model: TrainedModel,
    sizes: Sequence[int] | None,
    evenness: float,
    storage: Storage,
    codebook: int | None,
    replaces: bool,
) -> list[int]:
    """The sizes to build, for a model whose weights are rounded to `storage`.

    Raises UsageError, before the work, where they cannot be built, are there already, or the codebook to be used at the
    end will not be there.
    """
    tokenizer = model.tokenizer
    quantizer = require_builder(tokenizer)
    round_weights(tokenizer, storage)
    chosen = list(sizes or [quantizer.codebook_size])
    for size in chosen:
        quantizer.require_possible(size, evenness)
    if not replaces:
        _check_new(model, chosen)
    if codebook not in (None, *chosen):
        use_codebook(tokenizer, codebook)
    return chosen


def choose_target(
    path: pathlib.Path, output: str | None, storage: Storage | None, record: Sequence[str], force: bool
) -> pathlib.Path:
    """The file to write. Raises UsageError where it is not clear, or in the way."""
    if storage is not None and storage not in STORAGES:
        raise UsageError(f"--storage: expected {', '.join(STORAGES)}; got '{storage[:40]}'")
    if output is None:
        if storage is not None or record:
            raise UsageError(
                "--storage and --record make another artifact of this one; name its file: -o FILE.safetensors"
            )
        if find_label(path) is not None:
            whence = "comes with tok" if shipped.find_label(path) else "lies on a hub"
            raise UsageError(
                f"{name_model(path)} {whence} and stays as it is; name a file for one with other codebooks: "
                "-o FILE.safetensors"
            )
        return path
    target = pathlib.Path(output)
    try_output(target, (".safetensors",))
    if target.exists() and not force:
        raise UsageError(f"{target} is there; --force overwrites it")
    return target


def save_codebooks(
    target: pathlib.Path,
    model: TrainedModel,
    reports: Sequence[CodebookReport],
    output: str | None,
    storage: Storage | None,
    record: Sequence[str],
) -> None:
    """Write the artifact with its new codebooks, and whatever else of it changes: arguments of `build_codebook`."""
    remove_abandoned(target.parent)
    artifact = model.artifact
    made = dataclasses.replace(
        artifact,
        recipe=change_record(artifact.recipe, record),
        storage=storage or artifact.storage,
        training=artifact.training if output is None else _forget_run(artifact.training),
        codebooks=_add_reports(model, reports),
    )
    save_artifact(target, made)


def _forget_run(training: Mapping[str, Any]) -> dict[str, Any]:
    """How long it was trained, or whose weights it has, and from whose it began, without figures and paths."""
    kept = {name: training[name] for name in ("steps", "imported") if name in training}
    origin = training.get("init_from")
    origin = {name: value for name, value in origin.items() if name != "path"} if isinstance(origin, dict) else {}
    return kept | ({"init_from": origin} if origin else {})


def open_data(model: TrainedModel, data: str | None, reporter: Reporter) -> Source:
    """The data to build from; None takes the recipe's training data."""
    if data is None:
        way_on = "name what to encode with --data FOLDER"
        source = build_training_source(model.artifact.recipe, model.tokenizer.modality, way_on=way_on)
    else:
        source = model.open_source([data], model.default_size)
    reporter.note(f"encoding {data or 'the training data of the recipe'}, {len(source)} items")
    return source


def _sample(
    model: TrainedModel, source: Source, processes: int, samples: int, passes: int, seed: int, reporter: Reporter
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


def _open_shared(model: str | None, device: torch.device, processes: PartialState, reporter: Reporter) -> TrainedModel:
    """The model, on this process's own device where several share the work."""
    own = processes.device if processes.num_processes > 1 else None
    return open_trained(model, own or device, reporter, need_tokens=False)


def _check_new(model: TrainedModel, sizes: Sequence[int]) -> None:
    existing = {report.size for report in model.artifact.codebooks}
    if twice := sorted(existing & set(sizes)):
        raise UsageError(
            f"{model.path} has a codebook of {twice[0]} codes; --force replaces it, and tokens made with it can then "
            "no longer be decoded"
        )


def _add_reports(model: TrainedModel, reports: Sequence[CodebookReport]) -> list[CodebookReport]:
    """The reports of all codebooks that the model has now: `reports`, and those of other sizes, by size."""
    built = {report.size for report in reports}
    held = require_builder(model.tokenizer).codebooks
    kept = [report for report in model.artifact.codebooks if report.size not in built and report.size in held]
    return sorted([*kept, *reports], key=lambda report: report.size)
