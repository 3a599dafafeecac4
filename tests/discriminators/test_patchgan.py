"""PatchGAN: what a logit sees, what it depends on, and arguments that do not fit."""

import pytest
import torch

from tokcli.discriminators import DISCRIMINATORS
from tokcli.discriminators.patchgan import PatchDiscriminator
from tokcli.errors import InputError, RecipeError


def images(count: int, side: int) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("layers", "patch"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_one_patch(layers: int, patch: int) -> None:
    discriminator = PatchDiscriminator(width=4, layers=layers, norm="spectral")
    signal = images(1, 128).requires_grad_()
    (logits,) = discriminator(signal)
    assert logits.shape == (1, 1, 128 // 2**layers - 2, 128 // 2**layers - 2)
    middle = logits.shape[-1] // 2
    logits[0, 0, middle, middle].backward()
    seen = signal.grad[0].abs().sum(0) > 0
    assert seen.any(0).sum() == seen.any(1).sum() == patch


@pytest.mark.parametrize("norm", ["batch", "group", "spectral"])
def test_the_smallest_side_is_the_smallest_that_can_be_judged(norm: str) -> None:
    discriminator = PatchDiscriminator(width=8, layers=2, norm=norm)
    assert discriminator(images(2, 12))[0].shape == (2, 1, 1, 1)
    with pytest.raises(
        InputError, match=r"11x11 pixels; train on crops of at least 12 .*adversary\.discriminator\.lay"
    ):
        discriminator(images(2, 11))


def test_only_batch_norm_mixes_the_images_of_a_batch() -> None:
    signals = images(4, 24)
    for norm, mixes in (("batch", True), ("group", False)):
        discriminator = PatchDiscriminator(width=8, layers=2, norm=norm)
        together, alone = discriminator(signals)[0][:1], discriminator(signals[:1])[0]
        assert torch.allclose(together, alone, atol=1e-5) != mixes, norm


def test_spectral_norm_bounds_every_convolution() -> None:
    discriminator = PatchDiscriminator(width=8, layers=2, norm="spectral")
    for _ in range(30):
        discriminator(images(1, 12))
    for module in discriminator.modules():
        if isinstance(module, torch.nn.Conv2d):
            assert torch.linalg.matrix_norm(module.weight.flatten(1), 2).item() == pytest.approx(1, rel=0.02)


def test_it_holds_no_statistics_that_training_does_not_need() -> None:
    assert not list(PatchDiscriminator(width=8, norm="batch").buffers())


def test_it_learns_to_tell_blurred_from_sharp() -> None:
    discriminator = PatchDiscriminator(width=8, layers=1, norm="batch")
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=2e-3)
    sharp = images(8, 16)
    blurred = torch.nn.functional.avg_pool2d(sharp, 3, stride=1, padding=1)
    for _ in range(60):
        gap = (discriminator(sharp)[0] - discriminator(blurred)[0]).mean()
        optimizer.zero_grad()
        torch.nn.functional.softplus(-gap).backward()
        optimizer.step()
    assert gap.item() > 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"width": 0}, "width: expected 1 or more, got 0"),
        ({"layers": 0}, "layers: expected 1 or more, got 0"),
        ({"norm": "layer"}, "norm"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        DISCRIMINATORS.build({"kind": "patchgan", **arguments})
    with pytest.raises(ValueError, match=words):
        PatchDiscriminator(**arguments)
