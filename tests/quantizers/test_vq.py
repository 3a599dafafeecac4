"""VQ by hand; its moving averages against another implementation; start, restart and the rotation trick."""

import math

import pytest
import torch
from torch.nn import functional as F
from vector_quantize_pytorch import VectorQuantize
from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to

from tokcli.errors import ArgumentError, UsageError
from tokcli.quantizers.ops import perplexity_of, rotate, straight_through
from tokcli.quantizers.vq import VectorQuantizer

CODEBOOK = torch.tensor(
    [
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 2.0, 0.0, 0.0, 0.0],
        [1.0, 1.0, 1.0, 1.0, 1.0],
    ]
)


def with_codebook(codebook: torch.Tensor, **options: object) -> VectorQuantizer:
    quantizer = VectorQuantizer(codebook.shape[1], codebook.shape[0], **options)
    with torch.no_grad():
        quantizer.codebook.copy_(codebook)
        if quantizer.ema:
            quantizer.ema_sums.copy_(codebook)
    return quantizer


def test_tokens_by_hand() -> None:
    quantizer = with_codebook(CODEBOOK)
    latents = torch.tensor(
        [
            [[0.4, 0.0, 0.0, 0.0, 0.0], [0.6, 0.0, 0.0, 0.0, 0.0]],  # ½ is the border between codes 0 and 1
            [[0.0, 1.1, 0.0, 0.0, 0.0], [0.6, 0.7, 0.8, 0.9, 1.0]],
        ]
    )
    tokens = quantizer.quantize(latents)
    assert tokens.tolist() == [[[0], [1]], [[2], [3]]]
    assert torch.equal(quantizer.dequantize(tokens), CODEBOOK.view(2, 2, 5))


def test_the_loss_by_hand() -> None:
    quantizer = with_codebook(CODEBOOK, commitment=0.25, codebook_weight=1.0).train()
    latents = torch.tensor([[[0.5, 2.0, 0.0, 0.0, 0.0]]], requires_grad=True)  # code 2, off by ½ in one of 5 channels
    output = quantizer(latents)
    assert output.loss.item() == pytest.approx(1.25 * 0.25 / 5)
    output.loss.backward()
    # The latent feels only β, its code only the other term: ∓ 2·½/5.
    torch.testing.assert_close(latents.grad.flatten(), torch.tensor([0.25 * 0.2, 0, 0, 0, 0]))
    expected = torch.zeros_like(CODEBOOK)
    expected[2, 0] = -0.2
    torch.testing.assert_close(quantizer.codebook.grad, expected)
    assert output.stats["commitment"].item() == pytest.approx(0.05)


def test_the_decoder_gradient_passes_straight_through() -> None:
    quantizer = with_codebook(CODEBOOK).train()
    latents = torch.randn(2, 3, 5, requires_grad=True)
    weights = torch.randn(2, 3, 5)
    (gradient,) = torch.autograd.grad((quantizer(latents).latents * weights).sum(), latents)
    assert torch.equal(gradient, weights)


def test_perplexity_counts_the_batch() -> None:
    quantizer = with_codebook(CODEBOOK)
    half_and_half = torch.stack([CODEBOOK[0], CODEBOOK[3], CODEBOOK[0], CODEBOOK[3]]).unsqueeze(0)
    assert perplexity_of(quantizer(half_and_half).tokens) == pytest.approx(2)


def test_the_moving_averages_by_hand() -> None:
    quantizer = with_codebook(torch.tensor([[0.0], [10.0]]), ema=True, decay=0.9).train()
    output = quantizer(torch.tensor([[[1.0], [2.0], [3.0], [12.0]]]))
    # Counts 1 → 0.9 + 0.1·3 and 0.9 + 0.1·1; sums 0 → 0.1·6 and 9 + 0.1·12.
    torch.testing.assert_close(quantizer.ema_counts, torch.tensor([1.2, 1.0]))
    torch.testing.assert_close(quantizer.ema_sums, torch.tensor([[0.6], [10.2]]))
    torch.testing.assert_close(quantizer.codebook, torch.tensor([[0.5], [10.2]]), rtol=1e-4, atol=1e-4)
    assert output.latents.flatten().tolist() == [0.0, 0.0, 0.0, 10.0]
    assert output.loss.item() == pytest.approx(0.25 * (1 + 4 + 9 + 4) / 4)


