"""`tok evaluate`: one tokenizer or several, evaluated by the same metrics on the same data."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from accelerate import PartialState

from tokcli.codecs import build_codecs
from tokcli.contracts import Candidate, Codec, ModalityName, Source
from tokcli.data.modality import MODALITIES, Modality
from tokcli.distributed import first_process, rank, world_size
from tokcli.errors import UsageError
from tokcli.evaluation.codecs import evaluate_codecs
from tokcli.evaluation.compare import compare_with
from tokcli.evaluation.pairs import FilesOfOthers, open_pairs
from tokcli.evaluation.report.build import save_sheet
from tokcli.evaluation.report.page import save_report
from tokcli.evaluation.resampled import Resampled
from tokcli.evaluation.run import Scores, Title, remark_on_use
from tokcli.evaluation.run import evaluate as evaluate_candidate
from tokcli.files import try_output
from tokcli.metrics import METRICS, Weights, build_metrics, metrics_for
from tokcli.metrics.weights import require_use
from tokcli.models import (
    Model,
    PublishedModel,
    find_models,
    list_codebooks,
    open_model,
    pick_device,
    read_settings,
    shorten_labels,
)
from tokcli.progress import SILENT, Reporter

Codebooks = Sequence[int] | Literal["all"]

EXAMPLES = 8
"""Items of a sheet where no recipe says how many."""


@dataclass(frozen=True)
class _Entry:
    """A model that is about to be evaluated, on what, by what, and what its row is called."""

    model: Model
    candidate: Candidate
    source: Source
    data: str
    metrics: Sequence[str]
    weights: Weights
    label: str


def evaluate(
    models: Sequence[str] = (),
    *,
    data: str | None = None,
    reference: str | None = None,
    reconstruction: Sequence[str] = (),
    metrics: Sequence[str] | None = None,
    codebooks: Codebooks | None = None,
    groups: Codebooks | None = None,
    size: int | Literal["native"] | None = None,
    sample_rate: int | None = None,
    items: int | None = None,
    against: Sequence[str] = (),
    sheet: str | None = None,
    report: str | None = None,
    report_items: int = 12,
    report_budget: int | None = None,
    weights: Weights | None = None,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> list[Scores]:
    """Evaluate models, and of several how those after the first differ from it.

    Args:
        models: Artifacts, run folders or shipped names; none: the one that would be found without a name for `data`.
        data: A folder, file or list; None takes each recipe's evaluation data.
        reference: Originals, to judge what other programs made of them in the place of models.
        reconstruction: What each of them made: folders, files or lists, matched to the originals by name.
        metrics: Their names; None takes each recipe's.
        codebooks: Each model is evaluated with each of these; "all" takes every one that it has built.
        groups: Each model is evaluated with so many of the first tokens of a position; "all" takes every number that
            it can decode. One model so gives a curve of rate and distortion.
        size: That `data` is resized and cropped to; native keeps each item whole; None takes the recipe's.
        sample_rate: Of the sound that all models are judged at, in Hz; one of another rate is resampled to its own and
            back. None: each at its own, but all at that of the first where another library ships one of them.
        items: Only the first so many.
        against: Codecs to evaluate beside the models, at their rates.
        sheet: A PNG of originals over all reconstructions.
        report: An HTML page about all of it.
        report_items: Items on that page, for each metric that scores items.
        report_budget: Bytes of that page: where it takes more, it holds thumbnails, and whole pictures lie beside it.
        weights: Local files of the networks that metrics look through, `{"lpips": FILE}`; what the recipe names else.
        device: Where to compute.
        reporter: Is told how far it is.

    Example:
        >>> import tokcli
        >>> (scores,) = tokcli.evaluate(["runs/quickstart"], metrics=["psnr", "cvu"], items=2)
        >>> sorted(scores.metrics)
        ['cvu', 'psnr']

    Raises:
        TokError: A model, a metric or the data is not to be had, or is not what models can share; before anything is
            computed.
    """
    _try_outputs(report, sheet)
    if reference is not None or reconstruction:
        named = {"a model": models, "--data": data, "--codebook": codebooks, "--groups": groups, "--against": against}
        _require_pairs(reference, reconstruction, [name for name, value in named.items() if value])
        assert reference is not None
        whole = None if size == "native" else size
        rows = _evaluate_files(reference, reconstruction, metrics, weights or {}, whole, items, device, reporter)
        return _save(rows, sheet, report, report_items, report_budget, reporter)
    if size is not None and data is None:
        raise UsageError("--size goes with --data; the recipe's evaluation data has its own size")
    if sample_rate is not None and data is None:
        raise UsageError("--sample-rate goes with --data; the recipe's evaluation data has its own")
    entries = _open_entries(
        models, metrics, weights or {}, codebooks, groups, data, size, sample_rate, device, reporter
    )
    if report or against or sheet:
        _require_same_data([entry.source for entry in entries])
    rows = _compare(entries, data, items, against, bool(sheet), reporter)
    return _save(rows, sheet, report, report_items, report_budget, reporter)


def _save(
    rows: list[Scores],
    sheet: str | None,
    report: str | None,
    report_items: int,
    report_budget: int | None,
    reporter: Reporter,
) -> list[Scores]:
    """Write what was asked for beside the scores, and give those; of several processes, the first writes."""
    if not first_process():
        return rows
    if sheet:
        save_sheet(pathlib.Path(sheet), rows)
    if report:
        save_report(pathlib.Path(report), rows, report_items, reporter, report_budget)
    return rows


def _require_pairs(reference: str | None, reconstruction: Sequence[str], others: Sequence[str]) -> None:
    """Raises UsageError where files cannot be judged: one side is missing, or what judges models is named."""
    if reference is None or not reconstruction:
        raise UsageError(
            "--reference ORIGINALS and --reconstruction FOLDER go together; the second may be given several times"
        )
    if others:
        raise UsageError(
            f"--reference judges files, and {' and '.join(others)} has no place there; to put a model beside them, "
            "decode its tokens into a folder and name that as one more --reconstruction"
        )


def _evaluate_files(
    reference: str,
    reconstruction: Sequence[str],
    metrics: Sequence[str] | None,
    weights: Weights,
    size: int | None,
    items: int | None,
    device: str,
    reporter: Reporter,
) -> list[Scores]:
    """Scores of what each program made of the originals; those after the first with how they differ from it."""
    where, shard = pick_shared_device(device)
    sources, missing, remarks = open_pairs(reference, reconstruction, size)
    modality = MODALITIES[sources[0].modality]
    asked = tuple(dict.fromkeys(metrics or modality.signal_metrics))
    require_use(asked, weights)
    build_metrics(asked, modality.name, weights)
    _require_no_tokens(asked, modality)
    rows = []
    labels = shorten_labels([pathlib.Path(path) for path in reconstruction])
    for source, path, label, remark in zip(sources, reconstruction, labels, remarks, strict=True):
        reporter.note(f"judging {label} on {reference}, {min(items or len(source), len(source))} items")
        scores = evaluate_candidate(
            FilesOfOthers(source, where),
            source,
            asked,
            items=items,
            examples=EXAMPLES,
            shard=shard,
            weights=weights,
            reporter=reporter,
        )
        title = Title(path, label, f"{modality.file_noun} of another program", reference, "given")
        protocol = scores.protocol | {"reconstruction": path, "torch": torch.__version__}
        told = [f"{failure.item} was left out: {failure.reason}" for failure in (*missing, *scores.failed)]
        told += [*scores.remarks, *([remark] if remark else [])]
        rows.append(replace(scores, title=title, protocol=protocol, remarks=told, failed=[*missing, *scores.failed]))
    return [rows[0], *(replace(row, comparison=compare_with(row, rows[0])) for row in rows[1:])]


def _require_no_tokens(asked: Sequence[str], modality: Modality) -> None:
    """Raises UsageError for metrics of tokens, of which files have none."""
    counting = [name for name in asked if METRICS[name].needs_tokens]
    if counting:
        choices = ", ".join(name for name in metrics_for(modality.name) if not METRICS[name].needs_tokens)
        raise UsageError(f"{', '.join(counting)} counts tokens, and files have none; expected some of: {choices}")


def _try_outputs(report: str | None, sheet: str | None) -> None:
    """Find out before the work whether its results can be written."""
    if report:
        try_output(pathlib.Path(report), (".html", ".htm"))
    if sheet:
        try_output(pathlib.Path(sheet), (".png",))


def _compare(
    entries: Sequence[_Entry],
    data: str | None,
    items: int | None,
    against: Sequence[str],
    show_examples: bool,
    reporter: Reporter,
) -> list[Scores]:
    """Scores of all models, then of the codecs at their rates; those after the first with how they differ from it."""
    codecs = build_codecs(list(against), entries[0].source.modality) if against else {}
    examples = entries[0].model.settings.sheet if show_examples else 0
    rows = [_evaluate(entry, data, items, examples, reporter) for entry in entries]
    rows += evaluate_codecs(codecs, rows, examples, reporter, entries[0].weights) if codecs else []
    return [rows[0], *(replace(row, comparison=compare_with(row, rows[0])) for row in rows[1:])]


def _open_entries(
    models: Sequence[str],
    metrics: Sequence[str] | None,
    weights: Weights,
    codebooks: Codebooks | None,
    groups: Codebooks | None,
    data: str | None,
    size: int | Literal["native"] | None,
    sample_rate: int | None,
    device: str,
    reporter: Reporter,
) -> list[_Entry]:
    """Every model with every codebook asked for, on its device, with its data."""
    where, _ = pick_shared_device(device)
    paths = find_models(models, [data] if data else [], reporter)
    choices = _choose_metrics(paths, metrics, weights)
    opened = []
    for path, (asked, files), name in zip(paths, choices, shorten_labels(paths), strict=True):
        for codebook in _list_codebooks(path, codebooks):
            whole = open_model(str(path), where, reporter, codebook)
            label = name + (f" · {codebook}" if codebook else "")
            opened.append((whole, asked, files, label))
    rate = sample_rate or _choose_rate([whole for whole, *_ in opened])
    entries = []
    for whole, asked, files, label in opened:
        source = _open_source(whole, data, size, rate)
        for count in whole.codec.prefixes if groups == "all" else groups or [None]:
            model = whole if count is None else whole.with_groups(count)
            counted = "" if count is None else f" · {count} group{'s' * (count != 1)}"
            entries.append(_Entry(model, _at_rate(model.codec, rate), *source, asked, files, label + counted))
    return entries


def _choose_rate(models: Sequence[Model]) -> int | None:
    """The sample rate that all are judged at: that of the first where another library ships one; None: each its own."""
    foreign = any(isinstance(model, PublishedModel) for model in models)
    return models[0].codec.sample_rate if foreign else None


def _at_rate(codec: Codec, sample_rate: int | None) -> Candidate:
    """The codec at this sample rate, resampled both ways where it is not its own. None, and images, leave it as it is.

    Raises UsageError where it has none.
    """
    if sample_rate in (None, codec.sample_rate):
        return codec
    if codec.sample_rate is None:
        raise UsageError("pictures and sounds cannot be judged together, and pictures have no --sample-rate")
    return Resampled(codec, sample_rate)


def _list_codebooks(path: pathlib.Path, codebooks: Codebooks | None) -> Sequence[int | None]:
    """The codebooks to judge a model with; None is the one in use."""
    if codebooks == "all":
        return list_codebooks(path) or [None]
    return codebooks or [None]


def _open_source(
    model: Model, data: str | None, size: int | Literal["native"] | None, sample_rate: int | None
) -> tuple[Source, str]:
    """What a model is evaluated on, and what that is called."""
    if data is None:
        return model.open_evaluation_source()
    return model.open_source([data], None if size == "native" else size or model.default_size, sample_rate), data


def pick_shared_device(name: str) -> tuple[torch.device, tuple[int, int]]:
    """This process's device, and which it is of how many that share the evaluation: those of `--processes`, joined."""
    device = pick_device(name)
    processes = PartialState(cpu=device.type == "cpu")
    if processes.num_processes > 1:
        device = processes.device or device
    return device, (processes.process_index, processes.num_processes)


