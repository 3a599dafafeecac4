"""`tok evaluate`: one tokenizer or several, judged by the same measures on the same data."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tokcli.data.items import Failure
from tokcli.data.media import MEDIA
from tokcli.errors import UsageError
from tokcli.judging import Judgement, json_figures, judge
from tokcli.metrics import build_metrics
from tokcli.progress import SILENT, Reporter
from tokcli.recipe.build import build_evaluation_source
from tokcli.types import Source
from tokcli.workflows.devices import pick_device
from tokcli.workflows.models import Model, find_model, judged_size, open_model

LOW_CVU = {"image": 0.3, "audio": 0.02}
"""Below these a codebook is worth a look. Speech repeats itself: good speech tokenizers stay under .15."""


@dataclass(frozen=True)
class Evaluation:
    """The figures of one tokenizer. data: what it was judged on. split: where that came from."""

    model: pathlib.Path
    data: str
    split: str
    items: int
    failed: Sequence[Failure]
    metrics: dict[str, float | None]
    protocol: dict[str, Any]
    remarks: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "model": str(self.model),
            "data": self.data,
            "split": self.split,
            "items": self.items,
            "failed": [dataclasses.asdict(failure) for failure in self.failed],
            "metrics": self.metrics,
            "protocol": self.protocol,
        }


def evaluate(
    models: Sequence[str] = (),
    *,
    data: str | None = None,
    metrics: Sequence[str] | None = None,
    codebook: int | None = None,
    size: int | None = None,
    items: int | None = None,
    sheet: str | None = None,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> list[Evaluation]:
    """Judge each of `models` (none: the one that would be found without a name).

    data: a folder, file or list; None takes each recipe's evaluation data. size: that `data` is resized and cropped
    to; None takes the recipe's. sheet: a PNG of originals over the first model's reconstructions.
    Raises TokError before anything is computed where a model, the data or a metric is not to be had.
    """
    if size is not None and data is None:
        raise UsageError("--size goes with --data; the recipe's evaluation data has its own size")
    paths = [find_model(name) for name in models or [None]]
    where = pick_device(device)
    results = []
    for path in paths:
        model = open_model(str(path), where, reporter, codebook)
        results.append(_evaluate(model, data, metrics, size, items, sheet if not results else None, reporter))
    return results


def _evaluate(
    model: Model,
    data: str | None,
    metrics: Sequence[str] | None,
    size: int | None,
    items: int | None,
    sheet: str | None,
    reporter: Reporter,
) -> Evaluation:
    recipe, tokenizer = model.artifact.recipe, model.artifact.tokenizer
    judges = build_metrics(list(metrics or recipe.evaluation.metrics), tokenizer.modality)
    source = _source(model, data, size)
    described = data or str(recipe.eval_data.get("path", recipe.eval_data["kind"]))
    split = "given" if data else "evaluation data of the recipe"
    reporter.note(f"judging on {described} ({split}), {len(source)} items")
    judgement = judge(
        tokenizer,
        source,
        judges,
        items=items if items is not None or data else recipe.evaluation.items,
        batch_size=recipe.evaluation.batch_size,
        examples=recipe.evaluation.sheet if sheet else 0,
        reporter=reporter,
    )
    if sheet:
        _save_sheet(pathlib.Path(sheet), judgement, model)
    return Evaluation(
        model=model.path,
        data=described,
        split=split,
        items=judgement.items,
        failed=judgement.failed,
        metrics=json_figures(judgement.metrics),
        protocol=judgement.protocol | {"weights": model.artifact.weights, "torch": torch.__version__},
        remarks=remarks_on(judgement, tokenizer.modality),
    )


def _source(model: Model, data: str | None, size: int | None) -> Source:
    recipe, tokenizer = model.artifact.recipe, model.artifact.tokenizer
    if data is None:
        return build_evaluation_source(recipe, tokenizer.modality)
    medium = MEDIA[tokenizer.modality]
    return medium.source(
        medium.find([data]), size or medium.usual_size(judged_size(recipe)), tokenizer.autoencoder.sample_rate
    )


def remarks_on(judgement: Judgement, modality: str) -> list[str]:
    """What a careful reader of the figures should be told."""
    remarks = [f"{failure.item} was left out: {failure.reason}" for failure in judgement.failed]
    remarks += [
        f"{name}: {count} items could not be scored and are left out" for name, count in judgement.unscored.items()
    ]
    counted = [part for part in judgement.protocol["metrics"].values() if part.get("undersampled")]
    if counted:
        remarks.append(
            f"{counted[0]['tokens']} tokens are fewer than 10 for each of {counted[0]['codebook_size']} codes: "
            "usage, perplexity and cvu are too low"
        )
    cvu = judgement.metrics.get("cvu")
    if cvu is not None and cvu < LOW_CVU[modality] and not counted:
        remarks.append(
            f"cvu {cvu:.3g} is low: fewer codes, or a quantizer that fits its latents (fsp, vpvae), use more"
        )
    return remarks


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
