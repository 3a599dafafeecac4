"""FSP by hand, against another implementation, its noise, its normaliser and its Lloyd–Max levels."""

import math

import pytest
import torch
from vector_quantize_pytorch.finite_scalar_perturbation import FSP

from tokcli.errors import UsageError
from tokcli.quantizers.fsp import FiniteScalarPerturbation

ROOT_12 = math.sqrt(12)
LAWS = ["tanh", "normal", "laplace", "sigmoid", "cauchy"]


def test_tokens_by_hand() -> None:
    quantizer = FiniteScalarPerturbation([4, 5])
    # u = (tanh a + 1)/2; levels ⌊4u⌋ and ⌊5u⌋.
    latents = torch.tensor([[-9.0, -9.0], [9.0, 9.0], [-0.01, 0.0], [0.01, math.atanh(0.7)]])
    tokens = quantizer.quantize(latents)
    assert tokens.flatten().tolist() == [0, 3 + 4 * 4, 1 + 4 * 2, 2 + 4 * 4]
    unit = torch.tensor([[1 / 8, 1 / 10], [7 / 8, 9 / 10], [3 / 8, 5 / 10], [5 / 8, 9 / 10]])
    torch.testing.assert_close(quantizer.dequantize(tokens), (unit - 0.5) * ROOT_12)


@pytest.mark.parametrize("activation", LAWS)
@pytest.mark.parametrize("decode", ["centered", "inverse"])
def test_tokens_codes_and_gradients_agree_with_vector_quantize_pytorch(activation: str, decode: str) -> None:
    torch.manual_seed(0)
    levels = [8, 5, 5, 3]
    quantizer = FiniteScalarPerturbation(levels, activation, quantize_rate=1.0, decode=decode).train()
    reference = FSP(levels, act_name=activation, quantize_rate=1.0, need_inv_act=decode == "inverse").train()
    latents = torch.randn(4, 500, 4).requires_grad_()
    output = quantizer(latents)
    codes, indices, _, _ = reference(latents)
    assert torch.equal(output.tokens.squeeze(-1), indices.long())
    torch.testing.assert_close(output.latents, codes, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(quantizer.dequantize(output.tokens), reference.indices_to_codes(indices))
    weights = torch.randn_like(codes)
    (ours,) = torch.autograd.grad((output.latents * weights).sum(), latents)
    (theirs,) = torch.autograd.grad((codes * weights).sum(), latents)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "preset"), [("tanh", "var_tanh"), ("normal", "var"), ("laplace", "var_laplace")]
)
def test_the_normaliser_agrees_with_vector_quantize_pytorch(activation: str, preset: str) -> None:
    torch.manual_seed(0)
    latents = 2 * torch.randn(1, 5000, 2) + 0.5
    _, _, expected, _ = FSP([5, 5], act_name=activation, vector_norm=preset)(latents)
    penalty = FiniteScalarPerturbation([5, 5], activation)(latents).loss
    # The reference divides the variance by n - 1 and rounds the law's variance to four digits.
    torch.testing.assert_close(penalty, expected, rtol=1e-3, atol=0)


def test_the_normaliser_by_hand() -> None:
    quantizer = FiniteScalarPerturbation([4, 4], "normal", mean_weight=0.1, variance_weight=0.07)
    latents = torch.tensor([[[1.0, 0.0], [3.0, 0.0]]])
    # Means 2, 0: (4 + 0)/2 = 2. Variances 1, 0 against 1: (0 + 1)/2 = 0.5.
    assert quantizer(latents).loss.item() == pytest.approx(0.1 * 2 + 0.07 * 0.5)


@pytest.mark.parametrize("activation", LAWS)
def test_the_normaliser_wants_what_makes_u_uniform(activation: str) -> None:
    quantizer = FiniteScalarPerturbation([4], activation)
    unit = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    uniform = quantizer.activation.from_unit(unit).float().unsqueeze(-1)
    here = quantizer(uniform).loss
    assert here < 1e-4
    assert quantizer(1.5 * uniform).loss > here + 1e-4
    assert quantizer(0.7 * uniform).loss > here + 1e-4


@pytest.mark.parametrize("activation", LAWS)
def test_a_uniform_latent_reaches_the_decoder_with_unit_variance(activation: str) -> None:
    torch.manual_seed(0)
    quantizer = FiniteScalarPerturbation([8], activation, quantize_rate=0.0).train()
    latents = quantizer.activation.from_unit(torch.rand(50_000, 1))
    assert quantizer(latents).latents.var().item() == pytest.approx(1, abs=0.02)