@pytest.mark.parametrize("cosine", [False, True])
def test_moving_averages_agree_with_vector_quantize_pytorch(cosine: bool) -> None:
    torch.manual_seed(0)
    reference = VectorQuantize(
        dim=4, codebook_size=16, decay=0.9, eps=1e-5, threshold_ema_dead_code=0, use_cosine_sim=cosine
    ).train()
    start = reference._codebook.embed[0].clone()
    quantizer = with_codebook(start, ema=True, decay=0.9, cosine=cosine).train()
    for _ in range(5):
        latents = torch.randn(2, 50, 4)
        _, indices, _ = reference(latents)
        assert torch.equal(quantizer(latents).tokens.squeeze(-1), indices)
        torch.testing.assert_close(quantizer.codebook, reference._codebook.embed[0])
        torch.testing.assert_close(quantizer.ema_counts, reference._codebook.cluster_size[0])


def test_averages_find_the_centres_of_clusters() -> None:
    torch.manual_seed(0)
    centres = torch.tensor([[-3.0, 0.0], [3.0, 1.0], [0.0, 4.0]])
    quantizer = with_codebook(centres + 0.5 * torch.randn(3, 2), ema=True, decay=0.8).train()
    for _ in range(60):
        quantizer(centres[torch.randint(3, (4, 100))] + 0.1 * torch.randn(4, 100, 2))
    torch.testing.assert_close(quantizer.codebook, centres, rtol=0, atol=0.03)


@pytest.mark.parametrize("ema", [False, True])
def test_a_code_that_nothing_uses_takes_a_latent_of_the_batch(ema: bool) -> None:
    torch.manual_seed(0)
    far = torch.tensor([[0.0, 0.0], [100.0, 100.0], [-100.0, 0.0]])
    quantizer = with_codebook(far, ema=ema, decay=0.5, restart_below=0.4).train()
    batches = torch.randn(3, 1, 40, 2)
    assert quantizer(batches[0]).stats["restarted"] == 0  # counts 1, then ½, then ¼
    assert quantizer(batches[1]).stats["restarted"] == 0
    output = quantizer(batches[2])
    assert output.stats["restarted"].item() == pytest.approx(2 / 3)
    assert len(output.tokens.unique()) == 3
    if not ema:
        for code in quantizer.codebook[1:]:
            assert (batches[2].flatten(0, 1) == code).all(dim=-1).any()
    assert quantizer(torch.randn(1, 40, 2)).stats["restarted"] == 0


def test_restarts_never_put_two_codes_on_one_latent() -> None:
    torch.manual_seed(0)
    quantizer = with_codebook(100 + torch.randn(8, 2), decay=0.1, restart_below=0.5).train()
    quantizer(torch.randn(1, 3, 2))
    output = quantizer(torch.randn(1, 3, 2))  # seven or eight dead codes, three latents
    assert output.stats["restarted"].item() == pytest.approx(3 / 8)
    assert len(quantizer.codebook.detach().unique(dim=0)) == 8


def test_restarts_revive_a_collapsed_codebook() -> None:
    def perplexity(restart_below: float) -> float:
        torch.manual_seed(0)
        quantizer = with_codebook(5 + 0.01 * torch.randn(64, 3), ema=True, restart_below=restart_below).train()
        for _ in range(30):
            output = quantizer(torch.randn(4, 128, 3))
        return perplexity_of(output.tokens)

    assert perplexity(0.0) < 10
    assert perplexity(1.0) > 40


@pytest.mark.parametrize("ema", [False, True])
def test_a_kmeans_start_puts_the_codes_into_the_first_batch(ema: bool) -> None:
    torch.manual_seed(0)
    latents = torch.randn(4, 100, 2) + 7
    quantizer = VectorQuantizer(2, 16, ema=ema, kmeans_start=True).train()
    random_codes = latents.flatten(0, 1)[:16]
    random_error = torch.cdist(latents.flatten(0, 1), random_codes).amin(1).square().mean()
    output = quantizer(latents)
    assert perplexity_of(output.tokens) > 12
    assert (latents - output.latents).square().sum(-1).mean() < 0.8 * random_error
    assert quantizer.started.is_set


def test_a_start_happens_once_in_a_run_and_its_resumption() -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(2, 4, kmeans_start=True).train()
    quantizer(torch.randn(1, 50, 2))
    codes = quantizer.codebook.detach().clone()
    quantizer(torch.randn(1, 50, 2) + 100)
    assert torch.equal(quantizer.codebook, codes)
    resumed = VectorQuantizer(2, 4, kmeans_start=True).train()
    resumed.load_state_dict(quantizer.state_dict())
    resumed(torch.randn(1, 50, 2) + 100)
    assert torch.equal(resumed.codebook, codes)


def test_a_kmeans_start_needs_as_many_latents_as_codes() -> None:
    with pytest.raises(UsageError, match="needs as many latents in the first batch, got 10; enlarge the batch"):
        VectorQuantizer(2, 16, kmeans_start=True).train()(torch.randn(1, 10, 2))