def _require_same_data(sources: Sequence[Source]) -> None:
    """Raises UsageError where models that are to share a page would be evaluated on different data."""
    if not all(_same_data(sources[0], source) for source in sources):
        raise UsageError(
            "these models would be judged on different data, so they cannot share a report, a sheet or a codec; "
            "name what all of them are judged on: --data FOLDER --size N"
        )


def _same_data(first: Source, second: Source) -> bool:
    """Whether two sources give the same signals under the same names."""
    named = (first.modality, first.sample_rate) == (second.modality, second.sample_rate)
    return named and list(first.names) == list(second.names) and dict(first.protocol()) == dict(second.protocol())


def _choose_metrics(
    paths: Sequence[pathlib.Path], metrics: Sequence[str] | None, weights: Weights
) -> list[tuple[Sequence[str], Weights]]:
    """The names of what judges each model, with local files of weights.

    Raises TokError, before a model is loaded, where some are not to be had.
    """
    settings = [read_settings(path) for path in paths]
    names = [tuple(dict.fromkeys(metrics or own.metrics)) for own, _ in settings]
    modalities: list[ModalityName] = [modality for _, modality in settings]
    files = [{**own.weights, **weights} for own, _ in settings]
    tried: list[object] = []
    for choice in zip(names, modalities, files, strict=True):
        require_use(choice[0], weights)
        if choice not in tried:
            build_metrics(*choice)
            tried.append(choice)
    return list(zip(names, files, strict=True))


