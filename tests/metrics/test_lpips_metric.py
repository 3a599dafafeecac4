"""LPIPS as a metric, with a random classifier: the package's figure on 8-bit pixels, item by item."""

import pytest
import torch

from tokcli.backbones.lpips import untrained_lpips
from tokcli.contracts import RoundTrip
from tokcli.metrics import METRICS

GENERATOR = torch.Generator().manual_seed(0)
REFERENCE = torch.rand(3, 3, 32, 40, generator=GENERATOR) * 2 - 1
RECONSTRUCTION = REFERENCE + 0.2 * torch.randn(REFERENCE.shape, generator=GENERATOR)


@pytest.fixture
def metric(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tokcli.metrics.lpips.load_lpips", untrained_lpips)
    torch.manual_seed(0)
    return METRICS.build({"kind": "lpips-squeeze"})


def test_the_figure_is_the_packages_on_rounded_pixels(metric) -> None:
    metric.update(RoundTrip(REFERENCE, RECONSTRUCTION, None, 1))
    judged = metric.network.network
    levels = [((signal.clamp(-1, 1) + 1) / 2 * 255).round() / 255 for signal in (RECONSTRUCTION, REFERENCE)]
    expected = sum(judged(x[None], y[None], normalize=True).item() for x, y in zip(*levels, strict=True)) / 3
    assert metric.compute() == pytest.approx(expected, rel=1e-5)
    unrounded = judged(RECONSTRUCTION, REFERENCE).mean().item()
    assert metric.compute() != pytest.approx(unrounded, rel=1e-4)


def test_batch_composition_does_not_matter_to_lpips(metric) -> None:
    metric.update(RoundTrip(REFERENCE, RECONSTRUCTION, None, 1))
    together = metric.compute()
    for item in range(3):
        metric.update(RoundTrip(REFERENCE[item, None], RECONSTRUCTION[item, None], None, 1))
    assert metric.compute() == pytest.approx(together, rel=1e-5)
    assert metric.state["items"] == 6


def test_images_too_small_for_the_backbone_are_counted_and_not_averaged_in(metric) -> None:
    metric.update(RoundTrip(REFERENCE, RECONSTRUCTION, None, 1))
    before = metric.compute()
    metric.update(RoundTrip(REFERENCE[..., :16], RECONSTRUCTION[..., :16], None, 1))
    assert (metric.compute(), metric.unscored) == (before, 3)


def test_the_record_names_the_backbone(metric) -> None:
    assert metric.protocol()["backbone"] == "squeeze"
    assert metric.protocol()["backbone_weights"] == "squeezenet1_1-b8a52dc0.pth"
    assert [METRICS[name].backbone for name in ("lpips", "lpips-alex", "lpips-squeeze")] == ["vgg", "alex", "squeeze"]
