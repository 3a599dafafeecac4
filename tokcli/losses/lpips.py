"""LPIPS as a loss: the perceptual distance of Zhang et al. 2018, averaged over the batch.

The papers of this project train with the VGG backbone. The reconstruction is compared as it is: the rounding to
8 bits that the metric applies has no gradient.
"""

from typing import ClassVar, Literal

from torch import Tensor

from tokcli.backbones.lpips import load_lpips
from tokcli.contracts import ModalityName
from tokcli.errors import InputError
from tokcli.losses.base import WeightedLoss


class LpipsLoss(WeightedLoss):
    """The mean LPIPS distance of a batch of images; gradients reach the images, never the network.

    backbone: the ImageNet classifier whose features are compared.

    Raises InputError on construction where the backbone's weight file is absent or wrong.
    """

    modality: ClassVar[ModalityName | None] = "image"

    def __init__(self, weight: float = 1.0, backbone: Literal["vgg", "alex", "squeeze"] = "vgg") -> None:
        super().__init__(weight)
        self.backbone = backbone
        self.network = load_lpips(backbone)

    def forward(self, reconstruction: Tensor, reference: Tensor) -> Tensor:
        """Both (batch, 3, height, width) in [-1, 1] -> scalar float32, not yet weighted.

        Raises InputError for images too small for the backbone.
        """
        if min(reference.shape[2:]) < self.network.smallest_side:
            height, width = reference.shape[2:]
            raise InputError(
                f"LPIPS with the {self.backbone} backbone cannot judge images of {height}x{width} pixels; "
                f"train on crops of at least {self.network.smallest_side} pixels a side"
            )
        return self.network(reconstruction, reference).mean()
