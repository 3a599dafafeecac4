"""SI-SDR and mel distance against torchmetrics and closed forms; PESQ and STOI through their worker processes."""

import concurrent.futures
import importlib
import math
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tokcli.backbones import speech
from tokcli.backbones.torchvision import let_torchvision_import
from tokcli.contracts import RoundTrip
from tokcli.errors import UsageError
from tokcli.metrics import METRICS, build_metrics, merge_states
from tokcli.metrics import audio as audio_metrics
from tokcli.metrics.audio import si_sdr

GENERATOR = torch.Generator().manual_seed(0)
REFERENCE = 0.1 * torch.randn(3, 1, 8000, generator=GENERATOR)
RECONSTRUCTION = REFERENCE + 0.05 * torch.randn(3, 1, 8000, generator=GENERATOR) + 0.01


def sounds(reconstruction: torch.Tensor, reference: torch.Tensor, sample_rate: int = 16_000) -> RoundTrip:
    return RoundTrip(reference, reconstruction, None, 1, sample_rate)


def judge(name: str, reconstruction: torch.Tensor, reference: torch.Tensor):
    metric = METRICS.build({"kind": name})
    metric.update(sounds(reconstruction, reference))
    metric.finish()
    return metric


def test_si_sdr_agrees_with_torchmetrics() -> None:
    let_torchvision_import()
    audio = pytest.importorskip("torchmetrics.functional.audio")
    expected = audio.scale_invariant_signal_distortion_ratio(
        RECONSTRUCTION[:, 0].double(), REFERENCE[:, 0].double(), zero_mean=True
    )
    torch.testing.assert_close(si_sdr(RECONSTRUCTION[:, 0], REFERENCE[:, 0]), expected, rtol=1e-6, atol=1e-6)
    assert judge("si-sdr", RECONSTRUCTION, REFERENCE).compute() == pytest.approx(expected.mean().item(), rel=1e-6)


def test_si_sdr_by_hand_and_at_any_loudness() -> None:
    # The rest, (1, 1, -1, -1), is orthogonal to the reference and a quarter of its energy after scaling by 2.
    reference = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    reconstruction = 2 * reference + torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    expected = 10 * math.log10(4)
    assert si_sdr(reconstruction, reference).item() == pytest.approx(expected)
    assert si_sdr(0.01 * reconstruction + 0.3, reference).item() == pytest.approx(expected, abs=1e-4)


def test_a_perfect_clip_scores_the_limit_and_a_silent_one_nothing() -> None:
    metric = judge("si-sdr", REFERENCE, REFERENCE)
    assert metric.compute() == 100
    metric.update(sounds(torch.zeros_like(REFERENCE), REFERENCE))
    metric.update(sounds(REFERENCE, torch.zeros_like(REFERENCE)))
    assert (metric.compute(), metric.unscored) == (100, 6)


def test_mel_distance_of_half_the_loudness_is_six_decibels() -> None:
    metric = judge("mel-distance", REFERENCE / 2, REFERENCE)
    assert metric.compute() == pytest.approx(20 * math.log10(2), rel=1e-4)
    assert judge("mel-distance", REFERENCE, REFERENCE).compute() == 0


def test_mel_distance_to_silence_is_bounded_by_the_floor() -> None:
    assert 50 < judge("mel-distance", torch.zeros_like(REFERENCE), REFERENCE).compute() < 140


@pytest.mark.parametrize("name", ["si-sdr", "mel-distance"])
def test_clips_are_judged_one_by_one_as_a_file_would_hold_them(name) -> None:
    together = judge(name, RECONSTRUCTION, REFERENCE)
    alone = METRICS.build({"kind": name})
    for clip in range(3):
        alone.update(sounds(RECONSTRUCTION[clip, None], REFERENCE[clip, None]))
    assert alone.compute() == pytest.approx(together.compute(), rel=1e-6)
    loud = 30 * RECONSTRUCTION
    assert judge(name, loud, REFERENCE).compute() == judge(name, loud.clamp(-1, 1), REFERENCE).compute()
    halves = [signal.bfloat16() for signal in (RECONSTRUCTION, REFERENCE)]
    assert judge(name, *halves).compute() == judge(name, *(half.float() for half in halves)).compute()


