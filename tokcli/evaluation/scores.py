"""The result of judging one thing: figures, what they depend on, and what a careful reader should be told."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from tokcli.contracts import ModalityName, Source
from tokcli.data.items import Failure
from tokcli.data.modality import MODALITIES
from tokcli.evaluation.run import CONFIDENCE, COVERS, Difference, Judged, Judgement, json_figures, paired_difference
from tokcli.metrics import METRICS

EARLY = 200
"""A run of fewer steps is a trial, whose codebook says little."""

NAMED = 5
"""Unscored items that a remark names; the JSON names all."""


@dataclass(frozen=True)
class Evaluation:
    """The figures of one tokenizer, or of one codec held against tokenizers.

    model: the artifact, or the codec's name. label: of its row. summary: what it is, in a few words.
    codec: its setting and what it was matched to; None for a tokenizer.
    data: what it was judged on. split: where that came from. metric_names: what was asked for; the judgement may hold
    more. rate_names: under which the judgement holds a tokenizer's rate. counts: of tokens, (groups, codes).
    notes: joins the protocol. judged, source, limit: to do it again for a few items.
    compared_to: the label of the first of several, for the others. differences: to that one, by metric.
    """

    model: str
    label: str
    summary: str
    codec: Mapping[str, Any] | None
    data: str
    split: str
    metric_names: Sequence[str]
    rate_names: Sequence[str]
    judgement: Judgement
    counts: Tensor | None
    notes: Mapping[str, Any]
    remarks: Sequence[str]
    judged: Judged
    source: Source
    limit: int | None
    compared_to: str | None = None
    differences: Mapping[str, Difference] = field(default_factory=dict)

    @property
    def items(self) -> int:
        """Signals judged."""
        return self.judgement.items

    @property
    def failed(self) -> Sequence[Failure]:
        """Items that could not be read."""
        return self.judgement.failed

    @property
    def metrics(self) -> dict[str, float | None]:
        """The figures that were asked for; None where nothing could be scored."""
        return json_figures({name: self.judgement.metrics[name] for name in self.metric_names})

    @property
    def rate(self) -> dict[str, float | None]:
        """What the signal costs: packed and empirical for tokens, with and without headers for a codec."""
        if self.codec is not None:
            return dict(self.codec["rate"])
        return json_figures({name: self.judgement.metrics[name] for name in self.rate_names})

    @property
    def unscored(self) -> dict[str, dict[str, Any]]:
        """By metric: how many items it could not judge, and their names where it judges them one by one."""
        counted = self.judgement.unscored.items()
        return {
            name: {"count": count, "items": self.judgement.unscored_items(name)}
            for name, count in counted
            if name in self.metric_names
        }

    @property
    def protocol(self) -> dict[str, Any]:
        """The choices that the figures depend on."""
        return self.judgement.protocol | dict(self.notes)

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        plain = {
            "model": self.model,
            "label": self.label,
            "data": self.data,
            "split": self.split,
            "items": self.items,
            "failed": [dataclasses.asdict(failure) for failure in self.failed],
            "metrics": self.metrics,
            "rate": self.rate,
            "unscored": self.unscored,
            "protocol": self.protocol,
            "item_scores": self._item_scores(),
        }
        if self.compared_to is not None:
            plain["difference"] = self._difference()
        return plain if self.codec is None else plain | {"codec": dict(self.codec)}

    def _item_scores(self) -> list[dict[str, Any]]:
        """Every item with its score by each metric that judges items; None where there is none."""
        scores = {
            name: self.judgement.scores[name].tolist() for name in self.metric_names if name in self.judgement.scores
        }
        rows = zip(*scores.values(), strict=True) if scores else [()] * self.items
        return [
            {"item": item} | json_figures(dict(zip(scores, row, strict=True)))
            for item, row in zip(self.judgement.names, rows, strict=True)
        ]

    def _difference(self) -> dict[str, Any]:
        metrics = {name: dataclasses.asdict(difference) for name, difference in self.differences.items()}
        return {"to": self.compared_to, "confidence": CONFIDENCE, "covers": COVERS, "metrics": metrics}


def with_differences(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The same; those after the first that judged the very same signals know how they differ from the first."""
    first, *others = evaluations
    return [first, *(_compared(each, first) for each in others)]


def _compared(evaluation: Evaluation, first: Evaluation) -> Evaluation:
    own, other = evaluation.judgement, first.judgement
    if own.protocol["dataset_sha256"] != other.protocol["dataset_sha256"]:
        return evaluation
    names = [name for name in evaluation.metric_names if name in own.scores and name in other.scores]
    found = {name: paired_difference(own.scores[name], other.scores[name]) for name in names}
    return dataclasses.replace(evaluation, compared_to=first.label, differences=found)


def higher_is_better(name: str) -> bool | None:
    """Whether more of the metric `name` is better; None where neither is."""
    return METRICS[name].higher_is_better


def remarks_on(judgement: Judgement, names: Sequence[str]) -> list[str]:
    """What a careful reader of the figures called `names` should be told."""
    remarks = [_unscored_remark(judgement, name) for name in judgement.unscored if name in names]
    protocols = [judgement.protocol["metrics"][name] for name in names]
    counted = [protocol for protocol in protocols if protocol.get("undersampled") and "codebook_size" in protocol]
    if counted:
        remarks.append(
            f"{counted[0]['tokens']} tokens are fewer than 10 for each of {counted[0]['codebook_size']} codes: "
            "usage, perplexity and cvu are too low"
        )
    return remarks


def remarks_on_use(
    judgement: Judgement, modality: ModalityName, quantizer: Mapping[str, Any], steps: int | None
) -> list[str]:
    """What to know and to do where few of a codebook's codes do the work.

    quantizer: its node of the recipe. steps: that were trained; None where unknown.
    """
    cvu = judgement.metrics.get("cvu")
    protocol = judgement.protocol["metrics"].get("cvu", {})
    if (
        cvu is None
        or not cvu < MODALITIES[modality].low_cvu
        or protocol["undersampled"]
        or (steps is not None and steps < EARLY)
    ):
        return []
    codes = protocol["codebook_size"]
    return [
        f"cvu, perplexity as a share of the codes, is {cvu:.3g}: used evenly, {cvu * codes:.0f} of the {codes} codes "
        f"would do the same work; {_remedy(quantizer)}"
    ]


def _remedy(quantizer: Mapping[str, Any]) -> str:
    wanted = {"ema": "quantizer.ema=true", "restart_below": "quantizer.restart_below=0.5"}
    lacking = [override for option, override in wanted.items() if not quantizer.get(option)]
    if quantizer["kind"] == "vq" and lacking:
        return f"train with {' '.join(lacking)}"
    if quantizer["kind"] == "vpvae":
        return "build a smaller codebook: tok build-codebook --size"
    return "train with a smaller codebook, or with VP-VAE (kind: vpvae)"


def _unscored_remark(judgement: Judgement, name: str) -> str:
    items = judgement.unscored_items(name)
    shown = ", ".join(items[:NAMED]) + (", …" if len(items) > NAMED else "")
    listed = f" ({shown})" if items else ""
    count = judgement.unscored[name]
    return f"{name}: {count} item{'s' * (count != 1)} could not be scored and left out of the mean{listed}"
