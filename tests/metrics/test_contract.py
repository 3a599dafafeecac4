"""What every metric owes, of both modalities: NaN before the first item, states that add, and scores by item.

Every member of the table is tested; a new one needs an entry here only where it needs weights that tests do not have.
"""

import dataclasses
import inspect
import math

import pytest
import torch
from meta_device import META, meta_device, require_there
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tokcli.backbones import speech
from tokcli.backbones.lpips import build_untrained_lpips
from tokcli.contracts import Metric, RoundTrip
from tokcli.errors import InputError, UsageError
from tokcli.metrics import METRICS, build_metrics, merge_states, metrics_for
from tokcli.metrics.audio import SpeechScore
from tokcli.metrics.base import ItemMean
from tokcli.metrics.understanding import ItemByItem

EVERY = list(METRICS)


class _Lines:
    """In place of worker processes: scores a clip at once, by how far its first sample is from the reference's."""

    def __init__(self, score: object) -> None:
        self.scores: list[float] = []

    def submit(self, reference, reconstruction, sample_rate: int) -> None:
        self.scores.append(float(abs(reference[0] - reconstruction[0])))

    def collect(self, keep: int = 0) -> list[float]:
        ready = self.scores[: max(0, len(self.scores) - keep)]
        self.scores = self.scores[len(ready) :]
        return ready


class _Listener:
    """In place of models of speech and text: letters for the signs of the first samples."""

    name = "letters"

    def to(self, device: torch.device) -> None: ...

    def transcribe(self, clip) -> str:
        return " ".join("ab"[bool(value > 0)] for value in clip[:40])

    def embed(self, clip) -> torch.Tensor:
        return torch.from_numpy(clip[:40].copy())

    def read(self, pixels) -> str:
        return "".join("ab"[bool(value > 120)] for value in pixels[0, :, 0])


WAITING = (SpeechScore, ItemByItem)
"""Metrics whose models take one item at a time, on the CPU or not."""


