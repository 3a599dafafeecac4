"""`tok evaluate`: one tokenizer or several, judged by the same measures on the same data."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from tokcli.artifacts import load_artifact, read_recipe
from tokcli.autoencoders import AUTOENCODERS
from tokcli.codecs import build_codecs
from tokcli.contracts import Source
from tokcli.data.modality import MODALITIES
from tokcli.errors import UsageError
from tokcli.evaluation.codecs import evaluate_codecs
from tokcli.evaluation.report.build import save_report
from tokcli.evaluation.run import judge
from tokcli.evaluation.scores import Evaluation, remarks_on, remarks_on_use, with_differences
from tokcli.evaluation.sheet import save_sheet
from tokcli.metrics import build_metrics
from tokcli.models import Model, find_models, open_model, pick_device, short_labels
from tokcli.progress import SILENT, Reporter
from tokcli.recipe.build import build_evaluation_source

Codebooks = Sequence[int] | Literal["all"]


@dataclass(frozen=True)
class _Entrant:
    """A model that is about to be judged, on what, by what, and what its row is called."""

    model: Model
    source: Source
    metrics: Sequence[str]
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
    recipe's. against: codecs to judge beside the models, at their rates. sheet: a PNG of originals over all
    reconstructions. report: an HTML page about all of it, with `report_items` items.
    Of several, those after the first carry their differences to it.
    Raises TokError before anything is loaded where a model or a metric is not to be had, and before anything is
    computed where the data is not, or where models that are to share a page would be judged on different data.
    """
    if size is not None and data is None:
        raise UsageError("--size goes with --data; the recipe's evaluation data has its own size")
    where = pick_device(device)
    paths = find_models(models)
    judges = _metrics_of(paths, metrics)
    entrants = []
    for path, names, name in zip(paths, judges, short_labels(paths), strict=True):
        for codebook in _codebooks_of(path, codebooks):
            model = open_model(str(path), where, reporter, codebook)
            label = name + (f" · {codebook}" if codebook else "")
            entrants.append(_Entrant(model, _source(model, data, size), names, label))
    same = all(_same_data(entrants[0].source, entrant.source) for entrant in entrants)
    if not same and (report or against or sheet):
        raise UsageError(
            "these models would be judged on different data, so they cannot share a report, a sheet or a codec; "
            "name what all of them are judged on: --data FOLDER --size N"
        )
    codecs = build_codecs(list(against), entrants[0].model.artifact.tokenizer.modality)
    shown = entrants[0].model.artifact.recipe.evaluation.sheet if sheet else 0
    results = [_evaluate(entrant, data, items, shown, reporter) for entrant in entrants]
    results = with_differences(results + evaluate_codecs(codecs, results, shown, reporter))
    if sheet:
        save_sheet(pathlib.Path(sheet), results)
    if report:
        save_report(pathlib.Path(report), results, report_items, reporter)
    return results


def _codebooks_of(path: pathlib.Path, codebooks: Codebooks | None) -> Sequence[int | None]:
    """The codebooks to judge a model with; None is the one in use."""
    if codebooks == "all":
        return [built.size for built in load_artifact(path).codebooks] or [None]
    return codebooks or [None]


def _source(model: Model, data: str | None, size: int | None) -> Source:
    recipe, tokenizer = model.artifact.recipe, model.artifact.tokenizer
    if data is None:
        return build_evaluation_source(recipe, tokenizer.modality, way_on="judge on other data with --data FOLDER")
    return model.open_source([data], size or model.default_size)


def _same_data(first: Source, second: Source) -> bool:
    """Whether two sources give the same signals under the same names."""
    named = (first.modality, first.sample_rate) == (second.modality, second.sample_rate)
    return named and list(first.names) == list(second.names) and dict(first.protocol()) == dict(second.protocol())


def _metrics_of(paths: Sequence[pathlib.Path], metrics: Sequence[str] | None) -> list[Sequence[str]]:
    """The names of what judges each model. Raises TokError, before one is loaded, where some are not to be had."""
    recipes = [read_recipe(path) for path in paths]
    names = [tuple(dict.fromkeys(metrics or recipe.evaluation.metrics)) for recipe in recipes]
    modalities = [AUTOENCODERS[recipe.autoencoder["kind"]].modality for recipe in recipes]
    for wanted, modality in dict.fromkeys(zip(names, modalities, strict=True)):
        build_metrics(wanted, modality)
    return names


def _evaluate(entrant: _Entrant, data: str | None, items: int | None, examples: int, reporter: Reporter) -> Evaluation:
    model, source, names = entrant.model, entrant.source, entrant.metrics
    recipe, tokenizer = model.artifact.recipe, model.artifact.tokenizer
    rates = MODALITIES[tokenizer.modality].rate_metrics
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
        examples=examples,
        reporter=reporter,
    )
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
        counts=judges[rates[0]].counts,
        notes={"weights": model.artifact.weights, "torch": torch.__version__},
        remarks=[f"{failure.item} was left out: {failure.reason}" for failure in judgement.failed]
        + remarks_on(judgement, names)
        + remarks_on_use(judgement, tokenizer.modality, recipe.quantizer, model.artifact.training.get("steps")),
        judged=tokenizer,
        source=source,
        limit=limit,
    )


def _in_groups(groups: int) -> str:
    return f" in {groups} groups" if groups > 1 else ""
