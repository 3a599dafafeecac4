"""Classical codecs beside the models: each at the setting whose files cost what a model's tokens cost."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from tokcli.codecs import Codec
from tokcli.codecs.base import CodedTrip
from tokcli.codecs.matching import matching_setting
from tokcli.contracts import Item, Source
from tokcli.data.items import read_items
from tokcli.data.modality import MODALITIES
from tokcli.evaluation.run import judge
from tokcli.evaluation.scores import Evaluation, remarks_on
from tokcli.metrics import METRICS, build_metrics
from tokcli.progress import Reporter

SEARCHED_ITEMS = 128
"""Items that a setting is searched on, evenly spread; the figures are then over the whole set."""

SAME_RATE = 0.02
"""Models whose rates differ by less, relative, share a row of each codec."""

FAR = 0.1
"""A row further than this from its target, relative, says so."""

HEADERS_COUNT = 0.2
"""A row whose files are headers to this part says so."""


def evaluate_codecs(
    codecs: Mapping[str, Codec], models: Sequence[Evaluation], examples: int, reporter: Reporter
) -> list[Evaluation]:
    """A row for each codec and each distinct packed rate of `models`, which were judged on the same data.

    examples: items that each keeps to be looked at.
    """
    if not codecs:
        return []
    source, limit = models[0].source, models[0].limit
    rows = []
    for name, codec in codecs.items():
        sample = _sample(source, limit, codec.searched_samples)
        rate = MODALITIES[source.modality].rate
        found: dict[int, list[str]] = {}
        targets: dict[int, float] = {}
        for target, matched in _targets(models).items():
            setting = matching_setting(codec, sample, target, rate, source.sample_rate)
            found.setdefault(setting, []).extend(matched)
            targets[setting] = target
        for setting, matched in found.items():
            reporter.note(f"judging {name} at {codec.setting_name(setting)}, to cost what the tokens cost")
            rows.append(_evaluate_codec(name, codec, setting, targets[setting], matched, models, examples))
    return rows


def _sample(source: Source, limit: int | None, samples: int) -> list[Tensor]:
    """Signals of items that are evenly spread over the source, until there are so many `samples` of them."""
    total = len(source) if limit is None else min(limit, len(source))
    wanted = sorted({place * total // SEARCHED_ITEMS for place in range(SEARCHED_ITEMS)})
    # Shuffled, so that a sample that ends early is spread over the source as well.
    random.Random(0).shuffle(wanted)
    signals: list[Tensor] = []
    for item in read_items(source, 0, indices=wanted):
        if isinstance(item, Item):
            signals.append(item.signal)
        if sum(signal[0].numel() for signal in signals) >= samples:
            break
    return signals


def _targets(models: Sequence[Evaluation]) -> dict[float, list[str]]:
    """The distinct packed rates of the models, and who has them."""
    targets: dict[float, list[str]] = {}
    for model in sorted(models, key=lambda each: _packed(each)):
        near = [target for target in targets if abs(_packed(model) / target - 1) < SAME_RATE]
        targets.setdefault(near[0] if near else _packed(model), []).append(model.label)
    return targets


def _packed(model: Evaluation) -> float:
    return next(iter(model.rate.values()))


def _evaluate_codec(
    name: str,
    codec: Codec,
    setting: int,
    target: float,
    matched: Sequence[str],
    models: Sequence[Evaluation],
    examples: int,
) -> Evaluation:
    first = models[0]
    names = list(dict.fromkeys(each for model in models for each in model.metric_names))
    names = [each for each in names if not METRICS[each].needs_tokens]
    trip = CodedTrip(codec, setting, first.source.sample_rate)
    metrics = build_metrics(names, first.source.modality)
    judgement = judge(trip, first.source, metrics, items=first.limit, examples=examples)
    rate_of = MODALITIES[first.source.modality].rate
    ((unit, reached),) = rate_of(trip.bits, trip.samples, trip.sample_rate).items()
    ((_, bare),) = rate_of(trip.bits - trip.header_bits, trip.samples, trip.sample_rate).items()
    record = {
        "name": name,
        "setting": setting,
        "matched_to": list(matched),
        "target": target,
        "rate": {unit: reached, f"{unit}_without_headers": bare},
    }
    return Evaluation(
        model=name,
        label=f"{name} {codec.setting_name(setting)}",
        summary=f"whole files, for {target:.3g} {unit.replace('_', ' ')}",
        codec=record,
        data=first.data,
        split=first.split,
        metric_names=names,
        rate_names=[],
        judgement=judgement,
        counts=None,
        notes={"codec": record | codec.protocol()},
        # What could not be read was said with the models, which read the same.
        remarks=remarks_on(judgement, names) + rate_remarks(record, codec, unit, reached, bare),
        judged=trip,
        source=first.source,
        limit=first.limit,
    )


def rate_remarks(record: Mapping[str, Any], codec: Codec, unit: str, reached: float, bare: float) -> list[str]:
    """How far the codec is from the rate that it was to match, and what its headers cost."""
    unit, target, remarks = unit.replace("_", " "), record["target"], []
    if abs(reached / target - 1) > FAR:
        end = {codec.settings[0]: " is its lowest rate", codec.settings[-1]: " is its highest rate"}
        where = end.get(record["setting"], " is as close as it comes")
        remarks.append(f"{reached:.3g} {unit}{where}, {reached / target:.3g} times the {target:.3g} of the models")
    if 1 - bare / reached > HEADERS_COUNT:
        remarks.append(f"headers are {1 - bare / reached:.0%} of its files: {bare:.3g} {unit} without them")
    return remarks
