"""SimVQ against another implementation, and what sets it apart: one step moves every code."""

import pytest
import torch
from vector_quantize_pytorch import SimVQ

from tokcli.quantizers.simvq import SimVectorQuantizer


@pytest.mark.parametrize("gradient", ["straight-through", "rotation"])
def test_tokens_codes_loss_and_gradients_agree_with_vector_quantize_pytorch(gradient: str) -> None:
    torch.manual_seed(0)
    reference = SimVQ(dim=6, codebook_size=64, rotation_trick=gradient == "rotation")
    quantizer = SimVectorQuantizer(6, 64, bias=False, gradient=gradient).train()
    quantizer.codebook.seeds.copy_(reference.frozen_codebook)
    quantizer.codebook.map.load_state_dict(reference.code_transform.state_dict())
    latents = (0.5 * torch.randn(4, 50, 6)).requires_grad_()
    output = quantizer(latents)
    codes, indices, loss = reference(latents)
    assert torch.equal(output.tokens.squeeze(-1), indices)
    torch.testing.assert_close(output.latents, codes)
    torch.testing.assert_close(output.loss, loss)
    pull = torch.randn_like(codes)
    (ours,) = torch.autograd.grad((output.latents * pull).sum() + output.loss, latents)
    (theirs,) = torch.autograd.grad((codes * pull).sum() + loss, latents)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    output = quantizer(latents)
    (our_map,) = torch.autograd.grad(output.loss, quantizer.codebook.map.weight)
    (their_map,) = torch.autograd.grad(reference(latents)[2], reference.code_transform.weight)
    torch.testing.assert_close(our_map, their_map)


def test_one_latent_moves_every_code() -> None:
    torch.manual_seed(0)
    quantizer = SimVectorQuantizer(4, 32).train()
    before = quantizer.codes().detach()
    quantizer(torch.randn(1, 1, 4)).loss.backward()
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter -= 0.1 * parameter.grad
    assert ((quantizer.codes() - before).abs().amax(dim=-1) > 0).all()


def test_the_seeds_are_gaussian_with_variance_one_over_dim_and_stay() -> None:
    torch.manual_seed(0)
    quantizer = SimVectorQuantizer(16, 4096)
    assert "codebook.seeds" not in dict(quantizer.named_parameters())
    assert quantizer.codebook.seeds.var().item() == pytest.approx(1 / 16, rel=0.03)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"hidden": 0}, "hidden: expected 1 or more, got 0"),
        ({"gradient": "none"}, "got 'none'"),
        ({"commitment": -1.0}, "commitment: expected 0 or more"),
        ({"dim": 0}, "dim: expected 1 or more"),
    ],
)
def test_unfit_arguments_are_explained(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SimVectorQuantizer(**({"dim": 4, "codebook_size": 8} | arguments))