def test_the_mixture_rounds_half_and_moves_the_rest_by_a_level_at_most() -> None:
    torch.manual_seed(0)
    quantizer = FiniteScalarPerturbation([4], quantize_rate=0.5, eta=0.5).train()
    latents = torch.full((20_000, 1), math.atanh(0.2))  # u = 0.6, level 2, centre 0.625
    unit = quantizer(latents).latents / ROOT_12 + 0.5
    rounded = (unit - 0.625).abs() < 1e-6
    assert rounded.float().mean() == pytest.approx(0.5, abs=0.02)
    noise = unit[~rounded] - 0.6
    assert noise.abs().max() <= 0.5 / 8 + 1e-6
    assert noise.var().item() == pytest.approx((0.5 / 4) ** 2 / 12, rel=0.03)


def test_noise_that_would_leave_the_interval_is_dropped_in_that_dimension_alone() -> None:
    torch.manual_seed(0)
    quantizer = FiniteScalarPerturbation([2, 2], quantize_rate=0.0).train()
    latents = torch.tensor([math.atanh(-0.9), 0.0]).expand(20_000, 2)  # u = 0.05 and 0.5; noise up to 0.25
    unit = quantizer(latents).latents / ROOT_12 + 0.5
    assert unit.min() >= 0
    kept = (unit[:, 0] - 0.05).abs() < 1e-6
    # Dropped where the noise is under -0.05: 0.2 of a range of 0.5.
    assert kept.float().mean() == pytest.approx(0.4, abs=0.02)
    assert ((unit[:, 1] - 0.5).abs() < 1e-6).float().mean() < 0.01


def test_perturbing_keeps_a_uniform_latent_uniform() -> None:
    torch.manual_seed(0)
    quantizer = FiniteScalarPerturbation([5], quantize_rate=0.0).train()
    latents = quantizer.activation.from_unit(torch.rand(200_000, 1))
    unit = quantizer(latents).latents / ROOT_12 + 0.5
    histogram = torch.histc(unit, bins=20, min=0, max=1) / 200_000
    # Dropping at the border is a Metropolis step on the uniform law: every bin keeps 1/20 within 4 standard errors.
    assert (histogram - 0.05).abs().max() < 4 * math.sqrt(0.05 * 0.95 / 200_000)


def test_the_inverse_passes_the_gradient_straight_to_the_latents() -> None:
    quantizer = FiniteScalarPerturbation([4], "cauchy", decode="inverse").train()
    latents = torch.tensor([[-1e6], [0.3], [1e6]], requires_grad=True)
    output = quantizer(latents)
    assert output.latents.isfinite().all()
    (gradient,) = torch.autograd.grad(output.latents.sum(), latents)
    assert torch.equal(gradient, torch.ones(3, 1))


def test_one_position_has_a_finite_loss() -> None:
    assert FiniteScalarPerturbation([4, 4])(torch.randn(1, 1, 2)).loss.isfinite()


@pytest.mark.parametrize("decode", ["centered", "inverse"])
def test_fitted_levels_are_nearer_to_skewed_latents_than_uniform_ones(decode: str) -> None:
    torch.manual_seed(0)
    quantizer = FiniteScalarPerturbation([8, 5], decode=decode).eval()
    latents = 0.3 * torch.randn(5000, 2) + torch.tensor([0.5, -0.2])
    unquantized = quantizer._decode(quantizer.activation.to_unit(latents))

    def error() -> float:
        return float((unquantized - quantizer(latents).latents).square().sum(-1).mean())

    before = error()
    report = quantizer.build_codebook(latents)
    assert report.mse == pytest.approx(error(), rel=1e-5)
    assert report.mse < 0.6 * before
    assert (report.size, report.samples) == (40, 5000)
    counts = torch.bincount(quantizer.quantize(latents).flatten(), minlength=40) / 5000
    assert report.perplexity == pytest.approx(float(torch.special.entr(counts).sum().exp()), rel=1e-5)


@pytest.mark.parametrize(
    ("law", "words"),
    [
        (torch.distributions.Beta(1.1, 1.1), "too little: the decoder knows equal cells"),
        (torch.distributions.Beta(3.0, 3.0), "pays where every token costs as much, not where its entropy is paid for"),
        (torch.distributions.Beta(0.3, 0.3), "pays either way"),
    ],
)
def test_whether_fitted_levels_pay_is_said(law: torch.distributions.Beta, words: str, notes) -> None:
    torch.manual_seed(0)
    quantizer = FiniteScalarPerturbation([8])
    quantizer.build_codebook(quantizer.activation.from_unit(law.sample((20_000,))).unsqueeze(-1), reporter=notes)
    assert words in notes.said[-1]


