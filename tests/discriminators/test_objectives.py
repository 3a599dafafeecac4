"""The losses of an adversarial game against numbers worked out by hand, and where their gradients point."""

import math

import pytest
import torch
from torch.nn import functional

from tokcli.discriminators.objectives import LogitMeans, discriminator_loss, generator_loss, lecam_penalty

ORIGINAL = torch.tensor([2.0, 0.5, -1.0])
RECONSTRUCTED = torch.tensor([-3.0, 0.0])


def test_the_hinge_asks_for_a_margin_of_one_on_both_sides() -> None:
    # originals miss by 0, 0.5, 2; reconstructions by 0, 1
    expected = ((0 + 0.5 + 2) / 3 + (0 + 1) / 2) / 2
    assert discriminator_loss("hinge", ORIGINAL, RECONSTRUCTED).item() == pytest.approx(expected)


def test_the_logistic_game_is_a_binary_cross_entropy() -> None:
    expected = (
        functional.binary_cross_entropy_with_logits(ORIGINAL, torch.ones(3))
        + functional.binary_cross_entropy_with_logits(RECONSTRUCTED, torch.zeros(2))
    ) / 2
    assert discriminator_loss("logistic", ORIGINAL, RECONSTRUCTED).item() == pytest.approx(expected.item())


def test_the_generators_losses_by_hand() -> None:
    assert generator_loss("hinge", RECONSTRUCTED).item() == pytest.approx(1.5)
    expected = (math.log(1 + math.exp(3)) + math.log(2)) / 2
    assert generator_loss("non-saturating", RECONSTRUCTED).item() == pytest.approx(expected)


def test_least_squares_by_hand() -> None:
    # originals miss 1 by -1, .5 and 2; reconstructions miss 0 by -3 and 0
    expected = ((1 + 0.25 + 4) / 3 + 9 / 2) / 2
    assert discriminator_loss("least-squares", ORIGINAL, RECONSTRUCTED).item() == pytest.approx(expected)
    assert generator_loss("least-squares", RECONSTRUCTED).item() == pytest.approx((16 + 1) / 2)


@pytest.mark.parametrize("kind", ["non-saturating", "hinge"])
def test_the_generator_always_pushes_its_logits_up(kind: str) -> None:
    logits = torch.tensor([-30.0, 0.0, 2.0], requires_grad=True)
    generator_loss(kind, logits).backward()
    assert (logits.grad < 0).all()
    # A rejected reconstruction never pulls less than one that passes: the game does not saturate at its start.
    assert logits.grad[0] <= logits.grad[2]


@pytest.mark.parametrize("kind", ["hinge", "logistic", "least-squares"])
def test_the_discriminator_pulls_the_two_sides_apart(kind: str) -> None:
    original, reconstructed = torch.full((2,), 0.5, requires_grad=True), torch.full((4,), 0.5, requires_grad=True)
    discriminator_loss(kind, original, reconstructed).backward()
    assert (original.grad < 0).all()
    assert (reconstructed.grad > 0).all()


def test_lecam_by_hand_and_its_pull() -> None:
    means = LogitMeans()
    means.update(torch.tensor(100.0), torch.tensor(-200.0))
    assert means.original.item() == pytest.approx(1.0)
    assert means.reconstructed.item() == pytest.approx(-2.0)
    original = torch.tensor([1.0, -3.0], requires_grad=True)
    reconstructed = torch.tensor([0.0, 2.0], requires_grad=True)
    # originals above the reconstructions' mean by 3 and 0; reconstructions below the originals' mean by 1 and 0
    penalty = lecam_penalty(original, reconstructed, means)
    assert penalty.item() == pytest.approx(9 / 2 + 1 / 2)
    penalty.backward()
    assert original.grad.tolist() == [3.0, 0.0]
    assert reconstructed.grad.tolist() == [-1.0, 0.0]


def test_running_means_are_part_of_the_state() -> None:
    assert set(LogitMeans().state_dict()) == {"original", "reconstructed"}
