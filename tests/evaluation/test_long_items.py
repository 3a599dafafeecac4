"""Signals too long to be held: evaluated in parts, with the figures of the whole; the rule of each metric by hand."""

import hashlib
import math
import pathlib
from collections.abc import Iterator

import numpy
import pytest
import soundfile
import torch
from torch import Tensor

from tokcli.autoencoders.spectral import SpectralAutoencoder
from tokcli.codebooks import sample_latents
from tokcli.codecs import build_codecs
from tokcli.contracts import Item, Metric, RoundTrip, Source, Stream
from tokcli.errors import InputError
from tokcli.evaluation.codecs import CodecAtSetting
from tokcli.evaluation.pairs import FilesOfOthers, open_pairs
from tokcli.evaluation.run import Scores, evaluate
from tokcli.metrics import METRICS
from tokcli.metrics.base import ItemMean
from tokcli.quantizers.fsq import FiniteScalarQuantizer
from tokcli.tokenizer import Tokenizer
from tokcli.windows import pair_blocks

RATE = 8000
NAMES = ["si-sdr", "mel-distance", "usage"]


class Sounds(Source):
    """Three sounds, of which the second may come as a stream, which may end too early."""

    modality = "audio"
    sample_rate = RATE
    names = ("short", "long", "last")

    def __init__(self, streams: bool = True, torn: bool = False, alone: bool = False) -> None:
        self.streams, self.torn = streams, torn
        self.names = ("long",) if alone else self.names

    def load(self, index: int, draw: int = 0) -> Item:
        length = 9001 if self.names[index] == "long" else 4000
        generator = torch.Generator().manual_seed(length)
        return Item(self.names[index], torch.rand(1, length, generator=generator) - 0.5, (length,))

    def load_or_stream(self, index: int, draw: int = 0) -> Item | Stream:
        if self.names[index] != "long" or not self.streams:
            return self.load(index, draw)
        return Stream("long", self._blocks)

    def _blocks(self) -> Iterator[Tensor]:
        yield from self.load(self.names.index("long")).signal.split(1234, dim=1)
        if self.torn:
            raise InputError("long: it is torn")

    def protocol(self) -> dict[str, object]:
        return {}


@pytest.fixture
def tokenizer() -> Tokenizer:
    """80 samples per position, windows of 20 positions."""
    torch.manual_seed(0)
    autoencoder = SpectralAutoencoder(
        latent_dim=3, width=16, blocks=1, kernel=3, sample_rate=RATE, hop=80, frame=160, window=20
    )
    return Tokenizer(autoencoder, FiniteScalarQuantizer([8, 6, 5])).eval()


def score(candidate: Tokenizer, source: Source, metrics=NAMES, **options) -> Scores:
    return evaluate(candidate, source, metrics, rates=True, workers=0, **options)


def test_a_long_sound_has_the_figures_of_the_whole(tokenizer: Tokenizer) -> None:
    whole, parts = score(tokenizer, Sounds(streams=False)), score(tokenizer, Sounds())
    assert parts.names == whole.names
    assert parts.metrics == pytest.approx(whole.metrics, rel=1e-6)
    assert parts.rates == whole.rates
    assert torch.equal(parts.counts, whole.counts)
    for name in ("si-sdr", "mel-distance"):
        torch.testing.assert_close(parts.item_scores[name], whole.item_scores[name], rtol=1e-6, atol=1e-6)
    assert parts.protocol == whole.protocol  # with the sum of all signals


def test_parts_are_the_round_trip_of_the_whole_to_the_bit(tokenizer: Tokenizer) -> None:
    source = Sounds(alone=True)
    whole = tokenizer.round_trip(source.load(0).signal[None])
    parts = list(tokenizer.round_trip_parts(source.load_or_stream(0)))
    assert len(parts) == 6  # of 20 positions of 80 samples
    assert torch.equal(torch.cat([part.reference for part in parts], 2), whole.reference)
    assert torch.equal(torch.cat([part.reconstruction for part in parts], 2), whole.reconstruction)
    assert torch.equal(torch.cat([part.tokens for part in parts], 1), whole.tokens)


