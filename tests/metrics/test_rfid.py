"""rFID: the Fréchet distance against closed forms and scipy's matrix root, and sums that add up to the whole set."""

import math

import numpy
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn

from tokcli.contracts import RoundTrip
from tokcli.metrics import METRICS, build_metrics, merge_states
from tokcli.metrics.rfid import frechet_distance

GENERATOR = torch.Generator().manual_seed(0)
REFERENCE = torch.rand(12, 3, 8, 8, generator=GENERATOR) * 2 - 1
RECONSTRUCTION = 0.8 * REFERENCE + 0.2 * torch.randn(REFERENCE.shape, generator=GENERATOR)


class FourFeatures(nn.Module):
    """In place of Inception: the mean level of each quarter of an image."""

    def forward(self, levels: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(levels, 2).mean(1).flatten(1)


@pytest.fixture
def metric(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tokcli.metrics.rfid.load_inception", FourFeatures)
    return METRICS.build({"kind": "rfid"})


def gaussian(dim: int, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(dim, rank, generator=generator, dtype=torch.float64)
    return torch.randn(dim, generator=generator, dtype=torch.float64), factor @ factor.T / rank


def test_diagonal_covariances_have_a_closed_form() -> None:
    mean, other_mean = torch.tensor([1.0, 2.0, -1.0]), torch.tensor([0.0, 2.0, 1.0])
    variances, other_variances = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([4.0, 4.0, 0.0])
    # ‖m − m'‖² = 1 + 0 + 4; (1 − 2)² + (2 − 2)² + (3 − 0)²
    expected = 5 + 1 + 0 + 9
    found = frechet_distance(mean, variances.diag(), other_mean, other_variances.diag())
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_distance_agrees_with_scipys_matrix_root() -> None:
    mean, covariance = gaussian(20, 40, seed=1)
    other_mean, other_covariance = gaussian(20, 40, seed=2)
    root = scipy.linalg.sqrtm(covariance.numpy() @ other_covariance.numpy())
    expected = ((mean - other_mean) ** 2).sum() + (covariance + other_covariance).trace() - 2 * numpy.trace(root.real)
    found = frechet_distance(mean, covariance, other_mean, other_covariance)
    assert found == pytest.approx(float(expected), rel=1e-9)
    assert frechet_distance(other_mean, other_covariance, mean, covariance) == pytest.approx(found, rel=1e-9)


def test_covariances_short_of_full_rank_are_no_trouble() -> None:
    mean, covariance = gaussian(30, 5, seed=3)
    assert frechet_distance(mean, covariance, mean, covariance) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(mean, covariance, mean + 1, covariance) == pytest.approx(30, rel=1e-6)


def test_the_metric_is_the_distance_of_the_features_moments(metric) -> None:
    for part in (slice(0, 5), slice(5, 12)):
        metric.update(RoundTrip(REFERENCE[part], RECONSTRUCTION[part], None, 1))
    levels = [((signal.clamp(-1, 1) + 1) * 127.5).round() for signal in (REFERENCE, RECONSTRUCTION)]
    features = [FourFeatures()(values).double().numpy() for values in levels]
    moments = [torch.from_numpy(value) for f in features for value in (f.mean(0), numpy.cov(f, rowvar=False))]
    assert metric.compute() == pytest.approx(frechet_distance(*moments), rel=1e-9)
    assert metric.compute() > 0


def test_halves_merge_into_the_whole_and_an_idle_process_adds_nothing(metric) -> None:
    halves = [METRICS.build({"kind": "rfid"}) for _ in range(3)]
    for half, part in zip(halves, (slice(0, 7), slice(7, 12)), strict=False):
        half.update(RoundTrip(REFERENCE[part], RECONSTRUCTION[part], None, 1))
    metric.update(RoundTrip(REFERENCE, RECONSTRUCTION, None, 1))
    merged = METRICS.build({"kind": "rfid"})
    merged.state = merge_states([half.state for half in reversed(halves)])
    assert merged.compute() == pytest.approx(metric.compute(), rel=1e-9)


def test_identical_images_are_no_distance_apart(metric) -> None:
    metric.update(RoundTrip(REFERENCE, REFERENCE, None, 1))
    assert metric.compute() == pytest.approx(0, abs=1e-6)
    assert not metric.higher_is_better


def test_before_the_second_item_the_figure_is_unknown(metric) -> None:
    assert math.isnan(metric.compute())
    metric.update(RoundTrip(REFERENCE[:1], RECONSTRUCTION[:1], None, 1))
    assert math.isnan(metric.compute())


def test_an_image_that_is_not_finite_is_counted_and_left_out(metric) -> None:
    metric.update(RoundTrip(REFERENCE, RECONSTRUCTION, None, 1))
    before = metric.compute()
    metric.update(RoundTrip(REFERENCE[:2], torch.full_like(REFERENCE[:2], math.nan), None, 1))
    assert (metric.compute(), metric.unscored) == (before, 2)


def test_the_record_says_where_items_are_too_few(metric) -> None:
    metric.update(RoundTrip(REFERENCE, RECONSTRUCTION, None, 1))
    protocol = metric.protocol()
    assert protocol["items"] == 12
    assert protocol["undersampled"] is True
    assert protocol["weights"] == "weights-inception-2015-12-05-6726825d.pth"


def test_one_table_holds_it_with_the_others(metric) -> None:
    assert list(build_metrics(["psnr", "rfid"], "image")) == ["psnr", "rfid"]
