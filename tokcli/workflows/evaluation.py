"""The result of judging one thing: figures, what they depend on, and what a careful reader should be told."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tokcli.data.items import Failure
from tokcli.judging import Judged, Judgement, json_figures
from tokcli.types import Source

LOW_CVU = {"image": 0.3, "audio": 0.02}
"""Below these a codebook is worth a look. Speech repeats itself: good speech tokenizers stay under .15."""

NAMED = 5
"""Unscored items that a remark names; the JSON names all."""


@dataclass(frozen=True)
class Evaluation:
    """The figures of one tokenizer, or of one codec held against tokenizers.

    model: the artifact, or the codec's name. label: of its row, unique. summary: what it is, in a few words.
    codec: its setting and what it was matched to; None for a tokenizer.
    data: what it was judged on. split: where that came from. metric_names: what was asked for; the judgement may hold
    more. rate_names: under which the judgement holds a tokenizer's rate. counts: of tokens, (groups, codes).
    notes: joins the protocol. judged, source, limit: to do it again for a few items.
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
            "data": self.data,
            "split": self.split,
            "items": self.items,
            "failed": [dataclasses.asdict(failure) for failure in self.failed],
            "metrics": self.metrics,
            "rate": self.rate,
            "unscored": self.unscored,
            "protocol": self.protocol,
        }
        return plain if self.codec is None else plain | {"codec": dict(self.codec)}


def remarks_on(judgement: Judgement, names: Sequence[str], modality: str) -> list[str]:
    """What a careful reader of the figures called `names` should be told."""
    remarks = [_unscored_remark(judgement, name) for name in judgement.unscored if name in names]
    protocols = [judgement.protocol["metrics"][name] for name in names]
    counted = [protocol for protocol in protocols if protocol.get("undersampled") and "codebook_size" in protocol]
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


def _unscored_remark(judgement: Judgement, name: str) -> str:
    items = judgement.unscored_items(name)
    shown = ", ".join(items[:NAMED]) + (", …" if len(items) > NAMED else "")
    listed = f" ({shown})" if items else ""
    count = judgement.unscored[name]
    return f"{name}: {count} item{'s' * (count != 1)} could not be scored and left out of the mean{listed}"
