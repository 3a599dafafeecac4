"""The Inception-v3 network of the Fréchet Inception distance: 2048 features of an image, as TensorFlow computed them.

Figures are comparable only with the very network and resizing of Heusel et al. 2017 (arXiv 1706.08500), which
torch-fidelity reproduces. Its weights are an official file, fetched once.
"""

import io

import torch
from torch import Tensor, nn

from tokcli.backbones.torchvision import let_torchvision_import
from tokcli.backbones.weights import OfficialFile, load_official_weights
from tokcli.optional import require

WEIGHT_FILE = "weights-inception-2015-12-05-6726825d.pth"
OFFICIAL_FOLDER = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"
MEGABYTES = 96
FEATURES = 2048


class Inception(nn.Module):
    """torch-fidelity's network, frozen, always in evaluation mode, always in float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()

    def forward(self, levels: Tensor) -> Tensor:
        """levels: (batch, 3, height, width) pixel values 0 to 255 -> features: (batch, 2048) float32.

        Images of any size; the network resizes them to 299 × 299 as TensorFlow 1 did.
        """
        with torch.autocast(levels.device.type, enabled=False):
            return self.network(levels.to(torch.uint8))[0]


def load_inception() -> Inception:
    """The network with its official weights.

    Raises UsageError where torch-fidelity is not installed, InputError where the weight file is not to be had or wrong.
    """
    let_torchvision_import()
    require("torch_fidelity", extra="fid")
    weights = load_official_weights(OfficialFile(WEIGHT_FILE, OFFICIAL_FOLDER, MEGABYTES, needed_by="rFID"))
    inception = build_untrained_inception()
    nn.Module.load_state_dict(inception.network, weights)
    return inception


def build_untrained_inception() -> Inception:
    """The network with random weights; leaves torch's generator untouched. Raises as `load_inception` does."""
    let_torchvision_import()
    package = require("torch_fidelity", extra="fid")

    class Unloaded(package.FeatureExtractorInceptionV3):
        """The package's constructor unpickles the file it is given, so it is given an empty one."""

        def load_state_dict(self, weights: dict[str, Tensor]) -> None:
            assert not weights

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with torch.random.fork_rng(devices=[]):
        return Inception(Unloaded("inception", [str(FEATURES)], feature_extractor_weights_path=empty))