def test_a_sound_without_a_sample_rate_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="the round trip has no sample_rate"):
        METRICS.build({"kind": "mel-distance"}).update(RoundTrip(REFERENCE, REFERENCE, None, 1))


def test_the_state_of_a_speech_score_is_data_that_nobody_waits_for(monkeypatch) -> None:
    pytest.importorskip("pystoi")
    never: concurrent.futures.Future[float] = concurrent.futures.Future()
    executor = SimpleNamespace(submit=lambda *arguments: never)
    monkeypatch.setattr(speech, "_workers", lambda: executor)
    metric = METRICS.build({"kind": "stoi"})
    metric.update(sounds(RECONSTRUCTION[:1], REFERENCE[:1]))
    assert int(metric.state["items"]) == 0
    never.set_result(0.5)
    metric.finish()
    assert metric.item_scores().tolist() == [0.5]


def syllables(noise: float, clips: int = 2) -> torch.Tensor:
    """Buzzing vowels of different pitch, with noise, (clips, 1, samples) at 16 kHz."""
    times = torch.arange(12_000) / 16_000
    pitch = torch.linspace(120, 180, clips).view(-1, 1)
    buzz = sum(torch.sin(2 * torch.pi * pitch * harmonic * times) / harmonic for harmonic in range(1, 25))
    sound = 0.2 * buzz * (0.55 + 0.45 * torch.sin(2 * torch.pi * 3 * times))
    return (sound + noise * torch.randn(sound.shape, generator=torch.Generator().manual_seed(1)))[:, None]


@pytest.mark.parametrize(("name", "package"), [("pesq", "pesq"), ("stoi", "pystoi")])
def test_speech_scores_are_averaged_over_the_clips_that_can_be_scored(name, package) -> None:
    pytest.importorskip(package)
    reference, reconstruction = syllables(0.0), syllables(0.02)
    score = {"pesq": speech.pesq, "stoi": speech.stoi}[name]
    expected = [score(x, y, 16_000) for x, y in zip(reference[:, 0].numpy(), reconstruction[:, 0].numpy(), strict=True)]
    first, second = METRICS.build({"kind": name}), METRICS.build({"kind": name})
    assert math.isnan(first.compute())
    first.update(sounds(reconstruction[:1], reference[:1]))
    second.update(sounds(reconstruction[1:], reference[1:]))
    second.update(sounds(torch.zeros_like(reference), reference))
    first.finish()
    second.finish()
    merged = METRICS.build({"kind": name})
    merged.state = merge_states([first.state, second.state])
    assert merged.compute() == pytest.approx(np.mean(expected))
    assert merged.unscored == 2
    assert second.item_scores().tolist() == pytest.approx([expected[1], math.nan, math.nan], nan_ok=True)
    assert merged.protocol()["sample_rate"] == 16_000


CRASHING_SCORE = """
import os

def score(reference, reconstruction, sample_rate):
    if reference[0] == 1.0:
        os._exit(139)
    return float(reference[0])
"""


def test_a_clip_that_crashes_its_worker_takes_no_other_clip_along(monkeypatch, tmp_path) -> None:
    pytest.importorskip("pystoi")
    (tmp_path / "crashing_score.py").write_text(CRASHING_SCORE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(audio_metrics.Stoi, "score", importlib.import_module("crashing_score").score)
    speech._workers.cache_clear()  # new workers know the new path
    reference = torch.tensor([0.25, 1.0, 0.5, 0.75]).view(4, 1, 1).expand(4, 1, 100)
    metric = judge("stoi", reference, reference)
    assert metric.compute() == pytest.approx((0.25 + 0.5 + 0.75) / 3)
    assert metric.unscored == 1
    metric.update(sounds(reference[:1], reference[:1]))
    metric.finish()
    assert (int(metric.state["items"]), metric.unscored) == (4, 1)


def test_an_absent_package_is_reported_before_anything_is_scored(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(UsageError, match=r"pesq is not installed; run: pip install pesq \(extra: audio\)$"):
        build_metrics(["pesq", "si-sdr"], "audio")


def test_the_cores_are_shared_with_the_siblings_of_a_distributed_run(monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert speech.count_workers() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert speech.count_workers() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert speech.count_workers() == 1