@pytest.fixture(autouse=True)
def cheap_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random networks in place of weight files, and no worker processes."""
    torch.manual_seed(0)
    lpips = build_untrained_lpips("squeeze")
    monkeypatch.setattr("tokcli.metrics.images.load_lpips", lambda backbone: lpips)
    monkeypatch.setattr("tokcli.metrics.rfid.load_inception", lambda: nn.Sequential(nn.AvgPool2d(16), nn.Flatten()))
    monkeypatch.setattr("tokcli.metrics.audio.require", lambda package, extra: None)
    monkeypatch.setattr(speech, "ClipScores", _Lines)
    for name in ("load_recogniser", "load_voice_embedder", "TextReader"):
        monkeypatch.setattr(f"tokcli.metrics.understanding.{name}", lambda folder=None: _Listener())
    monkeypatch.setattr("tokcli.metrics.understanding.find_folder", lambda *words: None)
    monkeypatch.setattr("tokcli.metrics.understanding.SHORTEST", 1)


def batch(name: str, items: int, seed: int) -> RoundTrip:
    """A round trip of what the metric judges: images unless it is for audio."""
    generator = torch.Generator().manual_seed(seed)
    audio = METRICS[name].modality == "audio"
    reference = torch.rand((items, 1, 1600) if audio else (items, 3, 32, 32), generator=generator) * 2 - 1
    reconstruction = reference + 0.1 * torch.randn(reference.shape, generator=generator)
    tokens = torch.randint(0, 9, (items, 16, 1) if audio else (items, 4, 4, 1), generator=generator)
    return RoundTrip(reference, reconstruction, tokens, 9, 16_000 if audio else None)


def updated(name: str, *batches: RoundTrip) -> Metric:
    metric = METRICS[name]()
    for each in batches:
        metric.update(each)
    metric.finish()
    return metric


@pytest.mark.parametrize("name", EVERY)
def test_before_the_first_item_the_figure_is_unknown(name: str) -> None:
    metric = updated(name)
    assert math.isnan(metric.compute())
    assert metric.unscored == 0


@pytest.mark.parametrize("name", EVERY)
def test_two_processes_and_an_idle_one_give_the_figure_of_one(name: str) -> None:
    first, second = batch(name, 2, seed=1), batch(name, 3, seed=2)
    whole = updated(name, first, second)
    merged = METRICS[name]()
    merged.state = merge_states([part.state for part in (updated(name), updated(name, second), updated(name, first))])
    assert math.isfinite(whole.compute())
    assert merged.compute() == pytest.approx(whole.compute(), rel=1e-12)
    assert merged.unscored == whole.unscored


@pytest.mark.parametrize("name", EVERY)
def test_a_state_is_data_of_float64_and_int64(name: str) -> None:
    metric = updated(name, batch(name, 2, seed=0))
    assert {value.dtype for value in metric.state.values()} <= {torch.float64, torch.int64}
    assert inspect.getattr_static(metric, "state") is metric.state, "state is a plain attribute, no property"


@pytest.mark.parametrize("name", EVERY)
def test_updating_keeps_no_graph(name: str) -> None:
    seen = batch(name, 2, seed=0)
    metric = updated(name, dataclasses.replace(seen, reconstruction=seen.reconstruction.requires_grad_()))
    assert not any(value.requires_grad for value in metric.state.values())


@pytest.mark.parametrize("name", EVERY)
def test_the_state_survives_finishing_twice(name: str) -> None:
    metric = updated(name, batch(name, 2, seed=0))
    before = metric.compute()
    metric.finish()
    assert metric.compute() == before


@pytest.mark.parametrize("name", EVERY)
def test_a_metric_that_restarts_is_a_new_one(name: str) -> None:
    metric = METRICS[name]()
    nothing = dict(metric.state)
    for seed in (1, 2):
        metric.restart(nothing)
        metric.update(batch(name, 2, seed))
        metric.finish()
        new = updated(name, batch(name, 2, seed))
        assert metric.state.keys() == new.state.keys()
        assert all(torch.equal(metric.state[key], value) for key, value in new.state.items())
        scores, expected = metric.item_scores(), new.item_scores()
        assert (scores is None and expected is None) or torch.equal(scores, expected)
    restored = METRICS[name]()
    restored.restart(metric.state)
    assert restored.compute() == metric.compute()


@pytest.mark.parametrize("name", EVERY)
def test_scores_of_items_come_in_the_order_of_the_updates_and_average_to_the_figure(name: str) -> None:
    metric = updated(name, batch(name, 2, seed=1), batch(name, 1, seed=2))
    scores = metric.item_scores()
    assert (scores is not None) == isinstance(metric, ItemMean)
    if scores is not None:
        assert (scores.shape, scores.dtype) == ((3,), torch.float64)
        assert scores.mean().item() == pytest.approx(metric.compute(), rel=1e-12)
        torch.testing.assert_close(updated(name, batch(name, 1, seed=2)).item_scores(), scores[2:])


@pytest.mark.parametrize("name", [name for name in EVERY if not METRICS[name].needs_tokens])
def test_an_item_that_is_not_finite_is_counted_and_left_out(name: str) -> None:
    if issubclass(METRICS[name], SpeechScore):
        pytest.skip("the packages' own refusals are tested in tests/backbones/test_speech.py")
    seen, broken = batch(name, 2, seed=1), batch(name, 1, seed=2)
    broken = dataclasses.replace(broken, reconstruction=torch.full_like(broken.reference, math.nan))
    metric = updated(name, seen, broken)
    assert metric.unscored == 1
    assert metric.compute() == pytest.approx(updated(name, seen).compute(), rel=1e-12)


@pytest.mark.parametrize("name", [name for name in EVERY if METRICS[name].needs_tokens])
def test_items_without_tokens_are_counted_and_left_out(name: str) -> None:
    seen = batch(name, 2, seed=1)
    metric = updated(name, seen, dataclasses.replace(seen, tokens=None))
    assert metric.unscored == 2
    assert metric.compute() == updated(name, seen).compute()
    assert metric.counts is not None
    assert metric.undersampled
    assert "are fewer than 10 for each of 9 codes" in str(metric.remark())


@pytest.mark.parametrize("name", EVERY)
def test_every_metric_says_what_it_is(name: str) -> None:
    kind = METRICS[name]
    assert kind.modality in (None, "image", "audio")
    assert kind.higher_is_better in (True, False, None)
    protocol = updated(name, batch(name, 2, seed=0)).protocol()
    assert protocol
    assert {type(value) for value in protocol.values()} <= {str, int, float, bool}


class NothingWaits(TorchDispatchMode):
    """Refuses every operation that makes the program wait for its device."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        waits = ("_local_scalar_dense", "nonzero", "bincount", "unique", "coalesce", "is_nonzero", "item")
        if function.overloadpacket.__name__ in waits:
            raise AssertionError(f"{function} waits for the device")
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("name", [name for name in EVERY if not issubclass(METRICS[name], WAITING)])
def test_nothing_waits_for_the_device_before_the_figure_is_asked_for(name: str) -> None:
    metric, seen = METRICS[name](), batch(name, 2, seed=0)
    metric.update(seen)  # what is built once, such as the filters of a spectrogram, may wait
    with NothingWaits():
        metric.update(seen)
    with pytest.raises(AssertionError, match="waits for the device"), NothingWaits():
        metric.compute()


