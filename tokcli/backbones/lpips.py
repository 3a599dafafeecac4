"""The LPIPS network: how different two images look, as distances between features of an ImageNet classifier.

Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric". The `lpips` package
holds the architecture and the linear weights; the classifier's own weights are an official file, fetched once, or a
safetensors file of the user's.
"""

import functools
import pathlib
import warnings
from collections.abc import Mapping
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from tokcli.backbones.torchvision import let_torchvision_import
from tokcli.backbones.weights import OfficialFile, find_weight_file, load_official_weights, read_local_weights
from tokcli.errors import InputError

Backbone = Literal["vgg", "alex", "squeeze"]

WEIGHT_FILES: dict[str, str] = {
    "vgg": "vgg16-397923af.pth",
    "alex": "alexnet-owt-7be5be79.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
"""The official file of each classifier; the name ends in the first digits of the sha256 of its content."""

OFFICIAL_FOLDER = "https://download.pytorch.org/models"

MEGABYTES: dict[str, int] = {"vgg": 553, "alex": 244, "squeeze": 5}
"""Of 1,000,000 bytes, of the official files."""

PREFIX = "features."
"""Of the names of a classifier's features in the official files."""

SMALLEST_SIDE: dict[str, int] = {"vgg": 16, "alex": 31, "squeeze": 17}
"""Pixels below which the classifier's strides and poolings leave no position in its deepest features."""


class Lpips(nn.Module):
    """The `lpips` package's network, frozen, always in evaluation mode, always in float32.

    smallest_side: images with a shorter side cannot be judged.
    """

    def __init__(self, network: nn.Module, smallest_side: int) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.smallest_side = smallest_side

    def train(self, mode: bool = True) -> "Lpips":
        """Stays in evaluation mode: its linear layers carry dropout, which would make the distance random."""
        return super().train(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Both (batch, 3, height, width) in [-1, 1] -> distances: (batch,) float32, differentiable in both."""
        with torch.autocast(first.device.type, enabled=False):
            return self.network(first.float(), second.float()).flatten()


def load_lpips(backbone: Backbone) -> Lpips:
    """The LPIPS network with the official weights from torch hub's folder, one for all who ask: it never changes.

    Checking half a gigabyte and building on it takes seconds, and a run asks at every evaluation. Whoever uses the
    network moves it to the device of the images.
    Raises InputError, before anything is built, where the weight file is not to be had or is not the official one.
    """
    path = find_weight_file(WEIGHT_FILES[backbone])
    return _load(backbone, path, _state(path))


def load_local_lpips(backbone: Backbone, path: str | pathlib.Path) -> tuple[Lpips, str]:
    """The LPIPS network with the classifier's features from a user's safetensors file, and the file's sha256.

    The file holds the tensors of torchvision's `model.features.state_dict()`; those of the whole model do as well.
    Raises InputError where it cannot be read or is not of this backbone.
    """
    path = pathlib.Path(path).resolve()
    return _load_local(backbone, path, _state(path))


def recognise_backbone(path: str | pathlib.Path) -> Backbone:
    """Whose features a safetensors file holds. Raises InputError where it cannot be read or nobody's are in it."""
    tensors = _name_features(read_local_weights(pathlib.Path(path))[0])
    for backbone in get_args(Backbone):
        if not _find_misfits(backbone, tensors):
            return backbone
    raise InputError(
        f"{path} holds the features of no classifier that LPIPS knows; expected the tensors of torchvision's "
        "vgg16, alexnet or squeezenet1_1, as model.features.state_dict() names them"
    )


def _state(path: pathlib.Path) -> tuple[int, int] | None:
    """What makes a changed file another one."""
    state = path.stat() if path.is_file() else None
    return state and (state.st_mtime_ns, state.st_size)


@functools.cache
def _load(backbone: Backbone, path: pathlib.Path, state: tuple[int, int] | None) -> Lpips:
    """The network from the official file at `path` in the `state` that it is in. A failure is not kept."""
    file = OfficialFile(
        WEIGHT_FILES[backbone],
        OFFICIAL_FOLDER,
        MEGABYTES[backbone],
        needed_by=f"LPIPS with the {backbone} backbone",
        way_on="; or name a file of its features: --weights lpips=FILE.safetensors",
    )
    weights = load_official_weights(file)
    return _fill(backbone, {name: value for name, value in weights.items() if name.startswith(PREFIX)})


@functools.cache
def _load_local(backbone: Backbone, path: pathlib.Path, state: tuple[int, int] | None) -> tuple[Lpips, str]:
    tensors, digest = read_local_weights(path)
    features = _name_features(tensors)
    misfits = _find_misfits(backbone, features)
    if misfits:
        raise InputError(f"{path} does not hold the features of the {backbone} backbone: {misfits[0]}")
    return _fill(backbone, features), digest


def _fill(backbone: Backbone, features: Mapping[str, Tensor]) -> Lpips:
    """The network with these features, by their official names."""
    lpips = build_untrained_lpips(backbone)
    classifier = cast(nn.Module, lpips.network.net)
    names = _name_officially(classifier)
    classifier.load_state_dict({name: features[official] for name, official in names.items()})
    return lpips


def _name_officially(classifier: nn.Module) -> dict[str, str]:
    """From the package's names to the official ones: its `slice2.5.weight` is `features.5.weight` in the file."""
    return {name: f"{PREFIX}{name.partition('.')[2]}" for name in classifier.state_dict()}


def _name_features(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The features by their official names, whether the file was saved of the whole model or of its features."""
    whole = any(name.startswith(PREFIX) for name in tensors)
    return {name if whole else PREFIX + name: value for name, value in tensors.items()}


def _find_misfits(backbone: Backbone, features: Mapping[str, Tensor]) -> list[str]:
    """What keeps `features` from being those of a backbone, one sentence each."""
    shapes = _read_shapes(backbone)
    misfits = [f"it has no {name}" for name in shapes if name not in features]
    return misfits + [
        f"{name} has the shape {tuple(features[name].shape)}, expected {shape}"
        for name, shape in shapes.items()
        if name in features and tuple(features[name].shape) != shape
    ]


@functools.cache
def _read_shapes(backbone: Backbone) -> dict[str, tuple[int, ...]]:
    """The shapes of a backbone's features, by their official names."""
    classifier = cast(nn.Module, build_untrained_lpips(backbone).network.net)
    names, tensors = _name_officially(classifier), classifier.state_dict()
    return {official: tuple(tensors[name].shape) for name, official in names.items()}


def build_untrained_lpips(backbone: Backbone) -> Lpips:
    """The LPIPS network with its linear weights and a random classifier; leaves torch's generator untouched."""
    let_torchvision_import()
    import lpips

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # The package still names torchvision's weights the old way, which is no concern of the user.
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        network = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False)
    return Lpips(network, SMALLEST_SIDE[backbone])
