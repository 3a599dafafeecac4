"""Evenness: the density of codes follows its law, and use, error and entropy go where the page says they go."""

import math

import pytest
import torch
from torch import Tensor

from tokcli.contracts import BuildsCodebook
from tokcli.errors import UsageError
from tokcli.quantizers import QUANTIZERS
from tokcli.quantizers.evenness import weigh_latents
from tokcli.quantizers.kmeans import kmeans


def normal(count: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def fit(latents: Tensor, size: int, evenness: float) -> tuple[Tensor, float, float]:
    """The codes, their error, and the entropy of their use in bits."""
    result = kmeans(latents, size, weights=weigh_latents(latents, size, evenness, seed=0))
    shares = result.counts[result.counts > 0].double() / len(latents)
    return result.centres, result.mse, float(-(shares * shares.log2()).sum())


@pytest.mark.parametrize("evenness", [0.0, 0.5, 1.0])
def test_codes_of_a_normal_are_normal_with_the_variance_of_the_law(evenness: float) -> None:
    """p^a of N(0, 1) is N(0, 1/a), and a = (1 + 2E)/3 in one dimension."""
    codes, _, _ = fit(normal(200_000, 1), 128, evenness)
    assert float(codes.var()) == pytest.approx(3 / (1 + 2 * evenness), rel=0.15)


def test_at_minus_half_a_dimension_codes_lie_equally_far_apart() -> None:
    def spread(evenness: float) -> float:
        gaps = fit(normal(200_000, 1), 64, evenness)[0][:, 0].sort().values.diff()[4:-4]
        return float(gaps.max() / gaps.min())

    assert spread(-0.5) < 2
    assert spread(0.0) > 2.5


@pytest.mark.parametrize("dim", [2, 4])
def test_the_more_even_the_more_bits_and_zero_errs_least(dim: int) -> None:
    latents = normal(20_000, dim)
    found = {evenness: fit(latents, 128, evenness) for evenness in (-1.0, 0.0, 0.5, 1.0)}
    entropies = [entropy for _, _, entropy in found.values()]
    assert entropies == sorted(entropies)
    assert min(found.values(), key=lambda each: each[1]) is found[0.0]
    assert found[1.0][2] > 0.98 * math.log2(128)


def test_below_zero_the_same_error_costs_fewer_bits() -> None:
    """Against a smaller codebook that errs as much with least error for its size; heavy tails show it best."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.distributions.Laplace(0.0, 1.0).icdf(torch.rand(200_000, 1, generator=generator) * 0.999 + 5e-4)
    _, error, entropy = fit(latents, 64, -0.5)
    _, least, paid = fit(latents, 48, 0.0)
    assert error < 1.02 * least
    assert entropy < paid - 0.15


def test_latents_that_coincide_break_nothing() -> None:
    silent = torch.cat([torch.zeros(500, 3), normal(500, 3)])
    weights = weigh_latents(silent, 16, 1.0, seed=0)
    assert weights is not None
    assert bool(weights.isfinite().all())
    assert bool((weights > 0).all())
    assert weigh_latents(torch.zeros(50, 3), 4, 1.0, seed=0) is None
    assert weigh_latents(silent, 16, 0.0, seed=0) is None


BUILDERS = [
    {"kind": "vq", "dim": 3, "codebook_size": 16},
    {"kind": "simvq", "dim": 3, "codebook_size": 16},
    {"kind": "vpvae", "dim": 3, "codebook_size": 16, "neighbours_per_code": 8},
    {"kind": "nsvq", "dim": 3, "codebook_size": 16},
    {"kind": "fsp", "levels": [4, 3, 2]},
    {"kind": "residual", "of": {"kind": "vpvae", "dim": 3, "codebook_size": 16}, "depth": 2},
    {"kind": "grouped", "of": {"kind": "nsvq", "dim": 3, "codebook_size": 16}, "groups": 2},
]


def build(node: dict) -> BuildsCodebook:
    quantizer = QUANTIZERS.build(node)
    assert isinstance(quantizer, BuildsCodebook)
    return quantizer.eval()


@pytest.mark.parametrize("node", BUILDERS, ids=lambda node: node["kind"])
def test_every_quantizer_that_fits_codes_can_be_asked_for_evenness(node: dict) -> None:
    quantizer = build(node)
    latents = normal(4000, quantizer.input_dim)
    plain = quantizer.build_codebook(latents, 32)
    even = quantizer.build_codebook(latents, 32, evenness=1.0)
    assert (plain.evenness, even.evenness) == (0.0, 1.0)
    assert plain.perplexity < even.perplexity
    assert plain.mse < even.mse


@pytest.mark.parametrize(
    ("node", "size", "said"),
    [
        ({"kind": "fsp", "levels": [4, 3, 2]}, None, "FSP's 24 codes are the crossings of its levels"),
        ({"kind": "tokenbridge", "dim": 2, "bins": 4}, None, "TokenBridge's bins hold equal shares"),
        ({"kind": "residual", "of": {"kind": "tokenbridge", "dim": 2, "bins": 4}, "depth": 2}, None, "equal shares"),
        ({"kind": "vq", "dim": 3, "codebook_size": 16}, 1, "at least 2 codes, got --size 1"),
        ({"kind": "tokenbridge", "dim": 2, "bins": 4}, 20, "no other size, got 20"),
    ],
    ids=["fsp", "tokenbridge", "residual", "one code", "size"],
)
def test_what_no_latents_can_give_is_refused_before_there_are_any(node: dict, size: int | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build(node).require_possible(size, 0.5)


@pytest.mark.parametrize("evenness", [-3.5, 1.5, math.nan])
def test_an_evenness_beyond_the_range_is_refused(evenness: float) -> None:
    quantizer = build(BUILDERS[0])
    with pytest.raises(UsageError, match="evenness: expected -3 to 1, got"):
        quantizer.build_codebook(normal(100, 3), 8, evenness=evenness)
