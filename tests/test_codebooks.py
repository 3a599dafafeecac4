"""A uniform sample of latents, and the codebooks built from it."""

import pathlib

import pytest
import torch

from tokcli.artifacts import Artifact, load_artifact, save_artifact
from tokcli.artifacts.fingerprint import compute_fingerprints
from tokcli.codebooks import LatentSample, build_codebooks, sample_latents
from tokcli.data.image.dead_leaves import DeadLeaves
from tokcli.errors import InputError, UsageError
from tokcli.recipe.build import build_tokenizer
from tokcli.recipe.recipe import from_text


def offered(capacity: int, order: list[int], seed: int = 0) -> LatentSample:
    """A sample of items with 50 latents each, whose value is the item's number."""
    sample = LatentSample(capacity, seed)
    for item in order:
        sample.offer(torch.full((50, 2), float(item)), item)
    return sample


def test_a_sample_does_not_depend_on_the_order_of_arrival() -> None:
    forward, backward = (offered(200, order).latents for order in (list(range(40)), list(range(40))[::-1]))
    assert torch.equal(forward, backward)
    assert len(forward) == 200
    assert not torch.equal(forward, offered(200, list(range(40)), seed=1).latents)


def test_samples_of_two_processes_merge_to_the_sample_of_one() -> None:
    whole = LatentSample(200, 0)
    for rank in (0, 1):
        whole.take(*offered(200, list(range(rank, 40, 2))).keyed())
    whole.take(*LatentSample(200, 0).keyed())  # a process without any
    assert torch.equal(whole.latents, offered(200, list(range(40))).latents)


def test_every_latent_is_as_likely_as_another() -> None:
    counts = torch.zeros(20)
    for seed in range(60):
        counts += torch.bincount(offered(100, list(range(20)), seed).latents[:, 0].long(), minlength=20)
    # 6000 draws over 20 items: 300 ± 17 each; five deviations are missed once in 10^5 runs.
    assert (counts - 300).abs().max() < 85


def test_an_empty_sample_says_that_nothing_was_read() -> None:
    with pytest.raises(InputError, match="not one latent to build a codebook from"):
        _ = LatentSample(10, 0).latents


def test_latents_of_a_source_are_those_of_the_tokenizer(tiny: str) -> None:
    tokenizer = build_tokenizer(from_text(tiny, "tiny")).eval()
    source = DeadLeaves(items=3, size=16)
    sampled = sample_latents(tokenizer, source, 10_000, batch_size=2, workers=0)
    signals = torch.stack([source.load(index).signal for index in range(3)])
    everything = tokenizer.latents(signals).flatten(0, -2)
    assert sampled.shape == everything.shape == (3 * 16, 3)
    assert torch.equal(sampled.sort(dim=0).values, everything.sort(dim=0).values)


def test_each_pass_sees_other_draws_and_items_are_spread(tiny: str) -> None:
    tokenizer = build_tokenizer(from_text(tiny, "tiny")).eval()
    source = DeadLeaves(items=9, size=16)
    assert len(sample_latents(tokenizer, source, 10_000, passes=2, workers=0)) == 2 * 9 * 16
    spread = sample_latents(tokenizer, source, 10_000, items=3, workers=0)
    alone = tokenizer.latents(torch.stack([source.load(index).signal for index in (0, 3, 6)])).flatten(0, -2)
    assert torch.equal(spread.sort(dim=0).values, alone.sort(dim=0).values)


def test_several_sizes_are_built_and_the_trained_one_is_used(tiny: str) -> None:
    recipe = from_text(tiny, "tiny", ["quantizer={kind: vpvae, dim: 3, codebook_size: 16}"])
    tokenizer = build_tokenizer(recipe).eval()
    latents = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    reports = build_codebooks(tokenizer, latents, [8, 16, 64])
    assert [report.size for report in reports] == [8, 16, 64]
    assert reports[0].mse > reports[1].mse > reports[2].mse
    assert all(1 < report.perplexity <= report.size for report in reports)
    assert tokenizer.quantizer.codebook_size == 16
    tokenizer.quantizer.use_codebook(64)
    assert int(tokenizer.quantizer.quantize(latents).max()) > 16


def test_a_quantizer_whose_codebook_is_a_grid_has_nothing_to_build(tiny: str) -> None:
    tokenizer = build_tokenizer(from_text(tiny, "tiny", ["quantizer={kind: fsq, levels: [5, 3, 3]}"]))
    with pytest.raises(UsageError, match="this quantizer's codebook of 45 codes comes from training"):
        build_codebooks(tokenizer, torch.randn(100, 3), [16])


@pytest.mark.parametrize("kind", ["vq", "simvq", "vaevq"])
def test_a_learnt_codebook_can_be_replaced_by_one_of_any_size_and_the_network_stays_the_same(
    kind: str, tiny: str, tmp_path: pathlib.Path
) -> None:
    width = {"vaevq": ["autoencoder.latent_dim=6", "autoencoder.decoder_dim=3"]}.get(kind, [])
    recipe = from_text(tiny, "tiny", [f"quantizer={{kind: {kind}, dim: 3, codebook_size: 16}}", *width])
    tokenizer = build_tokenizer(recipe).eval()
    learnt = compute_fingerprints(tokenizer, recipe)
    latents = torch.randn(2000, tokenizer.quantizer.input_dim, generator=torch.Generator().manual_seed(0))
    reports = build_codebooks(tokenizer, latents, [8, 64])
    assert tokenizer.quantizer.codebooks == (8, 16, 64)
    assert tokenizer.quantizer.codebook_size == 64
    rebuilt = compute_fingerprints(tokenizer, recipe)
    assert rebuilt.network == learnt.network
    assert rebuilt.codebook != learnt.codebook
    save_artifact(tmp_path / "a.safetensors", Artifact(tokenizer, recipe, "raw", reports))
    for size in (8, 64):
        loaded = load_artifact(tmp_path / "a.safetensors", size).tokenizer
        tokenizer.quantizer.use_codebook(size)
        assert torch.equal(loaded.quantizer.quantize(latents), tokenizer.quantizer.quantize(latents))
    loaded = load_artifact(tmp_path / "a.safetensors", 16)
    assert compute_fingerprints(loaded.tokenizer, recipe) == learnt
