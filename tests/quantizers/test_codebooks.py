"""Lloyd–Max levels against known optima."""

import math

import torch

from tokcli.quantizers.codebooks import lloyd_max, thresholds_between


def squared_error(samples: torch.Tensor, levels: torch.Tensor) -> float:
    return float((samples.unsqueeze(-1) - levels).square().amin(dim=-1).mean())


def test_two_clusters_get_their_means() -> None:
    samples = torch.tensor([0.1, 0.2, 0.3, 0.8, 0.9, 1.0])
    torch.testing.assert_close(lloyd_max(samples, 2), torch.tensor([0.2, 0.9], dtype=torch.float64))


def test_a_uniform_source_gets_the_centres_of_equal_cells() -> None:
    samples = (torch.arange(10_000) + 0.5) / 10_000
    torch.testing.assert_close(
        lloyd_max(samples, 5), torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64), rtol=0, atol=1e-3
    )


def test_a_gaussian_gets_the_levels_of_max_1960() -> None:
    # Max (1960), table I, N = 4: levels ±0.4528 and ±1.510 of a unit Gaussian; here mapped affinely into [0, 1].
    quantiles = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    samples = 0.5 + torch.special.ndtri(quantiles) / 10
    expected = 0.5 + torch.tensor([-1.510, -0.4528, 0.4528, 1.510], dtype=torch.float64) / 10
    torch.testing.assert_close(lloyd_max(samples, 4), expected, rtol=0, atol=1e-4)


def test_levels_are_means_of_their_cells_and_better_than_uniform_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.rand(5000, generator=generator).pow(3)
    levels = lloyd_max(samples, 8)
    cells = torch.bucketize(samples.double(), thresholds_between(levels), right=True)
    means = torch.stack([samples[cells == i].double().mean() for i in range(8)])
    torch.testing.assert_close(levels, means, rtol=0, atol=1e-4)
    uniform = (torch.arange(8) + 0.5) / 8
    assert squared_error(samples, levels) < 0.7 * squared_error(samples, uniform)


def test_a_gap_without_samples_keeps_levels_distinct() -> None:
    samples = torch.cat([torch.full((100,), 0.01), torch.full((100,), 0.99)])
    levels = lloyd_max(samples, 5)
    assert levels.isfinite().all()
    assert (levels.diff() > 0).all()
    assert math.isclose(float(levels[0]), 0.01, rel_tol=1e-6)
