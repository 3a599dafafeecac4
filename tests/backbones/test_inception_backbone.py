"""The Inception network: its weight file is found, checked and read, and its features are the package's own."""

import hashlib
import pathlib

import pytest
import torch

from tokcli.backbones import inception
from tokcli.backbones.inception import build_untrained_inception, load_inception
from tokcli.backbones.torchvision import let_torchvision_import
from tokcli.errors import InputError, UsageError

let_torchvision_import()

LEVELS = torch.randint(0, 256, (2, 3, 20, 31), generator=torch.Generator().manual_seed(0)).float()


@pytest.fixture
def checkpoints(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Torch hub's folder of weights, empty, and no network to fill it from."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the network was reached for")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_an_absent_package_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch_fidelity", None)
    with pytest.raises(
        UsageError, match=r"torch-fidelity is not installed; run: pip install torch-fidelity \(extra: fid\)$"
    ):
        load_inception()


def test_an_absent_file_is_asked_for_by_name_and_place(checkpoints: pathlib.Path) -> None:
    pytest.importorskip("torch_fidelity")
    with pytest.raises(InputError) as caught:
        load_inception()
    message = str(caught.value)
    assert "rFID needs the file weights-inception-2015-12-05-6726825d.pth" in message
    assert f"not in {checkpoints.resolve()}; download https://github.com/toshas/torch-fidelity/" in message


@pytest.mark.slow
def test_the_official_weights_reach_every_layer(checkpoints: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("torch_fidelity")
    torch.manual_seed(0)
    given = build_untrained_inception()
    torch.save(given.network.state_dict(), checkpoints / "unnamed")
    digest = hashlib.sha256((checkpoints / "unnamed").read_bytes()).hexdigest()
    name = f"weights-{digest[:8]}.pth"
    (checkpoints / "unnamed").rename(checkpoints / name)
    monkeypatch.setattr(inception, "WEIGHT_FILE", name)
    torch.manual_seed(1)

    loaded = load_inception()

    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    whole = package.FeatureExtractorInceptionV3(
        "inception", ["2048"], feature_extractor_weights_path=checkpoints / name
    )
    expected = whole(LEVELS.to(torch.uint8))[0]
    assert expected.shape == (2, 2048)
    assert torch.equal(loaded(LEVELS), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loaded(LEVELS), expected)


def test_building_the_network_leaves_the_random_generator_alone() -> None:
    pytest.importorskip("torch_fidelity")
    before = torch.get_rng_state()
    assert not build_untrained_inception().network.training
    assert torch.equal(torch.get_rng_state(), before)
