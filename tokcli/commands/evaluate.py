"""`tok evaluate`: one tokenizer or several, evaluated by the same metrics on the same data."""

import pathlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from accelerate import PartialState

from tokcli.codecs import build_codecs
from tokcli.commands.evaluation_entries import (
    Codebooks,
    Entry,
    choose_limit,
    choose_title,
    compile_entries,
    describe_scores,
    open_entries,
    require_same_data,
)
from tokcli.data.modality import MODALITIES, Modality
from tokcli.distributed import first_process, rank, world_size
from tokcli.errors import UsageError
from tokcli.evaluation.codecs import evaluate_codecs
from tokcli.evaluation.compare import compare_all
from tokcli.evaluation.pairs import FilesOfOthers, open_pairs
from tokcli.evaluation.report.build import save_sheet
from tokcli.evaluation.report.page import save_report
from tokcli.evaluation.run import Scores, Title
from tokcli.evaluation.run import evaluate as evaluate_candidate
from tokcli.files import try_output
from tokcli.metrics import METRICS, Weights, build_metrics, metrics_for
from tokcli.metrics.weights import require_use
from tokcli.models import pick_device, shorten_labels
from tokcli.progress import SILENT, Reporter

EXAMPLES = 8
"""Items of a sheet where no recipe says how many."""


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
    compiled: bool = False,
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
        compiled: Compile the networks first, and say how many tokens of the first items are others by that.
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
    try_pages(report, sheet)
    if reference is not None or reconstruction:
        named = {"a model": models, "--data": data, "--codebook": codebooks, "--groups": groups, "--against": against}
        _require_pairs(reference, reconstruction, [name for name, value in named.items() if value])
        assert reference is not None
        whole = None if size == "native" else size
        rows = _evaluate_files(reference, reconstruction, metrics, weights or {}, whole, items, device, reporter)
        return save_pages(rows, sheet, report, report_items, report_budget, reporter)
    require_data(data, size, sample_rate)
    where, _ = pick_shared_device(device)
    entries = open_entries(models, metrics, weights or {}, codebooks, groups, data, size, sample_rate, where, reporter)
    if compiled:
        compile_entries(entries, reporter)
    if report or against or sheet:
        require_same_data([entry.source for entry in entries])
    rows = _compare(entries, data, items, against, bool(sheet), reporter)
    return save_pages(rows, sheet, report, report_items, report_budget, reporter)


def require_data(data: str | None, size: object, sample_rate: int | None) -> None:
    """Raises UsageError for what changes data that nobody named."""
    if size is not None and data is None:
        raise UsageError("--size goes with --data; the recipe's evaluation data has its own size")
    if sample_rate is not None and data is None:
        raise UsageError("--sample-rate goes with --data; the recipe's evaluation data has its own")


def save_pages(
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
    return compare_all(rows)


def _require_no_tokens(asked: Sequence[str], modality: Modality) -> None:
    """Raises UsageError for metrics of tokens, of which files have none."""
    counting = [name for name in asked if METRICS[name].needs_tokens]
    if counting:
        choices = ", ".join(name for name in metrics_for(modality.name) if not METRICS[name].needs_tokens)
        raise UsageError(f"{', '.join(counting)} counts tokens, and files have none; expected some of: {choices}")


def try_pages(report: str | None, sheet: str | None) -> None:
    """Find out before the work whether its results can be written."""
    if report:
        try_output(pathlib.Path(report), (".html", ".htm"))
    if sheet:
        try_output(pathlib.Path(sheet), (".png",))


def _compare(
    entries: Sequence[Entry],
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
    return compare_all(rows)


def pick_shared_device(name: str) -> tuple[torch.device, tuple[int, int]]:
    """This process's device, and which it is of how many that share the evaluation: those of `--processes`, joined."""
    device = pick_device(name)
    processes = PartialState(cpu=device.type == "cpu")
    if processes.num_processes > 1:
        device = processes.device or device
    return device, (processes.process_index, processes.num_processes)


def _evaluate(entry: Entry, data: str | None, items: int | None, examples: int, reporter: Reporter) -> Scores:
    """One model's scores."""
    title, limit = choose_title(entry, data), choose_limit(entry, data, items)
    reporter.note(f"judging {title.label} on {title.data} ({title.split}), {limit} items")
    scores = evaluate_candidate(
        entry.candidate,
        entry.source,
        entry.metrics,
        rates=True,
        items=limit,
        batch_size=entry.model.settings.batch_size,
        examples=examples,
        shard=(rank(), world_size()),
        weights=entry.weights,
        reporter=reporter,
    )
    return describe_scores(entry, scores, title)
