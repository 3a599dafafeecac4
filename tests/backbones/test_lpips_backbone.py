"""The LPIPS network: its weight file is found, checked and read; what it computes is the package's own figure."""

import contextlib
import hashlib
import io
import pathlib
import warnings

import pytest
import torch

from tokcli.backbones.lpips import SMALLEST_SIDE, WEIGHT_FILES, build_untrained_lpips, load_lpips
from tokcli.backbones.torchvision import let_torchvision_import
from tokcli.errors import InputError

let_torchvision_import()

import lpips as package  # noqa: E402
import torchvision  # noqa: E402

IMAGES = torch.rand(2, 3, 3, 40, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def checkpoints(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Torch hub's folder of weights, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the network was reached for")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setattr("torch.hub.urlopen", refuse)


@pytest.mark.parametrize("backbone", WEIGHT_FILES)
def test_an_absent_file_is_asked_for_by_name_and_place(checkpoints, no_network, backbone) -> None:
    with pytest.raises(InputError) as caught:
        load_lpips(backbone)
    message = str(caught.value)
    assert f"LPIPS with the {backbone} backbone needs the file {WEIGHT_FILES[backbone]}" in message
    assert f"not in {checkpoints.resolve()};" in message
    assert f"download https://download.pytorch.org/models/{WEIGHT_FILES[backbone]} and put it there" in message


def test_another_file_under_the_official_name_is_refused(checkpoints, no_network) -> None:
    (checkpoints / WEIGHT_FILES["alex"]).write_bytes(b"half a download")
    found = hashlib.sha256(b"half a download").hexdigest()[:8]
    with pytest.raises(InputError, match=f"is not the official file: its sha256 begins with {found}, expected 7be5be"):
        load_lpips("alex")


def test_the_official_weights_reach_every_layer(checkpoints, no_network, monkeypatch) -> None:
    torch.manual_seed(1)
    classifier = torchvision.models.squeezenet1_1(weights=None)
    torch.save(classifier.state_dict(), checkpoints / "unnamed")
    digest = hashlib.sha256((checkpoints / "unnamed").read_bytes()).hexdigest()
    monkeypatch.setitem(WEIGHT_FILES, "squeeze", f"squeezenet1_1-{digest[:8]}.pth")
    (checkpoints / "unnamed").rename(checkpoints / WEIGHT_FILES["squeeze"])

    loaded = load_lpips("squeeze")
    assert load_lpips("squeeze") is loaded

    monkeypatch.setattr("lpips.pretrained_networks.tv.squeezenet1_1", lambda pretrained: classifier)
    expected = package.LPIPS(net="squeeze", verbose=False)(*IMAGES).flatten()
    torch.testing.assert_close(loaded(*IMAGES), expected, rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_file_that_is_replaced_is_checked_again(checkpoints, no_network, monkeypatch) -> None:
    file = checkpoints / WEIGHT_FILES["alex"]
    for content in (b"half a download", b"another half"):
        file.write_bytes(content)
        with pytest.raises(InputError, match=hashlib.sha256(content).hexdigest()[:8]):
            load_lpips("alex")
    file.unlink()
    with pytest.raises(InputError, match="which is not in"):
        load_lpips("alex")


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")
def test_the_distance_is_the_packages_own() -> None:
    torch.manual_seed(2)
    ours = build_untrained_lpips("squeeze")
    torch.manual_seed(2)
    theirs = package.LPIPS(net="squeeze", pnet_rand=True, verbose=False)
    torch.testing.assert_close(ours(*IMAGES), theirs(*IMAGES).flatten(), rtol=0, atol=0)
    assert ours(*IMAGES).shape == (3,)


def test_building_the_network_is_silent_and_leaves_the_random_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()) as printed:
        warnings.simplefilter("error")
        build_untrained_lpips("squeeze")
    assert printed.getvalue() == ""
    assert torch.equal(torch.get_rng_state(), before)


def test_training_mode_does_not_make_the_distance_random() -> None:
    network = build_untrained_lpips("squeeze")
    before = network(*IMAGES)
    torch.nn.Sequential(network).train()
    assert not any(module.training for module in network.modules())
    assert torch.equal(network(*IMAGES), before)


def test_bfloat16_images_and_autocast_are_judged_in_float32() -> None:
    network = build_untrained_lpips("squeeze")
    halves = IMAGES.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distances = network(*halves)
    assert distances.dtype == torch.float32
    assert torch.equal(distances, network(*halves.float()))


@pytest.mark.parametrize("backbone", ["squeeze", "alex", pytest.param("vgg", marks=pytest.mark.slow)])
def test_the_smallest_side_is_the_smallest_that_can_be_judged(backbone) -> None:
    network = build_untrained_lpips(backbone)
    side = SMALLEST_SIDE[backbone]
    assert network.smallest_side == side
    pair = torch.rand(2, 1, 3, side, side) * 2 - 1
    assert torch.isfinite(network(*pair)).all()
    with pytest.raises(RuntimeError):
        network(*pair[..., :-1])


def test_the_gradient_is_finite_where_every_feature_is_dead() -> None:
    network = build_untrained_lpips("squeeze")
    with torch.no_grad():
        for name, values in network.network.net.named_parameters():
            if name.endswith("bias"):
                values.fill_(-100.0)
    image = IMAGES[0].clone().requires_grad_()
    network(image, IMAGES[1]).sum().backward()
    assert torch.equal(image.grad, torch.zeros_like(image))
