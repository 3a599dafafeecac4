"""The perturbation: eqs. 4 to 8 by hand, and the density that they keep.

Power of the density tests. The Kolmogorov-Smirnov distance (KS) between 8,000 perturbed samples and 100,000 fresh ones
exceeds 0.019 once in a hundred cases when both have the same distribution. So a bound of 0.02 sees one sample in
fifty in the wrong place; where the density itself is estimated from neighbours, the bounds say how far it may be off.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tokcli.quantizers.vpvae import Surroundings, acceptance, perturb, propose
from tokcli.search import build_live_index

SAMPLES = 8_000


def gaussian(count: int) -> Tensor:
    return torch.randn(count, 2)


def mixture_with_a_gap(count: int) -> Tensor:
    centre = torch.where(torch.rand(count, 1) < 0.3, -2.0, 2.0) * torch.tensor([1.0, 0.0])
    return centre + 0.4 * torch.randn(count, 2)


def ball(count: int) -> Tensor:
    direction = torch.randn(count, 3)
    return direction / direction.norm(dim=1, keepdim=True) * torch.rand(count, 1) ** (1 / 3)


def ring(count: int) -> Tensor:
    angle = 2 * math.pi * torch.rand(count)
    return (2 + 0.2 * torch.randn(count)).unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], dim=1)


def ks_distance(sample: Tensor, reference: Tensor) -> float:
    """Largest difference between two distribution functions."""
    places = torch.cat([sample, reference]).sort().values
    shares = [torch.searchsorted(s.sort().values, places, right=True) / len(s) for s in (sample, reference)]
    return float((shares[0] - shares[1]).abs().max())


def mismatch(sample: Tensor, reference: Tensor) -> float:
    """The worst KS distance over the radius and every coordinate."""
    marginals = [ks_distance(sample[:, axis], reference[:, axis]) for axis in range(sample.shape[1])]
    return max(*marginals, ks_distance(sample.norm(dim=1), reference.norm(dim=1)))


def from_neighbours(queue: Tensor, codes: int) -> Callable[[Tensor], Surroundings]:
    index = build_live_index(queue)
    return lambda points: Surroundings(*index.kth_distances(points, (8, len(queue) // codes)).unbind(1))


def test_acceptance_by_hand() -> None:
    """dim 2. Density radii 1 and 2, cell radii 3 and 2: (1·3 / (2·2))² = 0.5625, and back is in reach at length 2.

    The second goes to a denser place, (1·3 / (0.5·2))² = 9, capped at 1. From the third, back is out of reach.
    """
    here = Surroundings(torch.tensor([1.0, 1.0, 1.0]), torch.tensor([3.0, 3.0, 3.0]))
    there = Surroundings(torch.tensor([2.0, 0.5, 2.0]), torch.tensor([2.0, 2.0, 2.0]))
    chance = acceptance(here, there, torch.tensor([2.0, 1.0, 2.1]), eta=1.0, dim=2)
    torch.testing.assert_close(chance, torch.tensor([0.5625, 1.0, 0.0]))
    farther = acceptance(here, there, torch.tensor([2.0, 1.0, 2.1]), eta=1.1, dim=2)
    torch.testing.assert_close(farther, torch.tensor([0.5625, 1.0, 0.5625]))


def test_where_latents_coincide_the_chance_stays_a_number() -> None:
    radii = torch.tensor([0.0, 0.0, 1.0])
    here, there = Surroundings(radii, torch.ones(3)), Surroundings(torch.tensor([0.0, 1.0, 0.0]), torch.ones(3))
    chance = acceptance(here, there, torch.zeros(3), eta=1.0, dim=4)
    assert chance.tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("dim", [1, 3, 5])
def test_proposals_fill_the_ball_evenly(dim: int) -> None:
    """(length / R)^dim is then uniform, and no direction is preferred."""
    torch.manual_seed(0)
    radius = 0.5 + torch.rand(SAMPLES)
    moves = propose(torch.full((SAMPLES, dim), 3.0), radius) - 3.0
    share = (moves.norm(dim=1) / radius).pow(dim)
    assert float(share.max()) <= 1 + 1e-5
    assert ks_distance(share, torch.rand(100_000)) < 0.02
    torch.testing.assert_close(moves.mean(0), torch.zeros(dim), atol=0.03, rtol=0)


@pytest.mark.parametrize("transitions", [1, 20])
def test_a_known_density_is_kept_exactly_whatever_the_radii(transitions: int) -> None:
    """Density e^(−‖z‖²/2), in place of the neighbours' estimate, and steps that are longer where it is thinner.

    Always accepting moves samples outwards: 20 steps leave one in five of them in the wrong place.
    """

    def surroundings(points: Tensor) -> Surroundings:
        square = points.square().sum(1)
        return Surroundings((square / 4).exp(), 0.3 + 0.2 * square.sqrt())

    torch.manual_seed(1)
    samples, fresh = gaussian(SAMPLES), gaussian(100_000)
    kept = perturb(samples, surroundings, 1.5, transitions=transitions)
    assert mismatch(kept.latents, fresh) < 0.02
    assert 0.5 < float(kept.accepted) < 0.99
    if transitions == 20:
        smeared = perturb(samples, surroundings, 1.5, transitions=transitions, accept=False)
        assert mismatch(smeared.latents, fresh) > 0.2


@pytest.mark.parametrize(
    ("density", "one_step"), [(gaussian, 0.02), (mixture_with_a_gap, 0.02), (ring, 0.02), (ball, 0.03)]
)
def test_a_step_keeps_the_density_that_the_queue_shows(density: Callable[[int], Tensor], one_step: float) -> None:
    """256 codes. The estimate rounds off the sharp edge of the ball, so that a little more leaks out there."""
    torch.manual_seed(2)
    dim = density(1).shape[1]
    surroundings = from_neighbours(density(256 * 16 * dim), codes=256)
    samples, fresh = density(SAMPLES), density(100_000)
    moved = perturb(samples, surroundings, 1.0)
    assert mismatch(moved.latents, fresh) < one_step
    torch.testing.assert_close(moved.latents.mean(0), fresh.mean(0), atol=0.04, rtol=0)
    torch.testing.assert_close(moved.latents.var(0), fresh.var(0), atol=0, rtol=0.06)
    assert 0.6 < float(moved.accepted) < 0.85


@pytest.mark.parametrize(
    ("density", "kept", "smeared"),
    [(gaussian, 0.04, 0.15), (mixture_with_a_gap, 0.03, 0.07), (ring, 0.07, 0.3), (ball, 0.17, 0.6)],
)
def test_ten_long_steps_without_the_test_smear_the_density(
    density: Callable[[int], Tensor], kept: float, smeared: float
) -> None:
    """32 codes and η = 2, to see clearly: with the test several times less mismatch than without."""
    torch.manual_seed(3)
    dim = density(1).shape[1]
    surroundings = from_neighbours(density(32 * 16 * dim), codes=32)
    samples, fresh = density(SAMPLES), density(100_000)
    with_test = perturb(samples, surroundings, 2.0, transitions=10)
    without = perturb(samples, surroundings, 2.0, transitions=10, accept=False)
    assert mismatch(with_test.latents, fresh) < kept
    assert mismatch(without.latents, fresh) > smeared


def test_the_gap_stays_empty() -> None:
    """Samples within 0.6 of the middle: one in 4,000 in truth; always accepting carries one in forty there."""
    torch.manual_seed(4)
    surroundings = from_neighbours(mixture_with_a_gap(32 * 32), codes=32)
    samples = mixture_with_a_gap(SAMPLES)

    def in_gap(moved: Tensor) -> float:
        return float((moved[:, 0].abs() < 0.6).float().mean())

    assert in_gap(perturb(samples, surroundings, 2.0, transitions=10).latents) < 0.01
    assert in_gap(perturb(samples, surroundings, 2.0, transitions=10, accept=False).latents) > 0.02


def test_displacement_counts_what_stayed_as_zero() -> None:
    """Nothing can be accepted where every proposal is infinitely less dense."""
    torch.manual_seed(5)
    start = torch.zeros(100, 2)

    def surroundings(points: Tensor) -> Surroundings:
        away = (points != 0).any(1)
        return Surroundings(torch.where(away, 1e9, 1e-9), torch.ones(len(points)))

    stayed = perturb(start, surroundings, 1.0)
    assert torch.equal(stayed.latents, start)
    assert float(stayed.accepted) == 0
    assert float(stayed.displacement) == 0
    moved = perturb(start, surroundings, 1.0, accept=False)
    assert float(moved.accepted) == 1
    assert float(moved.displacement) == pytest.approx(2 / 3, abs=0.1)
