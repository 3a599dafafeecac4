"""k-means: by hand, against plain Lloyd from k-means++, and in the awkward cases."""

import pytest
import torch
from torch import Tensor

from tokcli.quantizers.kmeans import kmeans
from tokcli.search import nearest_code


def mixture(count: int, dim: int, seed: int) -> Tensor:
    """Eight Gaussian clouds of different widths."""
    generator = torch.Generator().manual_seed(seed)
    shape = torch.Generator().manual_seed(99)
    means, widths = torch.randn(8, dim, generator=shape), 0.1 + torch.rand(8, 1, generator=shape)
    cloud = torch.randint(8, (count,), generator=generator)
    return means[cloud] + widths[cloud] * torch.randn(count, dim, generator=generator)


def error(latents: Tensor, centres: Tensor) -> float:
    return float((latents - centres[nearest_code(latents, centres)]).double().square().sum(1).mean())


def reference_kmeans(latents: Tensor, size: int, seed: int, iterations: int = 100) -> Tensor:
    """k-means++ one centre at a time over all latents, then Lloyd."""
    generator = torch.Generator().manual_seed(seed)
    centres = latents[torch.randint(len(latents), (1,), generator=generator)]
    costs = torch.full((len(latents),), float("inf"))
    while len(centres) < size:
        costs = torch.minimum(costs, (latents - centres[-1]).square().sum(1))
        centres = torch.cat([centres, latents[torch.multinomial(costs, 1, generator=generator)]])
    for _ in range(iterations):
        tokens = nearest_code(latents, centres)
        counts = torch.bincount(tokens, minlength=size).clamp_min(1).unsqueeze(1)
        centres = torch.zeros_like(centres).index_add_(0, tokens, latents) / counts
    return centres


def test_two_pairs_of_points_have_two_centres() -> None:
    latents = torch.tensor([[0.0, 0.0], [0.0, 2.0], [9.0, 0.0], [9.0, 2.0]])
    result = kmeans(latents, 2)
    assert sorted(result.centres.tolist()) == [[0.0, 1.0], [9.0, 1.0]]
    assert result.counts.tolist() == [2, 2]
    assert result.mse == pytest.approx(1.0)


def test_one_centre_is_the_mean_and_as_many_as_samples_are_the_samples() -> None:
    latents = mixture(20, 3, seed=0)
    torch.testing.assert_close(kmeans(latents, 1).centres[0], latents.mean(0))
    result = kmeans(latents, 20)
    assert result.mse == 0
    assert result.counts.tolist() == [1] * 20


@pytest.mark.parametrize("dim", [3, 12])
def test_the_result_describes_the_centres(dim: int) -> None:
    latents = mixture(3000, dim, seed=1)
    result = kmeans(latents, 40)
    tokens = nearest_code(latents, result.centres)
    torch.testing.assert_close(result.counts, torch.bincount(tokens, minlength=40))
    assert result.mse == pytest.approx(error(latents, result.centres), rel=1e-6)
    assert result.centres.dtype == torch.float32


@pytest.mark.parametrize("dim", [3, 12])
def test_no_worse_than_full_kmeans_plus_plus_and_lloyd(dim: int) -> None:
    """Medians of three starts; 1 % allowed on the held-out latents, where the medians themselves vary by as much."""
    latents, held_out = mixture(4000, dim, seed=2), mixture(4000, dim, seed=3)
    reference = [reference_kmeans(latents, 64, seed) for seed in range(3)]
    ours = [kmeans(latents, 64, seed=seed).centres for seed in range(3)]

    def median(samples: Tensor, centres: list[Tensor]) -> float:
        return sorted(error(samples, each) for each in centres)[1]

    assert median(latents, ours) <= median(latents, reference)
    assert median(held_out, ours) <= 1.01 * median(held_out, reference)


def test_one_weighted_centre_is_the_weighted_mean() -> None:
    latents, weights = mixture(50, 3, seed=0), torch.rand(50, generator=torch.Generator().manual_seed(1)) + 0.1
    mean = (latents * weights.unsqueeze(1)).sum(0) / weights.sum()
    torch.testing.assert_close(kmeans(latents, 1, weights=weights).centres[0], mean)


def test_weights_count_as_so_many_samples_and_their_unit_does_not_matter() -> None:
    latents = mixture(600, 3, seed=7)
    times = torch.randint(1, 5, (600,), generator=torch.Generator().manual_seed(2))
    result = kmeans(latents, 12, weights=times.double())
    repeated = latents.repeat_interleave(times, dim=0)
    tokens = nearest_code(repeated, result.centres)
    means = torch.stack([repeated[tokens == code].mean(0) for code in range(12)])
    torch.testing.assert_close(result.centres, means, atol=2e-2, rtol=0)  # no pass moves them but by the tolerance
    assert result.mse == pytest.approx(error(latents, result.centres), rel=1e-6)
    assert int(result.counts.sum()) == 600
    doubled = kmeans(latents, 12, weights=2.0 * times)
    torch.testing.assert_close(doubled.centres, result.centres, rtol=0, atol=0)
    same = kmeans(latents, 12, weights=torch.full((600,), 4.0))
    torch.testing.assert_close(same.centres, kmeans(latents, 12).centres, rtol=0, atol=0)


def test_a_heavy_cloud_gets_more_codes() -> None:
    latents = torch.cat([mixture(500, 2, seed=8), mixture(500, 2, seed=9) + 100])
    heavy = torch.cat([torch.full((500,), 9.0), torch.ones(500)])
    near, nearer = (int((kmeans(latents, 40, weights=each).centres[:, 0] < 50).sum()) for each in (None, heavy))
    assert 14 <= near <= 26
    assert nearer >= near + 6


def test_a_seed_fixes_the_centres_and_another_seed_does_not() -> None:
    latents = mixture(2000, 4, seed=4)
    first, again, other = (kmeans(latents, 32, seed=seed).centres for seed in (0, 0, 1))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)


def test_codes_reach_a_far_small_cloud_and_duplicates_do_not_break_it() -> None:
    latents = torch.cat([torch.zeros(500, 2), torch.randn(20, 2, generator=torch.Generator().manual_seed(5)) + 50])
    result = kmeans(latents, 16)
    assert bool(result.centres.isfinite().all())
    assert int((result.centres[:, 0] > 25).sum()) >= 10
    assert int(result.counts.sum()) == 520


def test_a_looser_tolerance_stops_earlier_and_the_limit_holds() -> None:
    latents = mixture(3000, 3, seed=6)
    assert kmeans(latents, 64, tolerance=1e-2).iterations < kmeans(latents, 64, tolerance=1e-5).iterations
    assert kmeans(latents, 64, max_iterations=5).iterations == 5


def test_too_few_or_broken_latents_are_refused() -> None:
    with pytest.raises(ValueError, match="3 latents cannot give 4 centres"):
        kmeans(torch.zeros(3, 2), 4)
    with pytest.raises(ValueError, match="not finite"):
        kmeans(torch.tensor([[float("nan")], [0.0]]), 1)
