"""rFID: the Fréchet distance between the Inception features of originals and of their reconstructions.

Both sets of features are summed up by a Gaussian; the figure is how far apart the two Gaussians are. It judges the
set and not the items: what reconstructions have in common that originals have not. Heusel et al. 2017 (arXiv
1706.08500).
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from tokcli.backbones.inception import FEATURES, WEIGHT_FILE, load_inception
from tokcli.contracts import Metric, ModalityName, RoundTrip
from tokcli.metrics.images import ROUNDING
from tokcli.numerics import to_float64, to_levels

SIDES = ("reference", "reconstruction")


def frechet_distance(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """Squared 2-Wasserstein distance between two Gaussians, ‖m − m'‖² + Tr(Σ + Σ' − 2 (Σ Σ')^½); never negative.

    The trace of the root is the sum of the roots of the eigenvalues of the symmetric Σ^½ Σ' Σ^½, which are those of
    Σ Σ'; unlike a matrix root it needs neither full rank nor luck.

    Args:
        mean: m, (dim,).
        covariance: Σ, (dim, dim).
        other_mean: m', (dim,).
        other_covariance: Σ', (dim, dim).
    """
    mean, covariance, other_mean, other_covariance = map(to_float64, (mean, covariance, other_mean, other_covariance))
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ other_covariance @ root).clamp(min=0).sqrt().sum()
    distance = (mean - other_mean).square().sum() + covariance.trace() + other_covariance.trace() - 2 * overlap
    return max(0.0, float(distance))


class Rfid(Metric):
    """The Fréchet Inception distance between reconstructions and their originals; lower is better.

    The state holds `items` and `unscored`, int64 counts; from the first items on also, for each side, float64 `sum`
    (2048,) of the features and `outer` (2048, 2048) of their outer products.

    Raises:
        UsageError: torch-fidelity is not installed.
        InputError: Its weights are absent.
    """

    modality: ClassVar[ModalityName | None] = "image"
    higher_is_better: ClassVar[bool | None] = False
    meaning: ClassVar[str] = "how far the reconstructions are, as a set, from the originals: 0 is identical"

    def __init__(self) -> None:
        self.network = load_inception()
        self.state = {name: torch.zeros((), dtype=torch.int64) for name in ("items", "unscored")}

    @torch.no_grad()
    def update(self, round_trip: RoundTrip) -> None:
        """Take in the features of one batch. An image that is not finite on either side is unscored."""
        signals = {"reference": round_trip.reference, "reconstruction": round_trip.reconstruction}
        finite = torch.stack([torch.isfinite(signal).flatten(1).all(1) for signal in signals.values()]).all(0)
        self.network.to(finite.device)
        for side, signal in signals.items():
            features = to_float64(self.network(to_levels(signal.nan_to_num())))
            features = torch.where(finite.to(features.device)[:, None], features, 0.0)
            self._add(f"{side}_sum", features.sum(0))
            self._add(f"{side}_outer", features.T @ features)
        self._add("items", finite.sum())
        self._add("unscored", (~finite).sum())

    def compute(self) -> float:
        """The distance; NaN before the second item, since one has no covariance."""
        items = int(self.state["items"])
        if items < 2:
            return math.nan
        return frechet_distance(*(moment for side in SIDES for moment in self._moments(side, items)))

    def _moments(self, side: str, items: int) -> tuple[Tensor, Tensor]:
        """Mean (dim,) and unbiased covariance (dim, dim) of one side's features."""
        mean = self.state[f"{side}_sum"] / items
        covariance = (self.state[f"{side}_outer"] - items * torch.outer(mean, mean)) / (items - 1)
        return mean, covariance

    @property
    def undersampled(self) -> bool:
        """Whether the items are too few for a covariance of full rank."""
        return int(self.state["items"]) <= FEATURES

    def protocol(self) -> dict[str, object]:
        """Rounding, features with their weight file, and how far the items suffice for a covariance of full rank."""
        return {
            "rounding": ROUNDING,
            "features": f"Inception-{FEATURES}, torch-fidelity",
            "weights": WEIGHT_FILE,
            "resize": "299, bilinear as in TensorFlow 1",
            "items": int(self.state["items"]),
            "undersampled": self.undersampled,
        }

    def _add(self, name: str, value: Tensor) -> None:
        held = self.state.get(name)
        self.state[name] = value if held is None else held.to(value.device) + value
