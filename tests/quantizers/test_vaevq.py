"""VAEVQ term by term: RCS against a likelihood, DCR against optimal transport, the gradients of the quantized path."""

import math

import numpy
import pytest
import scipy.linalg
import scipy.optimize
import torch
from torch.nn import functional as F

from tokcli.quantizers.ops import Gaussian, distance_between_gaussians, distance_to_standard_normal
from tokcli.quantizers.vaevq import (
    VAEVectorQuantizer,
    attach_coherence,
    detach_coherence,
    quantized_path,
    temper_coherence,
)


def predicted(mean: torch.Tensor, std: float) -> torch.Tensor:
    return torch.cat([mean, torch.full_like(mean, 2 * math.log(std))], dim=-1)


def test_coherence_is_the_gaussian_negative_log_likelihood_but_for_its_constant() -> None:
    torch.manual_seed(0)
    gaussian = Gaussian.of(torch.randn(2, 7, 6))
    codes = torch.randn(2, 7, 3)
    likelihood = F.gaussian_nll_loss(gaussian.mean, codes, gaussian.std.square())
    torch.testing.assert_close(detach_coherence(codes, gaussian), likelihood - gaussian.log_variance.mean() / 2)


def test_coherence_by_hand() -> None:
    gaussian = Gaussian.of(predicted(torch.tensor([[1.0, 0.0]]), std=0.5))
    # Off by ½ and 1, in deviations 1 and 2: ½·(1 + 4)/2.
    assert detach_coherence(torch.tensor([[1.5, -1.0]]), gaussian).item() == pytest.approx(1.25)


def test_coherence_pulls_mean_and_code_together_and_leaves_the_deviation_alone() -> None:
    torch.manual_seed(0)
    latents = torch.randn(2, 5, 6, requires_grad=True)
    codes = torch.randn(2, 5, 3, requires_grad=True)
    detach_coherence(codes, Gaussian.of(latents)).backward()
    means, log_variances = latents.grad.chunk(2, dim=-1)
    assert (means != 0).all()
    assert torch.equal(log_variances, torch.zeros_like(log_variances))
    torch.testing.assert_close(codes.grad, -means)


def test_the_quantized_path_reaches_mean_deviation_and_code() -> None:
    torch.manual_seed(0)
    mean, log_variance, codes, pull = torch.randn(4, 2, 5, 3).unbind(0)
    mean.requires_grad_()
    log_variance.requires_grad_()
    codes.requires_grad_()
    latents = quantized_path(codes, Gaussian.of(torch.cat([mean, log_variance], dim=-1)))
    assert torch.equal(latents, codes)
    (latents * pull).sum().backward()
    assert torch.equal(mean.grad, pull)
    assert torch.equal(codes.grad, pull)
    # z = μ + σ·ε with ε = (z_q − μ)/σ held: dz/d(log σ²) = σ·ε/2.
    torch.testing.assert_close(log_variance.grad, (pull * (codes - mean) / 2).detach())


def test_the_chosen_codes_get_the_gradient_and_the_others_none() -> None:
    torch.manual_seed(0)
    quantizer = VAEVectorQuantizer(3, 16, kl_weight=0.0, dcr_weight=0.0, rcs_weight=0.0).train()
    output = quantizer(predicted(torch.randn(1, 4, 3), std=0.1))
    output.latents.sum().backward()
    touched = quantizer.codebook.seeds.grad.abs().sum(dim=-1).nonzero().flatten()
    assert torch.equal(touched, output.tokens.unique())


def test_noise_in_place_of_the_code_is_as_long_and_reaches_the_mean_alone() -> None:
    torch.manual_seed(0)
    off = {f"{name}_weight": 0.0 for name in ("rcs", "dcr", "kl", "vq")}
    quantizer = VAEVectorQuantizer(3, 16, **off, gradient="noise", query="mean").train()
    latents = predicted(torch.randn(2, 50, 3), std=0.5).requires_grad_()
    output = quantizer(latents)
    mean = latents.detach()[..., :3]
    moved = output.latents.detach() - mean
    to_code = quantizer.dequantize(output.tokens).detach() - mean
    torch.testing.assert_close(moved.norm(dim=-1), to_code.norm(dim=-1))
    assert F.cosine_similarity(moved, to_code, dim=-1).abs().mean() < 0.7  # in any direction
    torch.testing.assert_close(output.codes, mean + to_code)  # which a next stage leaves out
    pull = torch.randn(2, 50, 3)
    (output.latents * pull).sum().backward()
    assert torch.equal(latents.grad[..., :3], pull)
    assert not latents.grad[..., 3:].any()
    assert quantizer.codebook.seeds.grad is None or not quantizer.codebook.seeds.grad.any()


def test_inference_reads_codes_whatever_training_reads() -> None:
    torch.manual_seed(0)
    quantizer = VAEVectorQuantizer(3, 16, gradient="noise").eval()
    output = quantizer(torch.randn(2, 5, 6))
    assert torch.equal(output.latents, quantizer.dequantize(output.tokens))


