"""PSNR, SSIM and LPIPS: closed forms, independent programs to agree with, and the traps that peers fell into."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tokcli.backbones.lpips import build_untrained_lpips
from tokcli.contracts import RoundTrip
from tokcli.metrics import METRICS
from tokcli.metrics.images import psnr, ssim
from tokcli.numerics import to_levels


def photographs(count: int = 4, height: int = 40, width: int = 56, noise: float = 0.1) -> tuple[torch.Tensor, ...]:
    """Smooth pictures and noisy copies of them, the noise growing from item to item."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 5, 7, generator=generator) * 2 - 1
    reference = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(-1, 1)
    strength = noise * torch.arange(1, count + 1).view(-1, 1, 1, 1)
    return reference + strength * torch.randn(reference.shape, generator=generator), reference


def pixels(image: torch.Tensor) -> np.ndarray:
    """(channels, height, width) in [-1, 1] -> (height, width, channels) uint8, rounded by numpy."""
    return np.rint(np.clip((image.numpy() + 1) * 127.5, 0, 255)).astype(np.uint8).transpose(1, 2, 0)


def judge(name: str, reconstruction: torch.Tensor, reference: torch.Tensor):
    metric = METRICS.build({"kind": name})
    metric.update(RoundTrip(reference, reconstruction, None, 1))
    return metric


def test_psnr_of_one_level_off_everywhere_is_that_of_the_textbook() -> None:
    reference = torch.full((1, 3, 8, 8), 100 / 127.5 - 1)
    off_by_one = reference + 1 / 127.5
    assert psnr(off_by_one, reference).item() == pytest.approx(20 * math.log10(255))
    assert psnr(off_by_one, reference).item() == pytest.approx(48.1308, abs=1e-4)


def test_psnr_agrees_with_scikit_image() -> None:
    reconstruction, reference = photographs()
    expected = [
        peak_signal_noise_ratio(pixels(y), pixels(x), data_range=255)
        for x, y in zip(reconstruction, reference, strict=True)
    ]
    np.testing.assert_allclose(psnr(reconstruction, reference), expected, rtol=1e-12)
    assert judge("psnr", reconstruction, reference).compute() == pytest.approx(np.mean(expected), rel=1e-12)


@pytest.mark.parametrize("size", [(40, 56), (11, 11), (11, 30), (64, 13)])
def test_ssim_agrees_with_scikit_image(size) -> None:
    reconstruction, reference = photographs(height=size[0], width=size[1])
    expected = [
        structural_similarity(
            pixels(y) / 255.0,
            pixels(x) / 255.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=2,
        )
        for x, y in zip(reconstruction, reference, strict=True)
    ]
    np.testing.assert_allclose(ssim(reconstruction, reference), expected, atol=1e-9)
    assert judge("ssim", reconstruction, reference).compute() == pytest.approx(np.mean(expected), abs=1e-9)


def test_ssim_of_flat_images_is_the_luminance_term_alone() -> None:
    black, white = torch.full((1, 3, 11, 11), -1.0), torch.full((1, 3, 11, 11), 1.0)
    assert ssim(black, white).item() == pytest.approx(1e-4 / (1 + 1e-4), rel=1e-6)
    assert ssim(white, white).item() == pytest.approx(1.0, rel=1e-12)


def test_ssim_with_a_data_range_of_two_would_have_been_higher() -> None:
    reconstruction, reference = photographs(1, noise=0.15)
    inflated = structural_similarity(
        pixels(reference[0]) / 255.0,
        pixels(reconstruction[0]) / 255.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=2.0,
        channel_axis=2,
    )
    assert inflated > ssim(reconstruction, reference).item() + 0.04


def test_pixels_are_rounded_and_not_truncated() -> None:
    signal = torch.tensor([-1.0, 1.0, -1.5, 1.5, 0.9 / 127.5 - 1, 10.4 / 127.5 - 1])
    assert to_levels(signal).tolist() == [0, 255, 0, 255, 1, 10]
    exact = torch.arange(256) / 127.5 - 1
    assert to_levels(exact).tolist() == list(range(256))
    reference = torch.full((1, 3, 8, 8), 100 / 127.5 - 1)
    # A tenth of a level too dark: truncation would see a whole level and report 48.13 dB.
    assert psnr(reference - 0.1 / 127.5, reference).item() == 100


def test_psnr_is_averaged_over_images_and_not_over_their_pooled_error() -> None:
    reconstruction, reference = photographs()
    pooled = -10 * math.log10(((to_levels(reconstruction) - to_levels(reference)) / 255).square().mean())
    assert judge("psnr", reconstruction, reference).compute() > pooled + 0.5