def _evaluate(entry: _Entry, data: str | None, items: int | None, examples: int, reporter: Reporter) -> Scores:
    """One model's scores, with what a careful reader should be told of them."""
    model, source = entry.model, entry.source
    limit = items if items is not None or data else model.settings.items
    title = Title(
        model=model.name,
        label=entry.label,
        summary=model.summary,
        data=entry.data,
        split="given" if data else "evaluation data of the recipe",
    )
    count = min(limit or len(source), len(source))
    reporter.note(f"judging {title.label} on {title.data} ({title.split}), {count} items")
    scores = evaluate_candidate(
        entry.candidate,
        source,
        entry.metrics,
        rates=True,
        items=limit,
        batch_size=model.settings.batch_size,
        examples=examples,
        shard=(rank(), world_size()),
        weights=entry.weights,
        reporter=reporter,
    )
    remarks = [f"{failure.item} was left out: {failure.reason}" for failure in scores.failed]
    remarks += scores.remarks
    uneven = remark_on_use(scores, model.advice, model.steps)
    remarks += [uneven] if uneven else []
    protocol = scores.protocol | model.protocol() | {"torch": torch.__version__}
    if isinstance(entry.candidate, Resampled):
        protocol |= {"resampled": entry.candidate.protocol()}
    return replace(scores, title=title, protocol=protocol, remarks=remarks)
