"""Bits per pixel, by hand."""

import math

import pytest
import torch

from tokcli.contracts import RoundTrip
from tokcli.metrics import build_metrics, merge_states


def trip(tokens: torch.Tensor, codebook_size: int) -> RoundTrip:
    pictures = torch.zeros(tokens.shape[0], 3, 4, 8)
    return RoundTrip(pictures, pictures, tokens, codebook_size)


def test_packed_tokens_cost_log2_k_and_frequencies_can_cost_less() -> None:
    metrics = build_metrics(["bits_per_pixel", "bits_per_pixel_empirical"], "image")
    tokens = torch.tensor([0, 0, 0, 1]).reshape(1, 2, 2, 1)
    for metric in metrics.values():
        metric.update(trip(tokens, 16))
    assert metrics["bits_per_pixel"].compute() == pytest.approx(4 * 4 / 32)
    bits = 3 * math.log2(4 / 3) + math.log2(4)
    assert metrics["bits_per_pixel_empirical"].compute() == pytest.approx(bits / 32)


def test_every_group_of_a_position_costs() -> None:
    metric = build_metrics(["bits_per_pixel"], "image")["bits_per_pixel"]
    metric.update(trip(torch.zeros(2, 2, 2, 3, dtype=torch.int64), 4))
    assert metric.compute() == pytest.approx(2 * 4 * 3 * 2 / (2 * 32))


def test_halves_merge_to_the_whole() -> None:
    tokens = torch.randint(0, 9, (6, 2, 2, 1), generator=torch.Generator().manual_seed(0))
    whole, first, second = (build_metrics(["bits_per_pixel_empirical"], "image") for _ in range(3))
    name = "bits_per_pixel_empirical"
    whole[name].update(trip(tokens, 9))
    first[name].update(trip(tokens[:2], 9))
    second[name].update(trip(tokens[2:], 9))
    first[name].state = merge_states([first[name].state, second[name].state])
    assert first[name].compute() == pytest.approx(whole[name].compute(), rel=1e-12)


def test_nothing_seen_is_not_a_number() -> None:
    assert math.isnan(build_metrics(["bits_per_pixel"], "image")["bits_per_pixel"].compute())


def test_sound_is_rated_in_kilobits_per_second() -> None:
    metrics = build_metrics(["kbps", "kbps_empirical"], "audio")
    sound = torch.zeros(2, 1, 8000)
    tokens = torch.tensor([0, 0, 0, 1]).repeat(2).reshape(2, 4, 1)
    for metric in metrics.values():
        metric.update(RoundTrip(sound, sound, tokens, 16, 16_000))
    # Two clips of half a second, eight tokens of four bits in all.
    assert metrics["kbps"].compute() == pytest.approx(0.032)
    bits = 6 * math.log2(4 / 3) + 2 * math.log2(4)
    assert metrics["kbps_empirical"].compute() == pytest.approx(bits / 1000)