def test_one_identical_image_does_not_make_the_mean_infinite() -> None:
    reference = torch.full((2, 3, 8, 8), 100 / 127.5 - 1)
    reconstruction = reference.clone()
    reconstruction[1] += 1 / 127.5
    metric = judge("psnr", reconstruction, reference)
    assert metric.compute() == pytest.approx((100 + 48.1308) / 2, abs=1e-4)
    assert metric.protocol()["identical_images_db"] == 100


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_batch_composition_does_not_matter(name) -> None:
    reconstruction, reference = photographs(5)
    alone = METRICS.build({"kind": name})
    for item in range(5):
        alone.update(RoundTrip(reference[item : item + 1], reconstruction[item : item + 1], None, 1))
    assert alone.compute() == pytest.approx(judge(name, reconstruction, reference).compute(), rel=1e-12)


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_bfloat16_images_are_judged_as_the_same_values_in_float32(name) -> None:
    reconstruction, reference = (signal.bfloat16() for signal in photographs())
    expected = judge(name, reconstruction.float(), reference.float()).compute()
    assert judge(name, reconstruction, reference).compute() == expected


def test_images_smaller_than_the_window_are_counted_and_not_averaged_in() -> None:
    metric = judge("ssim", *photographs(3))
    before = metric.compute()
    tiny = torch.zeros(2, 3, 10, 64)
    metric.update(RoundTrip(tiny, tiny, None, 1))
    assert (metric.compute(), metric.unscored) == (before, 2)


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_an_image_that_is_not_finite_is_counted_and_not_averaged_in(name) -> None:
    reconstruction, reference = photographs(3)
    expected = judge(name, reconstruction[:2], reference[:2]).compute()
    reconstruction[2, 0, 5, 5] = torch.nan
    metric = judge(name, reconstruction, reference)
    assert metric.unscored == 1
    assert metric.compute() == pytest.approx(expected, rel=1e-12)


def test_ssim_records_its_window() -> None:
    protocol = METRICS.build({"kind": "ssim"}).protocol()
    assert protocol["window"] == "11x11 Gaussian, sigma 1.5"
    assert protocol["rounding"] == "8-bit, to nearest"
    assert protocol["data_range"] == 1


GENERATOR = torch.Generator().manual_seed(0)
REFERENCE = torch.rand(3, 3, 32, 40, generator=GENERATOR) * 2 - 1
RECONSTRUCTION = REFERENCE + 0.2 * torch.randn(REFERENCE.shape, generator=GENERATOR)


@pytest.fixture
def lpips(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tokcli.metrics.images.load_lpips", build_untrained_lpips)
    torch.manual_seed(0)
    return METRICS.build({"kind": "lpips-squeeze"})


def test_the_figure_is_the_packages_on_rounded_pixels(lpips) -> None:
    lpips.update(RoundTrip(REFERENCE, RECONSTRUCTION, None, 1))
    judged = lpips.network.network
    levels = [((signal.clamp(-1, 1) + 1) / 2 * 255).round() / 255 for signal in (RECONSTRUCTION, REFERENCE)]
    expected = sum(judged(x[None], y[None], normalize=True).item() for x, y in zip(*levels, strict=True)) / 3
    assert lpips.compute() == pytest.approx(expected, rel=1e-5)
    unrounded = judged(RECONSTRUCTION, REFERENCE).mean().item()
    assert lpips.compute() != pytest.approx(unrounded, rel=1e-4)


def test_batch_composition_does_not_matter_to_lpips(lpips) -> None:
    lpips.update(RoundTrip(REFERENCE, RECONSTRUCTION, None, 1))
    together = lpips.compute()
    for item in range(3):
        lpips.update(RoundTrip(REFERENCE[item, None], RECONSTRUCTION[item, None], None, 1))
    assert lpips.compute() == pytest.approx(together, rel=1e-5)
    assert lpips.state["items"] == 6


def test_images_too_small_for_the_backbone_are_counted_and_not_averaged_in(lpips) -> None:
    lpips.update(RoundTrip(REFERENCE, RECONSTRUCTION, None, 1))
    before = lpips.compute()
    lpips.update(RoundTrip(REFERENCE[..., :16], RECONSTRUCTION[..., :16], None, 1))
    assert (lpips.compute(), lpips.unscored) == (before, 3)


def test_the_record_names_the_backbone(lpips) -> None:
    assert lpips.protocol()["backbone"] == "squeeze"
    assert lpips.protocol()["backbone_weights"] == "squeezenet1_1-b8a52dc0.pth"
    assert [METRICS[name].backbone for name in ("lpips", "lpips-alex", "lpips-squeeze")] == ["vgg", "alex", "squeeze"]
