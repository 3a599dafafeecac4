"""FSQ by hand, and against another implementation."""

import math

import pytest
import torch
from vector_quantize_pytorch import FSQ

from tokcli.quantizers.fsq import FiniteScalarQuantizer

LEVELS = [[8, 6, 5], [8, 5, 5, 5], [3, 3], [7]]


def test_plain_tokens_by_hand() -> None:
    quantizer = FiniteScalarQuantizer([3, 5])
    # Dimension 0: tanh(z)·1.001 rounds to -1, 0, 1. Dimension 1: tanh(z)·2.002 rounds to -2 … 2.
    latents = torch.tensor([[[-9.0, -9.0], [0.0, 0.0], [9.0, 9.0], [0.4, math.atanh(0.5)], [0.6, -math.atanh(0.5)]]])
    tokens = quantizer.quantize(latents)
    assert tokens.squeeze(-1).tolist() == [[0 + 3 * 0, 1 + 3 * 2, 2 + 3 * 4, 1 + 3 * 3, 2 + 3 * 1]]
    expected = torch.tensor([[[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.5], [1.0, -0.5]]])
    assert torch.equal(quantizer.dequantize(tokens), expected)


def test_symmetric_tokens_by_hand() -> None:
    quantizer = FiniteScalarQuantizer([2, 4], variant="symmetric")
    # Dimension 1: ⌊3(tanh z + 1)/2 + ½⌋ changes at tanh z = -2/3, 0, 2/3; values -1, -1/3, 1/3, 1.
    latents = torch.tensor([[-0.1, -5.0], [0.1, math.atanh(-0.6)], [-9.0, math.atanh(0.6)], [9.0, math.atanh(0.7)]])
    tokens = quantizer.quantize(latents)
    assert tokens.squeeze(-1).tolist() == [0 + 2 * 0, 1 + 2 * 1, 0 + 2 * 2, 1 + 2 * 3]
    expected = torch.tensor([[-1.0, -1.0], [1.0, -1 / 3], [-1.0, 1 / 3], [1.0, 1.0]])
    torch.testing.assert_close(quantizer.dequantize(tokens), expected)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("variant", ["plain", "symmetric"])
def test_tokens_codes_and_gradients_agree_with_vector_quantize_pytorch(levels: list[int], variant: str) -> None:
    torch.manual_seed(0)
    quantizer = FiniteScalarQuantizer(levels, variant=variant).train()
    reference = FSQ(levels, preserve_symmetry=variant == "symmetric").train()
    latents = (3 * torch.randn(4, 500, len(levels))).requires_grad_()
    output = quantizer(latents)
    codes, indices = reference(latents)
    assert torch.equal(output.tokens.squeeze(-1), indices.long())
    torch.testing.assert_close(output.latents, codes)
    weights = torch.randn_like(codes)
    (ours,) = torch.autograd.grad((output.latents * weights).sum(), latents)
    (theirs,) = torch.autograd.grad((codes * weights).sum(), latents)
    torch.testing.assert_close(ours, theirs)


def test_the_codebook_size_is_the_real_product() -> None:
    assert FiniteScalarQuantizer([8, 5, 5, 5]).codebook_size == 1000


def test_noise_is_as_wide_as_a_step_and_replaces_rounding_half_of_the_time() -> None:
    torch.manual_seed(0)
    quantizer = FiniteScalarQuantizer([5], variant="symmetric", noise=0.5).train()
    latents = torch.full((20_000, 1), 0.3)
    values = quantizer(latents).latents
    rounded = values == 0.5
    assert rounded.float().mean() == pytest.approx(0.5, abs=0.02)
    noise = values[~rounded] - math.tanh(0.3)
    # Uniform on ± half a step; a step is 2/(5 - 1).
    assert noise.abs().max() <= 0.25
    assert noise.mean() == pytest.approx(0, abs=0.005)
    assert noise.var() == pytest.approx(0.5**2 / 12, rel=0.03)


def test_noise_only_happens_in_training() -> None:
    quantizer = FiniteScalarQuantizer([5], variant="symmetric", noise=1.0).eval()
    assert torch.equal(quantizer(torch.full((100, 1), 0.3)).latents, torch.full((100, 1), 0.5))


def test_the_gradient_is_that_of_tanh() -> None:
    quantizer = FiniteScalarQuantizer([5, 9], variant="symmetric").train()
    latents = torch.tensor([[0.3, -1.2]], requires_grad=True)
    (gradient,) = torch.autograd.grad(quantizer(latents).latents.sum(), latents)
    torch.testing.assert_close(gradient, 1 - latents.detach().tanh().square())


def test_two_thousand_levels_stay_in_range() -> None:
    quantizer = FiniteScalarQuantizer([2001])
    tokens = quantizer.quantize(torch.tensor([[-50.0], [50.0]]))
    assert tokens.flatten().tolist() == [0, 2000]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"levels": [8, 1]}, "levels.1: expected 2 or more, got 1"),
        ({"levels": []}, "levels: expected at least 1 of them"),
        ({"levels": [2001] * 6}, "more than a 64-bit token can count"),
        ({"levels": [8, 2]}, "use variant: symmetric"),
        ({"levels": [8], "noise": 0.5}, "needs variant: symmetric"),
        ({"levels": [8], "variant": "symmetric", "noise": 1.5}, "noise: expected 1 or less, got 1.5"),
        ({"levels": [8], "variant": "smooth"}, "got 'smooth'"),
    ],
)
def test_unfit_arguments_are_explained(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FiniteScalarQuantizer(**arguments)