def test_levels_fitted_to_a_uniform_latent_stay_where_they_were() -> None:
    quantizer = FiniteScalarPerturbation([5])
    before = quantizer.values.clone()
    unit = (torch.arange(10_000) + 0.5) / 10_000
    quantizer.build_codebook(quantizer.activation.from_unit(unit).unsqueeze(-1))
    torch.testing.assert_close(quantizer.values, before, rtol=0, atol=1e-3)


def test_fitted_levels_survive_a_reload_and_change_the_codebook() -> None:
    torch.manual_seed(0)
    latents = 0.3 * torch.randn(1000, 2)
    quantizer = FiniteScalarPerturbation([8, 5])
    uniform = quantizer.codebook_tensors()["values"].clone()
    quantizer.build_codebook(latents)
    fresh = FiniteScalarPerturbation([8, 5])
    fresh.load_state_dict(quantizer.state_dict())
    assert not torch.equal(fresh.codebook_tensors()["values"], uniform)
    assert torch.equal(fresh.quantize(latents), quantizer.quantize(latents))


def test_a_fit_is_repeatable() -> None:
    latents = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    fits = [FiniteScalarPerturbation([8, 5]) for _ in range(2)]
    reports = [quantizer.build_codebook(latents, 40, seed=seed) for seed, quantizer in enumerate(fits)]
    assert reports[0] == reports[1]
    assert torch.equal(fits[0].values, fits[1].values)


@pytest.mark.parametrize("decode", ["centered", "inverse"])
def test_codes_of_another_size_lie_where_the_decoder_reads_and_leave_the_levels_alone(decode: str) -> None:
    quantizer = FiniteScalarPerturbation([8, 5], decode=decode).eval()
    latents = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    levels = quantizer.quantize(latents)
    report = quantizer.build_codebook(latents, 64)
    points = quantizer.points(latents)
    decoded = quantizer.dequantize(quantizer.quantize(latents))
    assert quantizer.codebook_size == 64
    assert quantizer.codebooks == (40, 64)
    assert float((points - decoded).square().sum(dim=-1).mean()) == pytest.approx(report.mse, rel=1e-4)
    quantizer.use_codebook(40)
    assert torch.equal(quantizer.quantize(latents), levels)
    with pytest.raises(UsageError, match=r"no codebook of 65 codes \(built: 64\); run: tok build-codebook --size 65"):
        quantizer.use_codebook(65)


def test_more_codes_err_less_than_the_levels() -> None:
    """At the product's own number too: codes fit the joint distribution, levels each dimension alone."""
    latents = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0)).repeat(1, 2)
    quantizer = FiniteScalarPerturbation([6, 6])
    of_levels = quantizer.build_codebook(latents).mse
    assert quantizer.build_codebook(latents, 37).mse < of_levels / 4


def test_too_few_latents_to_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="need 8 latents to fit, got 3"):
        FiniteScalarPerturbation([8, 5]).build_codebook(torch.randn(3, 2))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"activation": "relu"}, "activation: .*'uniform', got 'relu'"),
        ({"decode": "none"}, "decode: .*'centered' or 'inverse'"),
        ({"quantize_rate": -0.1}, "quantize_rate: expected 0 or more, got -0.1"),
        ({"eta": -1.0}, "eta: expected 0 or more"),
    ],
)
def test_unfit_arguments_are_explained(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FiniteScalarPerturbation([8, 5], **arguments)


@pytest.mark.parametrize("count", [2, 3, 5, 7, 8, 100, 4096])
def test_levels_are_those_of_a_search_next_to_every_border(count: int) -> None:
    quantizer = FiniteScalarPerturbation([count], "uniform")
    borders = (quantizer.values[1:] + quantizer.values[:-1]) / 2
    near = [borders, borders.nextafter(torch.zeros(())), borders.nextafter(torch.ones(()))]
    unit = torch.cat([*near, torch.rand(1000), torch.tensor([0.0, 1.0, math.nan])])
    assert torch.equal(quantizer._digits(unit[:, None])[:, 0], torch.bucketize(unit, borders, right=True))


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_hidden_from_the_decoder_it_gives_the_same_codes_tokens_and_loss(weight: float) -> None:
    quantizer = FiniteScalarPerturbation([5, 4], mean_weight=weight, variance_weight=0.0).train()
    latents = torch.randn(3, 7, 2, requires_grad=True)
    seen, hidden = quantizer(latents), quantizer.forward_hidden(latents)
    assert seen.tokens is not None
    assert hidden.tokens is not None
    assert torch.equal(seen.tokens, hidden.tokens)
    assert torch.equal(seen.codes, hidden.codes)
    assert torch.equal(seen.loss, hidden.loss)
    assert hidden.loss.requires_grad == (weight > 0)
