"""LPIPS as a loss, with a random classifier: the package's figure, gradients to the images alone, plain refusals."""

import pytest
import torch

from tokcli.backbones.lpips import build_untrained_lpips
from tokcli.errors import InputError, RecipeError
from tokcli.losses import LOSSES

IMAGES = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def loss(monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    monkeypatch.setattr("tokcli.losses.perceptual.load_lpips", build_untrained_lpips)
    torch.manual_seed(0)
    return LOSSES.build({"kind": "lpips", "backbone": "squeeze", "weight": 0.5})


def test_the_loss_is_the_mean_distance_of_the_batch(loss) -> None:
    reconstruction, reference = IMAGES
    distances = loss.network.network(reconstruction, reference).flatten()
    torch.testing.assert_close(loss(reconstruction, reference), distances.mean())
    assert loss.weight == 0.5
    assert loss.modality == "image"


def test_only_the_images_receive_gradients(loss) -> None:
    reconstruction = IMAGES[0].clone().requires_grad_()
    loss.train()(reconstruction, IMAGES[1]).backward()
    assert reconstruction.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in loss.parameters())


def test_the_reconstruction_is_not_rounded(loss) -> None:
    reference = torch.full((1, 3, 32, 32), 0.0)
    less_than_a_level = reference + IMAGES[0, :1] / 300
    assert loss(less_than_a_level, reference) > 0


def test_crops_too_small_for_the_backbone_are_refused_with_the_size_that_works(loss) -> None:
    small = IMAGES[..., :16]
    with pytest.raises(InputError, match="squeeze backbone cannot judge images of 32x16 pixels; train on crops of at"):
        loss(*small)


def test_absent_weights_are_reported_with_the_place_in_the_recipe(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"^losses\.1: LPIPS with the vgg backbone needs the file vgg16-397923af\.pth"):
        LOSSES.build({"kind": "lpips"}, "losses.1")


def test_an_unknown_backbone_is_refused_by_the_schema() -> None:
    with pytest.raises(RecipeError, match=r"loss\.backbone: input should be 'vgg', 'alex' or 'squeeze', got 'resnet'"):
        LOSSES.build({"kind": "lpips", "backbone": "resnet"})