def squared_wasserstein(mean: numpy.ndarray, covariance: numpy.ndarray) -> float:
    root = scipy.linalg.sqrtm(covariance).real
    return float(mean @ mean + numpy.trace(covariance) - 2 * numpy.trace(root) + len(mean))


def test_the_distance_to_the_prior_is_the_closed_form() -> None:
    torch.manual_seed(0)
    codes = torch.randn(500, 8, dtype=torch.float64) @ torch.randn(8, 8, dtype=torch.float64) + 0.3
    expected = squared_wasserstein(codes.mean(0).numpy(), numpy.cov(codes.numpy().T))
    assert distance_to_standard_normal(codes).item() == pytest.approx(expected, rel=1e-9)


def test_the_distance_of_a_diagonal_gaussian_by_hand() -> None:
    # The eight corners of a box: means 1, 0, 0, no correlation, deviations s·√(8/7).
    signs = torch.tensor([[a, b, c] for a in (-1.0, 1.0) for b in (-1.0, 1.0) for c in (-1.0, 1.0)])
    wanted = torch.tensor([0.5, 1.0, 3.0])
    codes = signs * wanted * math.sqrt(7 / 8) + torch.tensor([1.0, 0.0, 0.0])
    assert distance_to_standard_normal(codes).item() == pytest.approx(1 + 0.25 + 0 + 4, rel=1e-5)


def test_the_distance_agrees_with_optimal_transport_between_samples() -> None:
    torch.manual_seed(0)
    mixing = torch.tensor([[2.0, 0.5], [0.0, 0.3]])
    codes = torch.randn(1500, 2) @ mixing.T + torch.tensor([1.0, -1.0])
    prior = torch.randn(1500, 2)
    costs = torch.cdist(codes, prior).square().numpy()
    rows, columns = scipy.optimize.linear_sum_assignment(costs)
    assert distance_to_standard_normal(codes).item() == pytest.approx(costs[rows, columns].mean(), rel=0.05)


def test_the_distance_vanishes_for_a_codebook_like_the_prior_and_descent_finds_it() -> None:
    torch.manual_seed(0)
    assert distance_to_standard_normal(torch.randn(50_000, 4)).item() < 1e-3
    codes = (0.1 * torch.randn(200, 4) + 2).requires_grad_()
    for _ in range(300):
        (gradient,) = torch.autograd.grad(distance_to_standard_normal(codes), codes)
        codes = (codes - 20 * gradient).detach().requires_grad_()
    assert distance_to_standard_normal(codes).item() < 1e-3


def test_the_gradient_of_the_distance_is_right_and_finite_where_eigenvalues_coincide_or_vanish() -> None:
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(
        distance_to_standard_normal, torch.randn(10, 3, dtype=torch.float64, requires_grad=True)
    )
    for codes in (torch.eye(4), torch.zeros(5, 3), torch.randn(3, 6)):
        codes.requires_grad_()
        (gradient,) = torch.autograd.grad(distance_to_standard_normal(codes), codes)
        assert gradient.isfinite().all()


def test_training_decodes_codes_and_samples_and_inference_the_code_of_the_mean() -> None:
    torch.manual_seed(0)
    quantizer = VAEVectorQuantizer(3, 16).train()
    latents = predicted(torch.randn(2, 50, 3), std=0.5)
    output = quantizer(latents)
    (samples,) = output.alternatives
    residual = (samples - latents[..., :3]) / 0.5
    assert residual.std().item() == pytest.approx(1, abs=0.1)
    codes = quantizer.codes()
    assert torch.equal(output.tokens.squeeze(-1), torch.cdist(samples, codes).argmin(dim=-1))
    quantizer.eval()
    expected = torch.cdist(latents[..., :3], codes).argmin(dim=-1)
    assert torch.equal(quantizer.quantize(latents).squeeze(-1), expected)
    assert quantizer(latents).alternatives == ()


def test_the_mean_can_be_the_query_in_training_too() -> None:
    torch.manual_seed(0)
    quantizer = VAEVectorQuantizer(3, 16, query="mean").train()
    latents = predicted(torch.randn(2, 50, 3), std=5.0)
    assert torch.equal(quantizer(latents).tokens, quantizer.quantize(latents))


def test_the_loss_is_the_weighted_sum_of_its_parts() -> None:
    torch.manual_seed(0)
    weights = {"rcs_weight": 0.7, "dcr_weight": 0.3, "kl_weight": 0.01, "vq_weight": 0.2}
    quantizer = VAEVectorQuantizer(3, 16, **weights).train()
    output = quantizer(torch.randn(2, 10, 6))
    expected = sum(weight * output.stats[name.removesuffix("_weight")] for name, weight in weights.items())
    torch.testing.assert_close(output.loss.detach(), expected)


@pytest.mark.parametrize("part", ["rcs", "dcr", "kl", "vq"])
def test_each_part_can_be_switched_off(part: str) -> None:
    off = {f"{name}_weight": 0.0 for name in ("rcs", "dcr", "kl", "vq")}
    torch.manual_seed(0)
    latents = torch.randn(2, 10, 6)
    assert VAEVectorQuantizer(3, 16, **off).train()(latents).loss == 0
    assert VAEVectorQuantizer(3, 16, **(off | {f"{part}_weight": 1.0})).train()(latents).loss > 0