def test_a_long_sound_that_cannot_be_read_to_its_end_leaves_no_trace(tokenizer: Tokenizer) -> None:
    torn = score(tokenizer, Sounds(torn=True), examples=3)
    assert [(failure.item, failure.reason) for failure in torn.failed] == [("long", "it is torn")]
    assert torn.names == ["short", "last"]
    assert [example.name for example in torn.examples] == ["short", "last"]
    assert int(torn.counts.sum()) == 2 * 50
    digest = hashlib.sha256()
    for index in (0, 2):
        item = Sounds().load(index)
        digest.update(item.name.encode() + item.signal.numpy().tobytes())
    assert torn.protocol["dataset_sha256"] == digest.hexdigest()


def test_an_example_of_a_long_sound_is_its_beginning(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokcli.evaluation.walk.EXAMPLE_SAMPLES", 3000)
    whole = score(tokenizer, Sounds(streams=False), examples=2).examples[1]
    example = score(tokenizer, Sounds(), examples=2).examples[1]
    assert example.name == "long"
    assert torch.equal(example.reference, whole.reference[:, :3200])
    assert torch.equal(example.reconstruction, whole.reconstruction[:, :3200])


def test_a_metric_of_whole_items_leaves_a_long_one_unscored_and_says_why(tokenizer: Tokenizer) -> None:
    class Loudest(ItemMean):
        modality = "audio"

        def scores(self, round_trip: RoundTrip) -> Tensor:
            return round_trip.reconstruction.abs().amax((1, 2))

    scores = score(tokenizer, Sounds(), {"loudest": Loudest()})
    assert scores.unscored == {"loudest": 1}
    assert scores.unscored_items("loudest") == ["long"]
    assert scores.remarks == [
        "loudest: 1 item could not be scored and left out of the mean (long); 1 of them because it scores whole items, "
        "and long ones come in parts"
    ]


def parts_of(trip: RoundTrip, length: int) -> Iterator[RoundTrip]:
    pairs = zip(trip.reference.split(length, 2), trip.reconstruction.split(length, 2), strict=True)
    return (RoundTrip(reference, reconstruction, None, 1, trip.sample_rate) for reference, reconstruction in pairs)


def score_parts(metric: Metric, trip: RoundTrip, length: int) -> float:
    parts = metric.start_item()
    assert parts is not None
    for part in parts_of(trip, length):
        parts.add(part)
    parts.finish()
    return metric.compute()


@pytest.mark.parametrize("samples", [1, 255, 256, 257, 511, 512, 513, 1024, 3000])
@pytest.mark.parametrize("length", [1, 100, 256, 700, 5000])
@pytest.mark.parametrize("name", ["si-sdr", "mel-distance"])
def test_parts_of_any_length_score_as_the_whole(name: str, samples: int, length: int) -> None:
    if length == 1 and samples > 600:
        pytest.skip("proves no more, and takes seconds")
    generator = torch.Generator().manual_seed(samples)
    reference = torch.rand(1, 1, samples, generator=generator) - 0.4
    trip = RoundTrip(reference, reference + 0.1 * torch.rand(1, 1, samples, generator=generator), None, 1, RATE)
    whole = METRICS[name]()
    whole.update(trip)
    assert score_parts(METRICS[name](), trip, length) == pytest.approx(whole.compute(), rel=1e-5, nan_ok=True)


def test_a_perfect_long_clip_scores_the_limit_and_a_silent_one_nothing() -> None:
    clip = 0.1 * torch.randn(1, 1, 5000, generator=torch.Generator().manual_seed(0)) + 0.2
    assert score_parts(METRICS["si-sdr"](), RoundTrip(clip, clip, None, 1, RATE), 999) == 100
    silent = METRICS["si-sdr"]()
    assert math.isnan(score_parts(silent, RoundTrip(torch.zeros_like(clip), clip, None, 1, RATE), 999))
    assert silent.unscored == 1


class Lines:
    """In place of worker processes: scores a window by its first sample; a negative one cannot be scored."""

    def __init__(self, score: object) -> None:
        self.scores: list[float] = []

    def submit(self, reference, reconstruction, sample_rate: int) -> None:
        self.scores.append(float(reference[0]) if reference[0] >= 0 else math.nan)

    def collect(self, keep: int = 0) -> list[float]:
        ready = self.scores[: max(0, len(self.scores) - keep)]
        self.scores = self.scores[len(ready) :]
        return ready


@pytest.mark.parametrize("name", ["pesq", "stoi"])
def test_a_long_clip_has_the_mean_speech_score_of_its_windows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokcli.metrics.audio.require", lambda package, extra: None)
    monkeypatch.setattr("tokcli.backbones.speech.ClipScores", Lines)
    metric = METRICS[name]()
    # At 4 Hz a window has 40 samples: three windows, the second of which cannot be scored, and half of a fourth.
    levels = torch.tensor([0.2, -1.0, 0.8, 0.5]).repeat_interleave(40)[:140].view(1, 1, -1)
    short = RoundTrip(levels[..., :4], levels[..., :4], None, 1, 4)
    metric.update(short)
    assert "long_clips" not in metric.protocol()
    score_parts(metric, RoundTrip(levels, levels, None, 1, 4), 33)
    metric.update(short)
    metric.finish()
    assert metric.item_scores().tolist() == pytest.approx([0.2, (0.2 * 40 + 0.8 * 40 + 0.5 * 20) / 100, 0.2])
    assert metric.protocol()["long_clips"] == 1
    assert metric.protocol()["long_clip"] == "mean over windows of 10 s, by their length"


def test_one_file_of_a_codec_is_made_and_compared_in_blocks() -> None:
    codec, source = build_codecs(["opus"], "audio")["opus"], Sounds(alone=True)
    whole, parts = (CodecAtSetting("opus", codec, 10, RATE) for _ in range(2))
    expected = whole.round_trip(source.load(0).signal[None])
    trips = list(parts.round_trip_parts(source.load_or_stream(0)))
    assert len(trips) == 8
    assert torch.equal(torch.cat([trip.reference for trip in trips], 2), expected.reference)
    assert torch.equal(torch.cat([trip.reconstruction for trip in trips], 2), expected.reconstruction)
    assert parts.file_rates() == whole.file_rates()


@pytest.mark.parametrize("samples", [30, 10_000])
def test_a_codebook_is_built_from_the_same_latents_whichever_way_they_come(tokenizer: Tokenizer, samples: int) -> None:
    whole = sample_latents(tokenizer, Sounds(streams=False), samples, workers=0)
    torch.testing.assert_close(sample_latents(tokenizer, Sounds(), samples, workers=0), whole, rtol=0, atol=0)


def test_a_long_sound_that_is_torn_gives_a_codebook_nothing(tokenizer: Tokenizer) -> None:
    latents = sample_latents(tokenizer, Sounds(torn=True), 10_000, workers=0)
    assert len(latents) == 2 * 50


def test_blocks_are_paired_whatever_their_lengths() -> None:
    signal = torch.arange(20.0)[None]
    pairs = list(pair_blocks(signal.split(7, 1), (2 * signal).split(3, 1)))
    assert [block.shape[1] for block, _ in pairs] == [7, 7, 6]
    assert all(torch.equal(other, 2 * block) for block, other in pairs)
    with pytest.raises(InputError, match="what came back is shorter than the original"):
        list(pair_blocks([signal], [signal[:, 1:]]))


def test_long_files_of_others_are_paired_as_they_are_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = numpy.random.default_rng(0)
    for name, length, shorter in (("a", 4000, 0), ("b", 20_000, 0), ("c", 20_000, 1)):
        sound = generator.uniform(-0.5, 0.5, length)
        for folder, samples in (("original", sound), ("good", 0.9 * sound[shorter:]), ("bad", 0.1 * sound)):
            (tmp_path / folder).mkdir(exist_ok=True)
            soundfile.write(tmp_path / folder / f"{name}.wav", samples, RATE)

    def judge(other: int) -> Scores:
        sources, *_ = open_pairs(str(tmp_path / "original"), [str(tmp_path / "good"), str(tmp_path / "bad")], None)
        candidate = FilesOfOthers(sources[other], torch.device("cpu"))
        return evaluate(candidate, sources[other], ["si-sdr", "mel-distance"], workers=0)

    whole = [judge(0), judge(1)]
    monkeypatch.setattr("tokcli.data.audio.files.LONG_SECONDS", 1)
    parts = [judge(0), judge(1)]
    for expected, found in zip(whole, parts, strict=True):
        assert found.names == expected.names == ["a.wav", "b.wav"]
        assert found.failed == expected.failed
        assert "the original has 20000 samples, the reconstruction 19999 samples" in found.failed[0].reason
        assert found.metrics == pytest.approx(expected.metrics, rel=1e-5)
        assert found.protocol == expected.protocol
