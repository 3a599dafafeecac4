"""LPIPS as a metric: the perceptual distance of Zhang et al. 2018 between images as 8-bit pixels.

Its figures depend on the backbone, so the metric's name carries it: `lpips` is VGG, as the papers report.
"""

from typing import ClassVar

from torch import Tensor

from tokcli.backbones.lpips import WEIGHT_FILES, Backbone, load_lpips
from tokcli.contracts import ModalityName, RoundTrip
from tokcli.metrics.base import ItemMean
from tokcli.metrics.images import ROUNDING, to_levels, unjudged


class LpipsVgg(ItemMean):
    """Mean over images of their LPIPS distance; 0 is identical. Images too small for the backbone are unscored.

    Raises InputError on construction where the backbone's weight file is absent or wrong.
    """

    modality: ClassVar[ModalityName | None] = "image"
    higher_is_better: ClassVar[bool] = False
    backbone: ClassVar[Backbone] = "vgg"

    def __init__(self) -> None:
        super().__init__()
        self.network = load_lpips(self.backbone)

    def scores(self, round_trip: RoundTrip) -> Tensor:
        """(batch,), not negative."""
        if min(round_trip.reference.shape[2:]) < self.network.smallest_side:
            return unjudged(round_trip)
        self.network.to(round_trip.reference.device)
        reconstruction, reference = (
            to_levels(signal) / 127.5 - 1 for signal in (round_trip.reconstruction, round_trip.reference)
        )
        return self.network(reconstruction, reference)

    def protocol(self) -> dict[str, object]:
        """Rounding, backbone with its weight file, and averaging."""
        return {
            "rounding": ROUNDING,
            "backbone": self.backbone,
            "backbone_weights": WEIGHT_FILES[self.backbone],
            "version": "0.1",
            "average": "per image",
        }


class LpipsAlex(LpipsVgg):
    """LPIPS with the AlexNet backbone."""

    backbone: ClassVar[Backbone] = "alex"


class LpipsSqueeze(LpipsVgg):
    """LPIPS with the SqueezeNet backbone."""

    backbone: ClassVar[Backbone] = "squeeze"