def test_cosine_codes_ignore_length() -> None:
    quantizer = with_codebook(torch.tensor([[3.0, 0.0], [0.0, 0.5]]), cosine=True)
    latents = torch.tensor([[[0.2, 0.1], [10.0, 11.0], [-1.0, 5.0]]])
    tokens = quantizer.quantize(latents)
    assert tokens.flatten().tolist() == [0, 1, 1]
    assert torch.equal(quantizer.quantize(1000 * latents), tokens)
    torch.testing.assert_close(quantizer.dequantize(tokens)[0], torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))


def test_straight_through_has_exactly_the_value_of_the_code() -> None:
    latents, codes = 1000 * torch.randn(100, 3), 1e-3 * torch.randn(100, 3)
    assert torch.equal(straight_through(latents, codes), codes)


def test_the_rotation_trick_by_hand() -> None:
    latents = torch.tensor([[2.0, 0.0]], requires_grad=True)
    rotated = rotate(latents, torch.tensor([[0.0, 1.0]]))
    assert torch.equal(rotated, torch.tensor([[0.0, 1.0]]))
    # R turns by 90°, λ = ½: a pull of the decoder along the code's (0, 1) is a pull along the latent's (1, 0), halved.
    (gradient,) = torch.autograd.grad(rotated[0, 1], latents)
    torch.testing.assert_close(gradient, torch.tensor([[0.5, 0.0]]))


def test_the_rotation_keeps_angles_and_scales_lengths() -> None:
    torch.manual_seed(0)
    latents, codes, pull = torch.randn(3, 50, 6).unbind(0)
    latents.requires_grad_()
    (gradient,) = torch.autograd.grad((rotate(latents, codes) * pull).sum(), latents)
    scale = codes.norm(dim=-1) / latents.norm(dim=-1)
    torch.testing.assert_close(gradient.norm(dim=-1), scale * pull.norm(dim=-1))
    torch.testing.assert_close(
        F.cosine_similarity(gradient, latents, dim=-1), F.cosine_similarity(pull, codes, dim=-1), rtol=1e-4, atol=1e-5
    )


def test_the_rotation_agrees_with_vector_quantize_pytorch() -> None:
    torch.manual_seed(0)
    latents, codes, pull = torch.randn(3, 50, 6).unbind(0)
    latents.requires_grad_()
    (ours,) = torch.autograd.grad((rotate(latents, codes) * pull).sum(), latents)
    (theirs,) = torch.autograd.grad((rotate_to(latents, codes) * pull).sum(), latents)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("code", [[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
def test_the_rotation_is_finite_for_opposite_equal_and_zero_codes(code: list[float]) -> None:
    latents = torch.tensor([[1.0, 0.0]], requires_grad=True)
    rotated = rotate(latents, torch.tensor([code]))
    assert rotated.tolist() == [code]
    (gradient,) = torch.autograd.grad(rotated.sum(), latents)
    assert gradient.isfinite().all()


def test_the_rotation_is_chosen_by_name() -> None:
    quantizer = with_codebook(torch.tensor([[0.0, 1.0], [0.0, -9.0]]), gradient="rotation").train()
    latents = torch.tensor([[[2.0, 0.1]]], requires_grad=True)
    (gradient,) = torch.autograd.grad(quantizer(latents).latents[..., 1].sum(), latents)
    assert gradient.norm().item() == pytest.approx(1 / math.hypot(2, 0.1), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"codebook_size": 1}, "codebook_size: expected 2 or more"),
        ({"decay": 1.0}, "decay: expected less than 1, got 1.0"),
        ({"commitment": -0.1}, "commitment: expected 0 or more"),
        ({"gradient": "magic"}, "got 'magic'"),
    ],
)
def test_unfit_arguments_are_explained(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        VectorQuantizer(**({"dim": 2, "codebook_size": 4} | arguments))


def test_noise_in_place_of_the_code_is_as_long_as_its_error_and_ends_with_training() -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(3, 16, gradient="noise").train()
    latents = torch.randn(2, 40, 3, requires_grad=True)
    output = quantizer(latents)
    codes = quantizer.dequantize(output.tokens)
    torch.testing.assert_close((output.latents - latents).norm(dim=-1), (codes - latents).norm(dim=-1))
    assert bool((output.latents != codes).any(-1).all())
    (gradient,) = torch.autograd.grad(output.latents.sum(), latents)
    assert torch.equal(gradient, torch.ones_like(gradient))
    assert torch.equal(quantizer.eval()(latents).latents, codes)


def test_noise_and_the_sphere_exclude_each_other() -> None:
    with pytest.raises(ArgumentError, match="use one of them"):
        VectorQuantizer(3, 16, cosine=True, gradient="noise")
