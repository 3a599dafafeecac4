"""The laws: each activation is a distribution function, its inverse undoes it and is finite at both ends."""

from typing import get_args

import pytest
import scipy.stats
import torch

from tokcli.quantizers.fsp import ACTIVATIONS, ActivationName

LAWS = {
    "tanh": scipy.stats.logistic(scale=0.5),
    "normal": scipy.stats.norm(),
    "laplace": scipy.stats.laplace(),
    "sigmoid": scipy.stats.logistic(),
    "cauchy": scipy.stats.cauchy(),
    "uniform": scipy.stats.uniform(loc=-(3**0.5), scale=12**0.5),
}

every_law = pytest.mark.parametrize("name", list(LAWS))


def test_the_names_of_recipes_are_those_of_the_table() -> None:
    assert set(get_args(ActivationName)) == set(ACTIVATIONS) == set(LAWS)


@every_law
def test_an_activation_is_the_distribution_function_of_its_law(name: str) -> None:
    points = torch.linspace(-8, 8, 101, dtype=torch.float64)
    expected = torch.from_numpy(LAWS[name].cdf(points.numpy()))
    torch.testing.assert_close(ACTIVATIONS[name].to_unit(points), expected)


def test_tanh_is_as_published() -> None:
    points = torch.linspace(-3, 3, 61, dtype=torch.float64)
    torch.testing.assert_close(ACTIVATIONS["tanh"].to_unit(points), (points.tanh() + 1) / 2)


@every_law
def test_the_variance_is_that_of_the_law(name: str) -> None:
    if name == "cauchy":
        assert ACTIVATIONS[name].variance is None
    else:
        assert ACTIVATIONS[name].variance == pytest.approx(LAWS[name].var())


@every_law
def test_the_inverse_undoes_the_activation(name: str) -> None:
    unit = torch.linspace(0.001, 0.999, 999)
    inverse = ACTIVATIONS[name].from_unit(unit)
    torch.testing.assert_close(inverse, torch.from_numpy(LAWS[name].ppf(unit.numpy())).float(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ACTIVATIONS[name].to_unit(inverse), unit, rtol=0, atol=1e-6)


@every_law
def test_the_inverse_is_finite_and_increasing_up_to_both_ends(name: str) -> None:
    ends = ACTIVATIONS[name].from_unit(torch.tensor([0.0, 1e-3, 0.5, 1 - 1e-3, 1.0]))
    assert ends.isfinite().all()
    assert (ends.diff() > 0).all()


@every_law
def test_the_slope_is_the_density_zero_included(name: str) -> None:
    points = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(ACTIVATIONS[name].to_unit(points).sum(), points)
    torch.testing.assert_close(slope, torch.from_numpy(LAWS[name].pdf(points.detach().numpy())))


@every_law
def test_the_slope_is_finite_far_out(name: str) -> None:
    points = torch.tensor([-1e4, 1e4], requires_grad=True)
    (slope,) = torch.autograd.grad(ACTIVATIONS[name].to_unit(points).sum(), points)
    assert slope.isfinite().all()
