"""Classical codecs beside the models: each at the setting whose files cost what a model's tokens cost.

One setting serves the whole set, so that its files may spend more on what is harder, as their users' do.
"""

import contextlib
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from tokcli.codecs import ClassicalCodec
from tokcli.contracts import Candidate, Item, ModalityName, Rate, RoundTrip, Source, Stream, compute_rate
from tokcli.data.items import read_items
from tokcli.errors import InputError
from tokcli.evaluation.compare import format_name, list_metrics
from tokcli.evaluation.run import Scores, Title, evaluate
from tokcli.metrics import METRICS, Weights
from tokcli.progress import Reporter
from tokcli.windows import pair_blocks

SEARCHED_ITEMS = 128
"""Items that a setting is searched on, evenly spread; the figures are then over the whole set."""

SAME_RATE = 0.02
"""Models whose rates differ by less, relative, share a row of each codec."""

FAR = 0.1
"""A row further than this from its target, relative, says so."""

HEADERS_COUNT = 0.2
"""A row whose files are headers to this part says so."""


class CodecAtSetting(Candidate):
    """A codec at one setting, which counts the bits of every file that it makes.

    Args:
        name: Of the codec in its table.
        codec: Makes the files.
        setting: One of the codec's.
        sample_rate: Of audio, in Hz.
        target: The rate that its files are to have.
        matched_to: The labels of the models whose rate that is.

    Attributes:
        bits: Of all files so far.
        header_bits: Of those, what is no coded signal.
        samples: Pixels or audio samples in the files.
    """

    competes: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        codec: ClassicalCodec,
        setting: int,
        sample_rate: int | None,
        target: float = math.nan,
        matched_to: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.codec = codec
        self.setting = setting
        self._sample_rate = sample_rate
        self.target = target
        self.matched_to = matched_to
        self.bits = self.header_bits = self.samples = 0

    @property
    def modality(self) -> ModalityName:
        """The codec's."""
        return self.codec.modality

    @property
    def sample_rate(self) -> int | None:
        """Of the files, in Hz; None for images."""
        return self._sample_rate

    @property
    def codebook_size(self) -> int:
        """1: there are no tokens."""
        return 1

    @property
    def device(self) -> torch.device:
        """Codecs compute on the CPU."""
        return torch.device("cpu")

    def round_trip(self, signals: Tensor) -> RoundTrip:
        """signals: (batch, channels, *size) -> what the codec's files give back, item by item."""
        reconstructions = torch.stack([self._reconstruct(signal) for signal in signals])
        return RoundTrip(signals, reconstructions, None, self.codebook_size, self.sample_rate)

    def _reconstruct(self, signal: Tensor) -> Tensor:
        data = self.make_file(signal)
        return self.codec.decompress(data)[(..., *(slice(length) for length in signal.shape[1:]))]

    def round_trip_parts(self, stream: Stream) -> Iterator[RoundTrip]:
        """What one file of the whole signal gives back, which is read once to be compressed and once to be compared."""
        data = self.codec.compress_blocks(stream.blocks(), self.setting, self.sample_rate)
        samples = 0
        for block, reconstruction in pair_blocks(stream.blocks(), self.codec.decompress_blocks(data)):
            samples += block.shape[1]
            yield RoundTrip(block[None], reconstruction[None], None, self.codebook_size, self.sample_rate)
        self._count(data, samples)

    def make_file(self, signal: Tensor) -> bytes:
        """The file of one signal (channels, *size), counted."""
        data = self.codec.compress(signal, self.setting, self.sample_rate)
        self._count(data, math.prod(signal.shape[1:]))
        return data

    def _count(self, data: bytes, samples: int) -> None:
        self.bits += 8 * len(data)
        self.header_bits += 8 * self.codec.header_bytes(data)
        self.samples += samples

    @property
    def rate(self) -> Rate:
        """Of all files so far, headers included."""
        return compute_rate(self.bits, self.samples, self.sample_rate)

    def file_rates(self) -> dict[str, float]:
        """Of all files so far: whole, and without headers."""
        bare = compute_rate(self.bits - self.header_bits, self.samples, self.sample_rate)
        return {self.rate.unit: self.rate.value, f"{bare.unit}_without_headers": bare.value}

    def codec_record(self) -> dict[str, Any]:
        """The setting, and what it was matched to."""
        return {
            "name": self.name,
            "setting": self.setting,
            "matched_to": list(self.matched_to),
            "target": self.target,
        }


def evaluate_codecs(
    codecs: Mapping[str, ClassicalCodec],
    models: Sequence[Scores],
    examples: int,
    reporter: Reporter,
    weights: Weights | None = None,
) -> list[Scores]:
    """A row for each codec and each distinct packed rate of `models`.

    Args:
        codecs: By name.
        models: Scores on the same data, with their rates.
        examples: Items that each row keeps to be looked at.
        reporter: Is told what is evaluated.
        weights: Local files of weights for the models' metrics.
    """
    if not codecs:
        return []
    source, asked = models[0].source, models[0].asked
    rows = []
    for name, codec in codecs.items():
        sample = _sample(source, asked, codec.searched_samples)
        matched: dict[int, list[str]] = {}
        targets: dict[int, float] = {}
        for target, labels in _group_by_rate(models).items():
            setting = find_setting(codec, sample, target, source.sample_rate)
            matched.setdefault(setting, []).extend(labels)
            targets[setting] = target
        for setting, labels in matched.items():
            reporter.note(f"judging {name} at {codec.setting_name(setting)}, to cost what the tokens cost")
            candidate = CodecAtSetting(name, codec, setting, source.sample_rate, targets[setting], labels)
            rows.append(_evaluate_codec(candidate, models, examples, weights))
    return rows