def test_the_divergence_is_summed_over_a_sample_and_averaged_over_the_batch() -> None:
    latents = torch.randn(3, 4, 5, 6)
    gaussian = Gaussian.of(latents)
    law = torch.distributions.Normal(gaussian.mean, gaussian.std)
    expected = torch.distributions.kl_divergence(law, torch.distributions.Normal(0.0, 1.0)).sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(gaussian.divergence(), expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"query": "both"}, "got 'both'"),
        ({"gradient": "rotation"}, "got 'rotation'"),
        ({"dcr_weight": -1.0}, "dcr_weight: expected 0 or more"),
    ],
)
def test_unfit_arguments_are_explained(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        VAEVectorQuantizer(3, 16, **arguments)


def test_attached_coherence_does_not_change_with_a_common_scale() -> None:
    """And so has no pull along it, where the detached one has: that is what contracts the latents."""
    torch.manual_seed(0)
    mean, codes = torch.randn(2, 9, 3), torch.randn(2, 9, 3)
    scale = torch.ones((), requires_grad=True)
    gaussian = Gaussian(scale * mean, 2 * (scale * 0.3).log().expand_as(mean))
    (still,) = torch.autograd.grad(attach_coherence(scale * codes, gaussian), scale)
    assert abs(float(still)) < 1e-3
    gaussian = Gaussian(scale * mean, 2 * (scale * 0.3).log().expand_as(mean))
    loss = detach_coherence(scale * codes, gaussian)
    (pull,) = torch.autograd.grad(loss, scale)
    assert float(pull) == pytest.approx(2 * float(loss.detach()), rel=1e-4)


def test_tempered_coherence_by_hand() -> None:
    """Gaps ½ and 1, σ = ½; e² is each dimension's own squared gap: ½·(.25·.25/.5 + 1·1/1.25)/2."""
    gaussian = Gaussian.of(predicted(torch.tensor([[1.0, 0.0]]), std=0.5))
    value = temper_coherence(torch.tensor([[1.5, -1.0]]), gaussian)
    assert float(value) == pytest.approx((0.125 + 0.8) / 4)


def test_tempered_coherence_stays_finite_and_becomes_alignment_where_the_variance_is_gone() -> None:
    torch.manual_seed(0)
    mean, codes = torch.randn(2, 9, 3), torch.randn(2, 9, 3)
    gone = Gaussian(mean, torch.full_like(mean, -30.0))
    torch.testing.assert_close(temper_coherence(codes, gone), F.mse_loss(codes, mean) / 2)
    assert float(temper_coherence(mean, gone)) == 0


def test_the_means_get_the_share_of_the_pull_that_was_asked_for() -> None:
    def pulls(share: float) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(0)
        quantizer = VAEVectorQuantizer(
            3, 16, kl_weight=0.0, dcr_weight=0.0, coherence="tempered", query="mean", rcs_mean_share=share
        ).train()
        latents = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
        quantizer(latents).loss.backward()
        return latents.grad[..., :3], quantizer.codebook.seeds.grad

    whole, quarter = pulls(1.0), pulls(0.25)
    torch.testing.assert_close(quarter[0], whole[0] / 4)
    torch.testing.assert_close(quarter[1], whole[1])


def test_the_distance_between_gaussians_is_the_closed_form_and_that_from_the_prior_a_case_of_it() -> None:
    torch.manual_seed(0)
    codes = torch.randn(500, 4, dtype=torch.float64) @ torch.randn(4, 4, dtype=torch.float64) + 0.3
    others = torch.randn(900, 4, dtype=torch.float64) @ torch.randn(4, 4, dtype=torch.float64) - 0.2
    first, second = numpy.cov(codes.numpy().T), numpy.cov(others.numpy().T)
    root = scipy.linalg.sqrtm(second).real
    between = numpy.trace(first + second - 2 * scipy.linalg.sqrtm(root @ first @ root).real)
    means = ((codes.mean(0) - others.mean(0)) ** 2).sum()
    expected = float(means) + float(between)
    assert distance_between_gaussians(codes, others).item() == pytest.approx(expected, rel=1e-9)
    whitened = (others - others.mean(0)) @ torch.from_numpy(numpy.linalg.inv(root))
    torch.testing.assert_close(distance_between_gaussians(codes, whitened), distance_to_standard_normal(codes))


def test_the_codebook_can_be_held_near_the_latents() -> None:
    """Only codes move, and towards where the latents are."""
    torch.manual_seed(0)
    quantizer = VAEVectorQuantizer(
        2, 32, rcs_weight=0.0, kl_weight=0.0, dcr_weight=1.0, dcr_target="latents", query="mean"
    ).train()
    latents = predicted(0.2 * torch.randn(4, 64, 2) + 3, std=0.01).requires_grad_()
    output = quantizer(latents)
    assert float(output.stats["dcr"]) > 10
    output.loss.backward()
    assert float(latents.grad.abs().max()) == 0
    assert bool((quantizer.codebook.map.bias.grad < 0).all())
