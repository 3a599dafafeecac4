"""The LPIPS network: how different two images look, as distances between features of an ImageNet classifier.

Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric". The `lpips` package
holds the architecture and the linear weights; the classifier's own weights are an official file that the user
brings, because nothing here reaches for the network.
"""

import functools
import pathlib
import warnings
from typing import Literal, cast

import torch
from torch import Tensor, nn

from tokcli.backbones.torchvision import let_torchvision_import
from tokcli.backbones.weights import find_weight_file, load_official_weights

Backbone = Literal["vgg", "alex", "squeeze"]

WEIGHT_FILES: dict[str, str] = {
    "vgg": "vgg16-397923af.pth",
    "alex": "alexnet-owt-7be5be79.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
"""The official file of each classifier; the name ends in the first digits of the sha256 of its content."""

OFFICIAL_FOLDER = "https://download.pytorch.org/models"

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
    Raises InputError, before anything is built, where the weight file is absent or is not the official one.
    """
    path = find_weight_file(WEIGHT_FILES[backbone])
    state = path.stat() if path.is_file() else None
    return _load(backbone, path, state and (state.st_mtime_ns, state.st_size))


@functools.cache
def _load(backbone: Backbone, path: pathlib.Path, state: tuple[int, int] | None) -> Lpips:
    """The network from the file at `path`; its `state` makes a changed file another one. A failure is not kept."""
    weights = load_official_weights(WEIGHT_FILES[backbone], OFFICIAL_FOLDER, f"LPIPS with the {backbone} backbone")
    lpips = build_untrained_lpips(backbone)
    classifier = cast(nn.Module, lpips.network.net)
    # `slice2.5.weight` in the package is `features.5.weight` in the file.
    names = {name: f"features.{name.partition('.')[2]}" for name in classifier.state_dict()}
    classifier.load_state_dict({name: weights[official] for name, official in names.items()})
    return lpips


def build_untrained_lpips(backbone: Backbone) -> Lpips:
    """The LPIPS network with its linear weights and a random classifier; leaves torch's generator untouched."""
    let_torchvision_import()
    import lpips

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # The package still names torchvision's weights the old way, which is no concern of the user.
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        network = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False)
    return Lpips(network, SMALLEST_SIDE[backbone])