def _sample(source: Source, asked: int, samples: int) -> list[Tensor]:
    """Signals of items that are evenly spread over the first `asked`, until there are so many `samples` of them.

    Of a long item the beginning is taken.
    """
    indices = sorted({step * asked // SEARCHED_ITEMS for step in range(SEARCHED_ITEMS)})
    # Shuffled, so that a sample that ends early is spread over the source as well.
    random.Random(0).shuffle(indices)
    signals: list[Tensor] = []
    for item in read_items(source, 0, indices=indices, streams=True):
        if isinstance(item, Item):
            signals.append(item.signal)
        elif isinstance(item, Stream):
            signals += _read_beginning(item, samples)
        if sum(signal[0].numel() for signal in signals) >= samples:
            break
    return signals


def _read_beginning(stream: Stream, samples: int) -> list[Tensor]:
    """The first blocks of a long signal, `samples` or a little more, as one; nothing where it cannot be read."""
    taken: list[Tensor] = []
    with contextlib.suppress(InputError):
        for block in stream.blocks():
            taken.append(block)
            if sum(part.shape[1] for part in taken) >= samples:
                break
    return [torch.cat(taken, dim=1)] if taken else []


def _group_by_rate(models: Sequence[Scores]) -> dict[float, list[str]]:
    """The distinct packed rates of the models, and the labels of those that have them."""
    groups: dict[float, list[str]] = {}
    for model in sorted(models, key=_compute_packed_rate):
        near = [target for target in groups if abs(_compute_packed_rate(model) / target - 1) < SAME_RATE]
        groups.setdefault(near[0] if near else _compute_packed_rate(model), []).append(model.title.label)
    return groups


def _compute_packed_rate(model: Scores) -> float:
    return next(iter(model.rates.values()))


def find_setting(
    codec: ClassicalCodec, signals: Sequence[Tensor], target: float, sample_rate: int | None = None
) -> int:
    """The setting whose whole files, headers included, come closest to a rate over `signals`.

    The end of the codec's range where the target lies beyond it. Between settings, rates are taken to rise.

    Args:
        codec: Makes the files.
        signals: (channels, *size) each.
        target: Bits per pixel or kilobits per second.
        sample_rate: Of audio, in Hz.
    """
    tried: dict[int, float] = {}

    def spend(setting: int) -> float:
        if setting not in tried:
            candidate = CodecAtSetting("", codec, setting, sample_rate)
            for signal in signals:
                candidate.make_file(signal)
            tried[setting] = candidate.rate.value
        return tried[setting]

    low, high = codec.settings[0], codec.settings[-1]
    if spend(low) >= target:
        return low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if spend(middle) <= target else (low, middle)
    return min((low, high), key=lambda setting: (abs(spend(setting) - target), setting))


def _evaluate_codec(
    candidate: CodecAtSetting, models: Sequence[Scores], examples: int, weights: Weights | None
) -> Scores:
    first = models[0]
    names = [name for name in list_metrics(models) if not METRICS[name].needs_tokens]
    scores = evaluate(candidate, first.source, names, items=first.asked, examples=examples, weights=weights)
    setting, unit = candidate.codec.setting_name(candidate.setting), format_name(candidate.rate.unit)
    title = Title(
        model=candidate.name,
        label=f"{candidate.name} {setting}",
        summary=f"whole files, for {candidate.target:.3g} {unit}",
        data=first.title.data,
        split=first.title.split,
    )
    record = candidate.codec_record() | {"rate": scores.rates} | candidate.codec.protocol()
    # What could not be read was said with the models, which read the same.
    remarks = [*scores.remarks, *remark_on_rate(candidate)]
    return replace(scores, title=title, protocol=scores.protocol | {"codec": record}, remarks=remarks)


def remark_on_rate(candidate: CodecAtSetting) -> list[str]:
    """How far the codec is from the rate that it was to match, and what its headers cost."""
    unit, target, remarks = format_name(candidate.rate.unit), candidate.target, []
    reached, bare = candidate.file_rates().values()
    if abs(reached / target - 1) > FAR:
        settings = candidate.codec.settings
        ends = {settings[0]: " is its lowest rate", settings[-1]: " is its highest rate"}
        end = ends.get(candidate.setting, " is as close as it comes")
        remarks.append(f"{reached:.3g} {unit}{end}, {reached / target:.3g} times the {target:.3g} of the models")
    if 1 - bare / reached > HEADERS_COUNT:
        remarks.append(f"headers are {1 - bare / reached:.0%} of its files: {bare:.3g} {unit} without them")
    return remarks
