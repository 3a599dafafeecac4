"""`tok evaluate`: one tokenizer or several, judged by the same measures on the same data."""

import os
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from tokcli.artifacts import load_artifact
from tokcli.codecs import build_codecs
from tokcli.data.media import MEDIA
from tokcli.errors import UsageError
from tokcli.judging import Judgement, judge
from tokcli.metrics import RATES, build_metrics
from tokcli.progress import SILENT, Reporter
from tokcli.recipe.build import build_evaluation_source
from tokcli.types import Source
from tokcli.workflows.against import evaluate_codecs
from tokcli.workflows.devices import pick_device
from tokcli.workflows.evaluation import Evaluation, remarks_on
from tokcli.workflows.models import Model, find_model, judged_size, open_model
from tokcli.workflows.report import save_report

Codebooks = Sequence[int] | Literal["all"]


@dataclass(frozen=True)
class _Entrant:
    """A model that is about to be judged, on what, and what its row is called."""

    model: Model
    source: Source
    label: str


def evaluate(
    models: Sequence[str] = (),
    *,
    data: str | None = None,
    metrics: Sequence[str] | None = None,
    codebooks: Codebooks | None = None,
    size: int | None = None,
    items: int | None = None,
    against: Sequence[str] = (),
    sheet: str | None = None,
    report: str | None = None,
    report_items: int = 12,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> list[Evaluation]:
    """Judge each of `models` (none: the one that would be found without a name).

    data: a folder, file or list; None takes each recipe's evaluation data. codebooks: each model is judged with each
    of these; "all" takes every one that it has built. size: that `data` is resized and cropped to; None takes the
    recipe's. against: codecs to judge beside the models, at their rates. sheet: a PNG of originals over the first
    model's reconstructions. report: an HTML page about all of it, with `report_items` items.
    Raises TokError before anything is computed where a model, the data or a metric is not to be had, or where models
    that are to share a page would be judged on different data.
    """
    if size is not None and data is None:
        raise UsageError("--size goes with --data; the recipe's evaluation data has its own size")
    where = pick_device(device)
    entrants = []
    for path in [find_model(name) for name in models or [None]]:
        for codebook in _codebooks_of(path, codebooks):
            model = open_model(str(path), where, reporter, codebook)
            label = _label(path) + (f" · {codebook}" if codebook else "")
            entrants.append(_Entrant(model, _source(model, data, size), label))
    same = all(_same_data(entrants[0].source, entrant.source) for entrant in entrants)
    if not same and (report or against):
        raise UsageError(
            "these models would be judged on different data, so they cannot share a report or a codec; "
            "name what all of them are judged on: --data FOLDER --size N"
        )
    codecs = build_codecs(list(against), entrants[0].model.artifact.tokenizer.modality)
    judges = [_metrics_of(entrant, metrics) for entrant in entrants]
    results = []
    for entrant, names in zip(entrants, judges, strict=True):
        results.append(_evaluate(entrant, names, data, items, None if results else sheet, reporter))
    results += evaluate_codecs(codecs, results, reporter)
    if report:
        save_report(pathlib.Path(report), results, report_items, reporter)
    return results


def _codebooks_of(path: pathlib.Path, codebooks: Codebooks | None) -> Sequence[int | None]:
    """The codebooks to judge a model with; None is the one in use."""
    if codebooks == "all":
        return [built.size for built in load_artifact(path).codebooks] or [None]
    return codebooks or [None]


def _label(path: pathlib.Path) -> str:
    return str(path.parent if path.name == "tokenizer.safetensors" and path.parent.name else path)


def _source(model: Model, data: str | None, size: int | None) -> Source:
    recipe, tokenizer = model.artifact.recipe, model.artifact.tokenizer
    if data is None:
        return build_evaluation_source(recipe, tokenizer.modality)
    medium = MEDIA[tokenizer.modality]
    return medium.source(
        medium.find([data]), size or medium.usual_size(judged_size(recipe)), tokenizer.autoencoder.sample_rate
    )


def _same_data(first: Source, second: Source) -> bool:
    """Whether two sources give the same signals under the same names."""
    named = (first.modality, first.sample_rate) == (second.modality, second.sample_rate)
    return named and list(first.names) == list(second.names) and dict(first.protocol()) == dict(second.protocol())


def _metrics_of(entrant: _Entrant, metrics: Sequence[str] | None) -> list[str]:
    """The names of what judges a model. Raises TokError where one of them is not to be had."""
    names = list(dict.fromkeys(metrics or entrant.model.artifact.recipe.evaluation.metrics))
    build_metrics(names, entrant.model.artifact.tokenizer.modality)
    return names


def _evaluate(
    entrant: _Entrant,
    names: Sequence[str],
    data: str | None,
    items: int | None,
    sheet: str | None,
    reporter: Reporter,
) -> Evaluation:
    model, source = entrant.model, entrant.source
    recipe, tokenizer = model.artifact.recipe, model.artifact.tokenizer
    rates = RATES[tokenizer.modality]
    judges = build_metrics(list(dict.fromkeys([*names, *rates])), tokenizer.modality)
    described = data or str(recipe.eval_data.get("path", recipe.eval_data["kind"]))
    split = "given" if data else "evaluation data of the recipe"
    limit = items if items is not None or data else recipe.evaluation.items
    count = min(limit or len(source), len(source))
    reporter.note(f"judging {entrant.label} on {described} ({split}), {count} items")
    judgement = judge(
        tokenizer,
        source,
        judges,
        items=limit,
        batch_size=recipe.evaluation.batch_size,
        examples=recipe.evaluation.sheet if sheet else 0,
        reporter=reporter,
    )
    if sheet:
        _save_sheet(pathlib.Path(sheet), judgement, model)
    quantizer = tokenizer.quantizer
    return Evaluation(
        model=str(model.path),
        label=entrant.label,
        summary=f"{recipe.quantizer['kind']}, {quantizer.codebook_size} codes" + _in_groups(quantizer.groups),
        codec=None,
        data=described,
        split=split,
        metric_names=names,
        rate_names=rates,
        judgement=judgement,
        counts=judges[rates[0]].state.get("counts"),
        notes={"weights": model.artifact.weights, "torch": torch.__version__},
        remarks=[f"{failure.item} was left out: {failure.reason}" for failure in judgement.failed]
        + remarks_on(judgement, names, tokenizer.modality),
        judged=tokenizer,
        source=source,
        limit=limit,
    )


def _in_groups(groups: int) -> str:
    return f" in {groups} groups" if groups > 1 else ""


def _save_sheet(path: pathlib.Path, judgement: Judgement, model: Model) -> None:
    medium = MEDIA[model.artifact.tokenizer.modality]
    picture = medium.sheet(
        [example.reference for example in judgement.examples],
        [example.reconstruction for example in judgement.examples],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    picture.save(temporary, format="PNG")
    os.replace(temporary, path)
