"""Nearest codes: by hand, against float64 brute force, and whatever the batch."""

import pytest
import torch
from torch import Tensor

from tokcli.search import CodeIndex, codes, nearest_code


def brute_force(latents: Tensor, codebook: Tensor) -> Tensor:
    return (latents.double().unsqueeze(1) - codebook.double()).square().sum(-1).argmin(1)


def test_the_nearest_corner_of_a_square() -> None:
    codebook = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    latents = torch.tensor([[0.4, 0.4], [0.9, 0.2], [-3.0, 0.6], [0.6, 0.6]])
    assert nearest_code(latents, codebook).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dim", [1, 3, 8, 9, 64])
@pytest.mark.parametrize("size", [1, 3, 100, 1000])
def test_tokens_equal_float64_brute_force(dim: int, size: int) -> None:
    generator = torch.Generator().manual_seed(dim * size)
    codebook = torch.randn(size, dim, generator=generator)
    latents = torch.randn(300, dim, generator=generator)
    tokens = nearest_code(latents, codebook)
    assert tokens.dtype == torch.int64
    torch.testing.assert_close(tokens, brute_force(latents, codebook))


@pytest.mark.parametrize("dim", [4, 16])
def test_a_codebook_far_from_the_origin_loses_nothing(dim: int) -> None:
    """‖e‖² − 2 z·e on raw values would be wrong for about half of these: its terms are 1e8 times the differences."""
    generator = torch.Generator().manual_seed(0)
    codebook = 1000 + torch.randn(512, dim, generator=generator)
    latents = 1000 + torch.randn(400, dim, generator=generator)
    torch.testing.assert_close(nearest_code(latents, codebook), brute_force(latents, codebook))


def test_the_product_route_agrees_with_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    codebook, latents = torch.randn(2048, 5, generator=generator), torch.randn(3000, 5, generator=generator)
    from_tree = nearest_code(latents, codebook)
    monkeypatch.setattr(codes, "TREE_DIM", 0)
    monkeypatch.setattr(codes, "CPU_SCORES", 10_000)
    torch.testing.assert_close(nearest_code(latents, codebook), from_tree)


def test_a_batch_of_one_gets_the_tokens_of_the_batch() -> None:
    generator = torch.Generator().manual_seed(2)
    index = CodeIndex(torch.randn(256, 24, generator=generator))
    latents = torch.randn(50, 24, generator=generator)
    alone = torch.cat([index.nearest(latent.unsqueeze(0)) for latent in latents])
    torch.testing.assert_close(alone, index.nearest(latents))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_and_fast_matmul_settings_do_not_reach_the_distances(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    codebook, latents = torch.randn(500, 32, generator=generator), torch.randn(200, 32, generator=generator)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=dtype):
            tokens = nearest_code(latents, codebook)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    torch.testing.assert_close(tokens, brute_force(latents, codebook))


@pytest.mark.parametrize("dim", [2, 16])
def test_codes_computed_in_inference_mode_are_searched_too(dim: int) -> None:
    with torch.inference_mode():
        codebook = 2 * torch.eye(dim)
        assert nearest_code(codebook + 0.1, codebook).tolist() == list(range(dim))


@pytest.mark.parametrize("dim", [2, 16])
def test_no_latents_get_no_tokens_and_broken_ones_get_some(dim: int) -> None:
    codebook = torch.randn(40, dim, generator=torch.Generator().manual_seed(4))
    assert nearest_code(torch.empty(0, dim), codebook).shape == (0,)
    tokens = nearest_code(torch.full((3, dim), float("nan")), codebook)
    assert ((tokens >= 0) & (tokens < 40)).all()
