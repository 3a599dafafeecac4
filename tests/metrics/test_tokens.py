"""Usage, perplexity, CVU, entropy and rates: by hand, against scipy, over the whole set, for enormous codebooks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tokcli.contracts import RoundTrip
from tokcli.metrics import METRICS, build_metrics, merge_states
from tokcli.metrics import tokens as token_metrics
from tokcli.metrics.tokens import count_tokens, empirical_bits, entropy, entropy_bits, packed_bits

NAMES = ["usage", "perplexity", "cvu", "entropy_bits_per_token"]


def round_trip(tokens: torch.Tensor | None, codebook_size: int, items: int = 1) -> RoundTrip:
    signal = torch.zeros(items, 3, 4, 4)
    return RoundTrip(signal, signal, tokens, codebook_size)


def count(name: str, *batches: torch.Tensor, codebook_size: int):
    metric = METRICS.build({"kind": name})
    for tokens in batches:
        metric.update(round_trip(tokens, codebook_size, len(tokens)))
    return metric


def figures(tokens: torch.Tensor, codebook_size: int) -> list[float]:
    return [count(name, tokens, codebook_size=codebook_size).compute() for name in NAMES]


def test_hand_counted_tokens() -> None:
    # Frequencies 1/2, 1/4, 1/4 of a codebook of 8: H = 1.5 bits, exp(H) = 2^1.5.
    tokens = torch.tensor([[0, 0, 5, 7]]).unsqueeze(-1)
    assert figures(tokens, 8) == pytest.approx([3 / 8, 2**1.5, 2**1.5 / 8, 1.5])


def test_a_uniform_codebook_and_a_collapsed_one() -> None:
    assert figures(torch.arange(16).view(1, 4, 4, 1), 16) == pytest.approx([1, 16, 1, 4])
    assert figures(torch.full((1, 4, 4, 1), 3), 16) == [1 / 16, 1, 1 / 16, 0]


@given(st.lists(st.integers(0, 19), min_size=1, max_size=200))
def test_the_figures_agree_with_scipy(codes) -> None:
    counts = np.bincount(codes, minlength=20)
    nats = stats.entropy(counts)
    expected = [(counts > 0).mean(), math.exp(nats), math.exp(nats) / 20, stats.entropy(counts, base=2)]
    assert figures(torch.tensor(codes).view(1, -1, 1), 20) == pytest.approx(expected, abs=1e-12)


def test_groups_are_judged_apart_and_averaged() -> None:
    # The first group alternates between two codes, the second keeps to one: perplexities 2 and 1.
    tokens = torch.tensor([[[0, 3], [1, 3]], [[0, 3], [1, 3]]])
    assert figures(tokens, 4) == pytest.approx([(2 / 4 + 1 / 4) / 2, 1.5, 1.5 / 4, 0.5])


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_merged_halves_are_the_whole(name, dense, monkeypatch) -> None:
    monkeypatch.setattr(token_metrics, "DENSE_CODES", 2**20 if dense else 1)
    tokens = torch.randint(0, 50, (6, 3, 5, 2), generator=torch.Generator().manual_seed(0))
    whole = count(name, tokens, codebook_size=50)
    halves = [count(name, part, codebook_size=50) for part in tokens.split([2, 4])]
    idle = METRICS.build({"kind": name})
    merged = METRICS.build({"kind": name})
    merged.state = merge_states([idle.state, *[half.state for half in halves]])
    assert merged.compute() == pytest.approx(whole.compute(), rel=1e-12)
    assert merged.tokens_counted == whole.tokens_counted == 180
    assert count(name, *tokens.split(1), codebook_size=50).compute() == pytest.approx(whole.compute(), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_sparse_and_dense_counts_give_the_same_figure(name, monkeypatch) -> None:
    batches = torch.randint(0, 300, (5, 4, 20, 3), generator=torch.Generator().manual_seed(0)).split(1)
    dense = count(name, *batches, codebook_size=300)
    monkeypatch.setattr(token_metrics, "DENSE_CODES", 100)
    monkeypatch.setattr(token_metrics, "PENDING_TOKENS", 70)
    sparse = count(name, *batches, codebook_size=300)
    assert sparse.state["counts"].is_sparse
    assert not dense.state["counts"].is_sparse
    assert sparse.compute() == pytest.approx(dense.compute(), rel=1e-12)
    assert sparse.state["counts"]._nnz() < 5 * 4 * 20 * 3, "the counts were never tallied"


def test_a_codebook_of_two_to_the_31_is_counted_in_the_memory_of_its_tokens() -> None:
    last = 2**31 - 1
    metric = count("perplexity", torch.tensor([[[0, last], [last, last]]]), codebook_size=2**31)
    assert metric.compute() == pytest.approx((2 + 1) / 2)
    assert metric.state["counts"]._nnz() == 4


def test_too_few_tokens_are_flagged() -> None:
    tokens = torch.zeros(1, 39, 1, dtype=torch.int64)
    metric = count("cvu", tokens, codebook_size=4)
    assert (metric.tokens_counted, metric.undersampled) == (39, True)
    metric.update(round_trip(tokens[:, :1], 4))
    assert (metric.tokens_counted, metric.undersampled) == (40, False)
    expected = {"tokens": 40, "codebook_size": 4, "groups": 1, "undersampled": False}
    assert metric.protocol() == {**expected, "average": "per group, over the whole set"}


def test_the_flag_looks_at_the_tokens_of_each_group() -> None:
    assert count("cvu", torch.zeros(1, 39, 2, dtype=torch.int64), codebook_size=4).undersampled


def test_items_without_tokens_are_counted_as_unscored() -> None:
    metric = METRICS.build({"kind": "usage"})
    metric.update(round_trip(None, 4, items=3))
    assert metric.unscored == 3
    assert math.isnan(metric.compute())
    metric.update(round_trip(torch.zeros(1, 2, 1, dtype=torch.int64), 4))
    assert (metric.compute(), metric.unscored) == (0.25, 3)


def test_a_token_beyond_the_codebook_is_not_counted_for_another_group() -> None:
    with pytest.raises(RuntimeError, match="out of bounds"):
        count("usage", torch.tensor([[[4, 0]]]), codebook_size=4)


def test_counts_of_different_codebooks_do_not_merge() -> None:
    tokens = torch.zeros(1, 2, 1, dtype=torch.int64)
    states = [count("usage", tokens, codebook_size=size).state for size in (4, 8)]
    with pytest.raises(ValueError, match=r"'counts' has the shapes \(1, 4\) and \(1, 8\)"):
        merge_states(states)


def test_codes_that_never_occur_do_not_change_the_entropy() -> None:
    assert (
        entropy(torch.tensor([0, 2, 0, 1, 1])) == entropy(torch.tensor([2, 1, 1])) == pytest.approx(1.5 * math.log(2))
    )


@pytest.mark.parametrize("dense", [True, False])
def test_bits_of_counts_by_hand(dense, monkeypatch) -> None:
    monkeypatch.setattr(token_metrics, "DENSE_CODES", 2**20 if dense else 1)
    # Two groups of four tokens: one alternates between two codes, the other keeps to one.
    counts = count_tokens(torch.tensor([[0, 3], [1, 3], [0, 3], [1, 3]])[None], 16)
    assert counts.is_sparse is not dense
    assert packed_bits(counts) == 2 * 4 * 4
    assert empirical_bits(counts) == pytest.approx(4 * 1 + 4 * 0)
    assert entropy_bits(counts) == pytest.approx(0.5)


def images(tokens: torch.Tensor, codebook_size: int) -> RoundTrip:
    blank = torch.zeros(tokens.shape[0], 3, 4, 8)
    return RoundTrip(blank, blank, tokens, codebook_size)


def test_packed_tokens_cost_log2_k_and_frequencies_can_cost_less() -> None:
    metrics = build_metrics(["bits_per_pixel", "bits_per_pixel_empirical"], "image")
    tokens = torch.tensor([0, 0, 0, 1]).reshape(1, 2, 2, 1)
    for metric in metrics.values():
        metric.update(images(tokens, 16))
    assert metrics["bits_per_pixel"].compute() == pytest.approx(4 * 4 / 32)
    bits = 3 * math.log2(4 / 3) + math.log2(4)
    assert metrics["bits_per_pixel_empirical"].compute() == pytest.approx(bits / 32)


def test_every_group_of_a_position_costs() -> None:
    metric = build_metrics(["bits_per_pixel"], "image")["bits_per_pixel"]
    metric.update(images(torch.zeros(2, 2, 2, 3, dtype=torch.int64), 4))
    assert metric.compute() == pytest.approx(2 * 4 * 3 * 2 / (2 * 32))


def test_halves_merge_to_the_whole() -> None:
    tokens = torch.randint(0, 9, (6, 2, 2, 1), generator=torch.Generator().manual_seed(0))
    whole, first, second = (build_metrics(["bits_per_pixel_empirical"], "image") for _ in range(3))
    name = "bits_per_pixel_empirical"
    whole[name].update(images(tokens, 9))
    first[name].update(images(tokens[:2], 9))
    second[name].update(images(tokens[2:], 9))
    first[name].state = merge_states([first[name].state, second[name].state])
    assert first[name].compute() == pytest.approx(whole[name].compute(), rel=1e-12)


def test_nothing_seen_is_not_a_number() -> None:
    assert math.isnan(build_metrics(["bits_per_pixel"], "image")["bits_per_pixel"].compute())


def test_audio_is_rated_in_kilobits_per_second() -> None:
    metrics = build_metrics(["kbps", "kbps_empirical"], "audio")
    sound = torch.zeros(2, 1, 8000)
    tokens = torch.tensor([0, 0, 0, 1]).repeat(2).reshape(2, 4, 1)
    for metric in metrics.values():
        metric.update(RoundTrip(sound, sound, tokens, 16, 16_000))
    # Two clips of half a second, eight tokens of four bits in all.
    assert metrics["kbps"].compute() == pytest.approx(0.032)
    bits = 6 * math.log2(4 / 3) + 2 * math.log2(4)
    assert metrics["kbps_empirical"].compute() == pytest.approx(bits / 1000)
