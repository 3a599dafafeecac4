"""Noise substitution beyond what every quantizer promises: the noise's length, the live codebooks, their sizes."""

import pathlib

import pytest
import torch
from rank_workers import follow_live
from safetensors.torch import load_file
from torch import multiprocessing

from tokcli.errors import ArgumentError
from tokcli.quantizers.nsvq import LiveCodebooks, NoiseSubstitution
from tokcli.search import nearest_code


def settled(steps: int = 40, **arguments: object) -> NoiseSubstitution:
    """One that has followed standard normal latents for a while."""
    torch.manual_seed(0)
    quantizer = NoiseSubstitution(2, 16, **arguments)
    for _ in range(steps):
        quantizer(torch.randn(8, 64, 2))
    return quantizer


def test_a_latent_moves_as_far_as_its_code_is_and_in_any_direction() -> None:
    quantizer = settled()
    codes = quantizer.live.codes.clone()  # none is dead any more, so these are the codes that are looked up
    latents = torch.randn(8, 64, 2)
    moved = (quantizer(latents).latents - latents).flatten(0, 1)
    error = codes[nearest_code(latents.flatten(0, 1), codes)] - latents.flatten(0, 1)
    torch.testing.assert_close(moved.norm(dim=-1), error.norm(dim=-1))
    cosine = torch.nn.functional.cosine_similarity(moved, error, dim=-1)
    assert abs(float(cosine.mean())) < 0.1
    assert float(torch.nn.functional.normalize(moved, dim=-1).mean(0).abs().max()) < 0.1


def test_the_noise_has_no_gradient_and_the_commitment_has_its_own() -> None:
    quantizer = settled(commitment=0.5)
    latents = torch.randn(2, 50, 2, requires_grad=True)
    output = quantizer(latents)
    weights = torch.randn(2, 50, 2)
    (passed,) = torch.autograd.grad((output.latents * weights).sum(), latents, retain_graph=True)
    assert torch.equal(passed, weights)
    (pull,) = torch.autograd.grad(output.loss, latents)
    assert float(output.loss.detach()) == pytest.approx(0.5 * float(output.stats["commitment"]))
    assert float(pull.abs().max()) > 0


def test_the_codes_become_means_of_their_latents() -> None:
    """Four heaps of latents and four codes: each code ends amid the heaps that it serves, be it one or two."""
    torch.manual_seed(1)
    heaps = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    quantizer = NoiseSubstitution(2, 4)
    for _ in range(60):
        quantizer(heaps.repeat(4, 16, 1) + 0.1 * torch.randn(4, 64, 2))
    codes = quantizer.live.codes
    tokens = nearest_code(heaps, codes)
    for token in tokens.unique():
        torch.testing.assert_close(codes[token], heaps[tokens == token].mean(0), atol=0.1, rtol=0)


def test_every_size_serves_an_equal_share_of_the_items() -> None:
    """Far more codes err far less: of eight items four move a little and four a lot."""
    quantizer = settled(sizes=[16, 2048], steps=60)
    latents = torch.randn(8, 500, 2)
    moves = (quantizer(latents).latents - latents).norm(dim=-1).mean(dim=1)
    assert sorted(moves > moves.mean()) == [False] * 4 + [True] * 4
    assert float(moves.min()) < 0.3 * float(moves.max())


def test_a_batch_smaller_than_the_sizes_serves_them_in_turns() -> None:
    quantizer = settled(sizes=[16, 256], steps=60)
    latents = torch.randn(1, 500, 2)
    moves = [float((quantizer(latents).latents - latents).norm(dim=-1).mean()) for _ in range(20)]
    assert min(moves) < 0.6 * max(moves)


def test_a_size_that_serves_nobody_in_a_step_stays_as_it_is() -> None:
    codebook = LiveCodebooks([4], 2).of(0)
    codebook.restart(0.1, 8.0, torch.randn(8, 2))
    before = codebook.codes.clone()
    codebook.average(torch.empty(0, 2), torch.empty(0, dtype=torch.int64), 0.8)
    torch.testing.assert_close(codebook.codes, before)


def test_evaluations_use_the_live_codebook_of_the_size_asked_for() -> None:
    quantizer = settled(sizes=[64, 16]).eval()
    with quantizer.provisional_codebook():
        assert quantizer.codebook_size == 16
        assert torch.equal(quantizer.built.codes, quantizer.live.codes[64:])
    assert not quantizer.codebook_ready


@pytest.mark.parametrize("sizes", [[8, 32], [16, 16], []])
def test_sizes_without_the_one_asked_for_or_twice_are_refused(sizes: list[int]) -> None:
    with pytest.raises(ArgumentError, match="with codebook_size among them"):
        NoiseSubstitution(2, 16, sizes=sizes)


@pytest.mark.slow
def test_two_ranks_hold_the_same_live_codebooks(tmp_path: pathlib.Path) -> None:
    multiprocessing.spawn(follow_live, args=(str(tmp_path),), nprocs=2)
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert bool((first["live.codes"].mean(-1) < 2).any())
    assert bool((first["live.codes"].mean(-1) > 8).any())


def test_without_noise_the_decoder_reads_the_codes_and_the_encoder_gets_its_gradient_as_it_is() -> None:
    quantizer = settled()
    quantizer.noise_share = 0.0
    codes = quantizer.live.codes.clone()  # none is dead any more, so these are the codes that are looked up
    latents = torch.randn(8, 64, 2, requires_grad=True)
    moved = quantizer(latents).latents
    torch.testing.assert_close(moved.flatten(0, 1), codes[nearest_code(latents.detach().flatten(0, 1), codes)])
    (passed,) = torch.autograd.grad(moved.sum(), latents)
    assert torch.equal(passed, torch.ones_like(passed))


def test_a_share_of_the_items_gets_noise_and_the_others_their_codes() -> None:
    quantizer = settled(turnover=1e6)
    quantizer.noise_share = 0.25
    codes = quantizer.live.codes.clone()
    latents = torch.randn(400, 4, 2)
    at_codes = quantizer(latents).latents.isclose(codes[nearest_code(latents.flatten(0, 1), codes)].view_as(latents))
    whole = at_codes.all(-1)
    assert torch.equal(whole.all(-1), whole.any(-1))  # an item is of one kind throughout
    assert 0.15 < 1 - float(whole.all(-1).float().mean()) < 0.35
