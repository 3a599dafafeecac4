"""Weight files: fetched once with a check of their sum, never against the user's will; local ones say what they are."""

import hashlib
import http.server
import pathlib
import threading
from collections.abc import Iterator

import pytest
import safetensors.torch
import torch

from tokcli.backbones import weights
from tokcli.backbones.lpips import load_local_lpips, recognise_backbone
from tokcli.backbones.torchvision import let_torchvision_import
from tokcli.backbones.weights import OfficialFile, load_official_weights
from tokcli.errors import InputError, UsageError
from tokcli.metrics import METRICS, build_metrics
from tokcli.metrics.weights import assign_weights, require_use
from tokcli.progress import Task, listening

let_torchvision_import()

import torchvision  # noqa: E402

IMAGES = torch.rand(2, 3, 3, 40, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Told:
    """A reporter that keeps its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def task(self, label: str, total: int | None, unit: str, done: int = 0) -> Task:
        raise AssertionError


class _Quiet(http.server.SimpleHTTPRequestHandler):
    served: list[str]

    def log_message(self, *arguments: object) -> None: ...

    def do_GET(self) -> None:
        self.served.append(self.path)
        super().do_GET()


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[tuple[str, pathlib.Path, list[str]]]:
    """A server of this machine: its address, the folder that it offers, and what was asked of it."""
    offered, served = tmp_path / "offered", []
    offered.mkdir()
    handler = type("Handler", (_Quiet,), {"served": served})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: handler(*args, directory=offered)) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}", offered, served
        listener.shutdown()


@pytest.fixture
def hub(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Torch hub's folder of weights, which does not exist yet; the network is allowed."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(weights.OFFLINE, raising=False)
    return tmp_path / "home" / "hub" / "checkpoints"


def offer(folder: pathlib.Path, address: str, digest: str | None = None) -> OfficialFile:
    """Tensors saved as an official file would be, and how one asks for them."""
    torch.save({"features.0.weight": torch.arange(3.0)}, folder / "unnamed")
    found = hashlib.sha256((folder / "unnamed").read_bytes()).hexdigest()[:8]
    path = (folder / "unnamed").rename(folder / f"net-{digest or found}.pth")
    return OfficialFile(path.name, address, 1, needed_by="The net")


def test_an_absent_file_is_fetched_once_and_its_size_is_told(server, hub) -> None:
    address, offered, served = server
    file, told = offer(offered, address), Told()
    with listening(told):
        first = load_official_weights(file)
        second = load_official_weights(file)
    assert first["features.0.weight"].tolist() == second["features.0.weight"].tolist() == [0, 1, 2]
    assert served == [f"/{file.name}"]
    assert [path.name for path in hub.iterdir()] == [file.name]
    assert told.notes[0].startswith(f"The net: fetching {file.name} (1 MB) from 127.0.0.1 into {hub.resolve()}, once")
    assert told.notes[1] == f"fetched {hub.resolve() / file.name}; its sha256 begins with {file.digest}, as it should"


def test_a_file_with_another_sum_is_refused_and_not_kept(server, hub) -> None:
    address, offered, _ = server
    file = offer(offered, address, digest="0badc0de")
    with pytest.raises(InputError, match=r"The net needs the file net-0badc0de\.pth.*fetching it failed: .*hash"):
        load_official_weights(file)
    assert not hub.exists()


def test_a_file_that_is_not_offered_is_asked_for_with_the_reason(server, hub) -> None:
    file = OfficialFile("net-01234567.pth", server[0], 1, needed_by="The net", way_on="; or do without")
    with pytest.raises(InputError) as caught:
        load_official_weights(file)
    assert f"download {file.address} and put it there (TORCH_HOME moves that folder); or do without" in str(
        caught.value
    )
    assert "fetching it failed: HTTP Error 404" in str(caught.value)


def test_offline_nothing_is_fetched(server, hub, monkeypatch) -> None:
    monkeypatch.setenv(weights.OFFLINE, "1")
    with pytest.raises(InputError, match=r"which is not in .*; TOK_OFFLINE is set, so nothing was fetched"):
        load_official_weights(offer(server[1], server[0]))
    assert server[2] == []


@pytest.fixture
def squeeze(tmp_path: pathlib.Path) -> tuple[pathlib.Path, torch.nn.Module]:
    """A file of random features of SqueezeNet, and the network that they are of."""
    torch.manual_seed(1)
    classifier = torchvision.models.squeezenet1_1(weights=None)
    path = tmp_path / "squeeze.safetensors"
    safetensors.torch.save_file(classifier.features.state_dict(), path)
    return path, classifier


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")
def test_local_features_reach_every_layer_by_either_name(squeeze, tmp_path, monkeypatch) -> None:
    import lpips as package

    path, classifier = squeeze
    whole = tmp_path / "whole.safetensors"
    safetensors.torch.save_file(classifier.state_dict(), whole)
    monkeypatch.setattr("lpips.pretrained_networks.tv.squeezenet1_1", lambda pretrained: classifier)
    expected = package.LPIPS(net="squeeze", verbose=False)(*IMAGES).flatten()
    for file in (path, whole):
        network, digest = load_local_lpips("squeeze", file)
        torch.testing.assert_close(network(*IMAGES), expected, rtol=0, atol=0)
        assert digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_says_whose_features_it_holds(squeeze, tmp_path) -> None:
    assert recognise_backbone(squeeze[0]) == "squeeze"
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"0.weight": torch.zeros(3)}, other)
    with pytest.raises(InputError, match="holds the features of no classifier that LPIPS knows"):
        recognise_backbone(other)
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(InputError, match=r"text\.safetensors is not a safetensors file"):
        recognise_backbone(tmp_path / "text.safetensors")
    with pytest.raises(InputError, match=r"nowhere\.safetensors: the file cannot be opened: No such file"):
        recognise_backbone(tmp_path / "nowhere.safetensors")


def test_features_of_another_backbone_are_refused(squeeze) -> None:
    with pytest.raises(
        InputError, match=r"does not hold the features of the alex backbone: it has no features\.3\.weight"
    ):
        load_local_lpips("alex", squeeze[0])


def test_the_metric_of_the_files_backbone_takes_it_and_its_digest_is_in_the_protocol(squeeze) -> None:
    for key in ("lpips", "lpips-squeeze"):
        metric = build_metrics(["psnr", "lpips-squeeze"], "image", {key: str(squeeze[0])})["lpips-squeeze"]
        assert metric.protocol()["backbone_weights"] == "squeeze.safetensors"
        assert metric.protocol()["backbone_weights_sha256"] == hashlib.sha256(squeeze[0].read_bytes()).hexdigest()


def test_a_file_that_no_metric_uses_is_left_out_and_refused_where_it_was_asked_for(squeeze) -> None:
    files = {"lpips": str(squeeze[0])}
    assert assign_weights(["psnr"], files) == assign_weights(["lpips"], files) == {}
    with pytest.raises(UsageError, match="is for the metric lpips-squeeze, which was not asked for; add it: --metrics"):
        require_use(["psnr", "lpips"], files)
    with pytest.raises(UsageError, match=r"no weights are called 'lpipz'; did you mean 'lpips'\?"):
        require_use(["psnr"], {"lpipz": "x"})


def test_the_table_of_backbones_is_that_of_the_metrics() -> None:
    from tokcli.metrics.weights import LPIPS

    assert {name: METRICS[name].backbone for name in METRICS if hasattr(METRICS[name], "backbone")} == dict(LPIPS)
