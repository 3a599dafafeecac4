"""Models that are about to be evaluated: each with its data, its metrics and what its row is called."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from tokcli.contracts import Candidate, Codec, ModalityName, Source
from tokcli.errors import UsageError
from tokcli.evaluation.resampled import Resampled
from tokcli.evaluation.run import Scores, Title, remark_on_use
from tokcli.metrics import Weights, build_metrics
from tokcli.metrics.weights import require_use
from tokcli.models import (
    Model,
    PublishedModel,
    TrainedModel,
    compile_and_compare,
    find_models,
    list_codebooks,
    open_model,
    read_settings,
    shorten_labels,
)
from tokcli.progress import Reporter

Codebooks = Sequence[int] | Literal["all"]


@dataclass(frozen=True)
class Entry:
    """A model that is about to be evaluated, on what, by what, and what its row is called."""

    model: Model
    candidate: Candidate
    source: Source
    data: str
    metrics: Sequence[str]
    weights: Weights
    label: str


def open_entries(
    models: Sequence[str],
    metrics: Sequence[str] | None,
    weights: Weights,
    codebooks: Codebooks | None,
    groups: Codebooks | None,
    data: str | None,
    size: int | Literal["native"] | None,
    sample_rate: int | None,
    where: torch.device,
    reporter: Reporter,
) -> list[Entry]:
    """Every model with every codebook and every number of groups asked for, on its device, with its data.

    Raises:
        TokError: where one, its data or a metric is not to be had.
    """
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
            entries.append(Entry(model, _at_rate(model.codec, rate), *source, asked, files, label + counted))
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


def require_same_data(sources: Sequence[Source]) -> None:
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


def compile_entries(entries: Sequence[Entry], reporter: Reporter) -> None:
    """Compile every network once, whatever the number of its codebooks and groups. Raises UsageError."""
    networks: set[int] = set()
    for entry in entries:
        network = id(entry.model.codec.autoencoder if isinstance(entry.model, TrainedModel) else entry.model.codec)
        if network not in networks:
            compile_and_compare(entry.model, entry.source, reporter)
            networks.add(network)


def choose_limit(entry: Entry, data: str | None, items: int | None) -> int:
    """How many items a model is evaluated on: so many as were asked for, else as its recipe says of its own data."""
    limit = items if items is not None or data else entry.model.settings.items
    return min(limit or len(entry.source), len(entry.source))


def choose_title(entry: Entry, data: str | None) -> Title:
    """What a model's row is called; `data` is what was named for all."""
    return Title(
        model=entry.model.name,
        label=entry.label,
        summary=entry.model.summary,
        data=entry.data,
        split="given" if data else "evaluation data of the recipe",
    )


def describe_scores(entry: Entry, scores: Scores, title: Title) -> Scores:
    """A model's scores with what a careful reader should be told of them."""
    model = entry.model
    remarks = [f"{failure.item} was left out: {failure.reason}" for failure in scores.failed]
    remarks += scores.remarks
    uneven = remark_on_use(scores, model.advice, model.steps)
    remarks += [uneven] if uneven else []
    protocol = scores.protocol | model.protocol() | {"torch": torch.__version__}
    if isinstance(entry.candidate, Resampled):
        protocol |= {"resampled": entry.candidate.protocol()}
    return replace(scores, title=title, protocol=protocol, remarks=remarks)