def test_metrics_come_back_in_the_order_asked_for() -> None:
    assert list(build_metrics(["cvu", "psnr"], "image")) == ["cvu", "psnr"]


def test_rates_and_entropy_are_neither_better_high_nor_low() -> None:
    directed = {name: METRICS[name].higher_is_better for name in ("psnr", "lpips", "kbps", "entropy_bits_per_token")}
    assert directed == {"psnr": True, "lpips": False, "kbps": None, "entropy_bits_per_token": None}


def test_each_modality_has_metrics_of_its_own_and_those_of_tokens() -> None:
    images, audio = set(metrics_for("image")), set(metrics_for("audio"))
    assert {"psnr", "bits_per_pixel"} <= images - audio
    assert {"si-sdr", "kbps"} <= audio - images
    assert {"usage", "perplexity", "cvu"} <= images & audio


def test_unknown_metrics_and_those_of_another_modality_are_reported_together() -> None:
    with pytest.raises(UsageError) as caught:
        build_metrics(["pnsr", "usage", "ssim"], "audio")
    message = str(caught.value)
    assert "there is no metric 'pnsr'; " in message
    assert "the metric 'ssim' judges image, not audio; expected one of: " in message


def test_a_misspelt_metric_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"there is no metric 'pnsr'; did you mean 'psnr'\?"):
        build_metrics(["pnsr"], "image")


def test_every_absent_backbone_is_named_before_anything_is_computed(tmp_path, monkeypatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"vgg16-397923af\.pth.*; LPIPS .*alexnet-owt-7be5be79\.pth"):
        build_metrics(["psnr", "lpips", "lpips-alex"], "image")


WAITS = {
    "pesq": "a library in C scores each clip on the CPU, in processes of its own",
    "dnsmos": "a package scores each clip on the CPU, in processes of its own",
    "wer": "words are counted, which a model says one clip at a time",
    "speaker-similarity": "a model hears one clip at a time",
    "text": "a package reads pictures on the CPU",
    "stoi": "a library of numpy scores each clip on the CPU, in processes of its own",
}
"""Metrics that take their signals off the device at once, and why."""


@pytest.mark.parametrize("name", [name for name in EVERY if name not in WAITS])
def test_updates_stay_on_their_device_and_never_wait(name: str) -> None:
    metric, seen = METRICS[name](), batch(name, 3, seed=0)
    assert seen.tokens is not None
    there = {"reference": seen.reference.to(META), "reconstruction": seen.reconstruction.to(META)}
    with meta_device():
        for _ in range(2):
            metric.update(dataclasses.replace(seen, **there, tokens=seen.tokens.to(META)))
        counted = {"samples", "unscored"}  # from shapes, which the host knows
        require_there({name: value for name, value in metric.state.items() if name not in counted})


INEXACT = {"rfid": "its moments are sums of float64, whose limbs would take gigabytes"}
"""Metrics whose states add up to rounding only, and why."""


@pytest.mark.parametrize("name", [name for name in EVERY if name not in INEXACT])
def test_states_add_exactly_in_any_order(name: str) -> None:
    batches = [batch(name, 2, seed=seed) for seed in range(5)]
    whole, parts = updated(name, *batches), [updated(name, each).state for each in reversed(batches)]
    merged = METRICS[name]()
    merged.state = merge_states([merge_states(parts[:2]), merge_states(parts[2:])])
    assert merged.compute() == whole.compute()
