"""TokenBridge: its bins against scipy, tokens by hand, joint and separate tokens, and evaluations while training."""

import copy
import itertools
import math

import numpy
import pytest
import scipy.stats
import torch

from tokcli.errors import ArgumentError, UsageError
from tokcli.quantizers.tokenbridge import TokenBridge, bin_borders, bin_means


def standard(count: int, dim: int, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
    """Latents (count, 2·dim) whose means are Gaussian, with a log-variance that must not matter."""
    generator = torch.Generator().manual_seed(0)
    means = mean + std * torch.randn(count, dim, generator=generator)
    return torch.cat([means, torch.full_like(means, -2.0)], dim=-1)


@pytest.mark.parametrize("bins", [2, 3, 4, 16, 740])
def test_bins_agree_with_scipy(bins: int) -> None:
    borders = scipy.stats.norm.ppf(numpy.arange(bins + 1) / bins).clip(-3, 3)
    torch.testing.assert_close(bin_borders(bins), torch.from_numpy(borders))
    means = [scipy.stats.truncnorm.mean(low, high) for low, high in itertools.pairwise(borders)]
    torch.testing.assert_close(bin_means(bins), torch.tensor(means, dtype=torch.float64), rtol=1e-7, atol=1e-9)
    assert (bin_means(bins).diff() > 0).all()


def test_tokens_by_hand() -> None:
    quantizer = TokenBridge(2, bins=4)
    quantizer.build_codebook(
        torch.tensor([[9.0, -2.0, 0.0, 0.0], [11.0, 2.0, 0.0, 0.0]])
    )  # means 10, 0; deviations 1, 2
    # Borders -0.674, 0, 0.674. Standardized: (-2, 0.5), (0.1, -0.5).
    latents = torch.tensor([[8.0, 1.0, 5.0, -5.0], [10.1, -1.0, 0.0, 0.0]])
    tokens = quantizer.quantize(latents)
    assert tokens.tolist() == [[0 + 4 * 2], [2 + 4 * 1]]
    inner = (scipy.stats.norm.pdf(0) - scipy.stats.norm.pdf(0.6745)) / 0.25
    assert quantizer.dequantize(tokens)[1].tolist() == pytest.approx([10 + inner, -2 * inner], rel=1e-4)


def test_gaussian_latents_use_all_tokens_equally() -> None:
    quantizer = TokenBridge(3, bins=4)
    report = quantizer.build_codebook(standard(100_000, 3, mean=2.0, std=0.3))
    assert report.size == 64
    assert report.perplexity == pytest.approx(64, rel=0.01)
    # Squared error of four equally probable bins of a unit Gaussian, by scipy, for three dimensions of 0.3.
    edges = scipy.stats.norm.ppf(numpy.arange(5) / 4)
    levels = bin_means(4).numpy()
    error = sum(
        scipy.stats.norm.expect(lambda x, level=level: (x - level) ** 2, lb=low, ub=high)
        for (low, high), level in zip(itertools.pairwise(edges), levels, strict=True)
    )
    assert report.mse == pytest.approx(3 * 0.09 * error, rel=0.02)


def test_up_to_2_to_the_31_the_tokens_of_all_dimensions_are_one() -> None:
    joint, separate = TokenBridge(31, bins=2), TokenBridge(32, bins=2)
    assert (joint.groups, joint.codebook_size) == (1, 2**31)
    assert (separate.groups, separate.codebook_size) == (32, 2)
    for quantizer in (joint, separate):
        latents = standard(500, quantizer.dim)
        quantizer.build_codebook(latents)
        tokens = quantizer.quantize(latents)
        signs = (quantizer.dequantize(tokens) > quantizer.mean).long()
        assert torch.equal(signs, (latents[:, : quantizer.dim] >= quantizer.mean).long())


def test_training_draws_samples_and_pays_the_divergence() -> None:
    torch.manual_seed(0)
    quantizer = TokenBridge(2, kl_weight=0.5).train()
    latents = torch.tensor([1.0, -1.0, 2 * math.log(0.5), 0.0]).expand(2, 5000, 4)
    output = quantizer(latents)
    assert output.tokens is None
    torch.testing.assert_close(output.latents.mean(dim=(0, 1)), torch.tensor([1.0, -1.0]), rtol=0, atol=0.05)
    torch.testing.assert_close(output.latents.std(dim=(0, 1)), torch.tensor([0.5, 1.0]), rtol=0.05, atol=0)
    laws = [torch.distributions.Normal(1.0, 0.5), torch.distributions.Normal(-1.0, 1.0)]
    prior = torch.distributions.Normal(0.0, 1.0)
    expected = sum(torch.distributions.kl_divergence(law, prior) for law in laws)
    assert output.loss.item() == pytest.approx(0.5 * 5000 * expected.item(), rel=1e-5)
    quantizer.eval()
    assert torch.equal(quantizer(latents).latents, latents[..., :2])


def test_extreme_log_variances_are_clamped() -> None:
    quantizer = TokenBridge(1).train()
    latents = torch.tensor([[[0.0, -1e9]], [[0.0, 1e9]]], requires_grad=True)
    output = quantizer(latents)
    (output.loss + output.latents.sum()).backward()
    assert output.loss.isfinite()
    assert latents.grad.isfinite().all()


def test_evaluations_while_training_have_tokens_by_the_tracked_moments() -> None:
    quantizer = TokenBridge(2, bins=4).train()
    latents = standard(4000, 2, mean=3.0, std=0.5).view(4, 1000, 4)
    for _ in range(1500):
        quantizer(latents[:, torch.randint(1000, (50,))])
    before = copy.deepcopy(quantizer.state_dict())
    with quantizer.provisional_codebook():
        assert quantizer.codebook_ready
        provisional = quantizer.quantize(latents)
    assert not quantizer.codebook_ready
    for name, tensor in quantizer.state_dict().items():
        assert torch.equal(tensor, before[name])
    quantizer.build_codebook(latents.flatten(0, 1))
    assert (provisional == quantizer.quantize(latents)).float().mean() > 0.9


def test_a_coarse_grid_is_pointed_out() -> None:
    class Notes:
        def __init__(self) -> None:
            self.heard: list[str] = []

        def note(self, message: str) -> None:
            self.heard.append(message)

    notes = Notes()
    TokenBridge(4, bins=4).build_codebook(standard(100, 4), reporter=notes)
    assert "TokenBridge with 256 codes reconstructs poorly" in notes.heard[0]
    TokenBridge(5, bins=4).build_codebook(standard(100, 5), reporter=notes)
    assert len(notes.heard) == 1


def test_another_size_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match="4 bins in 3 dimensions make a codebook of 64 and no other size, got 100"):
        TokenBridge(3).build_codebook(standard(10, 3), 100)


def test_one_latent_has_no_deviation() -> None:
    with pytest.raises(UsageError, match="at least two latents, got 1"):
        TokenBridge(3).build_codebook(standard(1, 3))


def test_a_codebook_cannot_be_used_before_it_is_built() -> None:
    quantizer = TokenBridge(3)
    for use in (lambda: quantizer.dequantize(torch.zeros(1, 1, dtype=torch.int64)), lambda: quantizer.use_codebook(64)):
        with pytest.raises(UsageError, match="no codebook yet; run: tok build-codebook"):
            use()


@pytest.mark.parametrize(("bins", "words"), [(1, "bins: expected 2 or more"), (741, "bins: expected 740 or less")])
def test_unfit_bins_are_explained(bins: int, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        TokenBridge(3, bins=bins)
