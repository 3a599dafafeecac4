"""Usage, perplexity, CVU and entropy: by hand, against scipy, over the whole set, in groups, for enormous codebooks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tokcli.contracts import RoundTrip
from tokcli.metrics import METRICS, entropy, merge_states, packed_bits
from tokcli.metrics import tokens as token_metrics

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


def test_packed_bits() -> None:
    assert packed_bits(1024, 1) == 10
    assert packed_bits(1000, 2) == pytest.approx(2 * 9.965784284662087)
