"""What all metrics share: NaN before the first item, states that add, and a table that answers with help."""

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tokcli.backbones.lpips import untrained_lpips
from tokcli.contracts import RoundTrip
from tokcli.errors import InputError, UsageError
from tokcli.metrics import METRICS, build_metrics, merge_states, metrics_for


@pytest.fixture
def random_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokcli.metrics.lpips.load_lpips", lambda backbone: untrained_lpips("squeeze"))
    monkeypatch.setattr("tokcli.metrics.rfid.load_inception", lambda: nn.Sequential(nn.AvgPool2d(16), nn.Flatten()))


def batch(items: int, seed: int) -> RoundTrip:
    generator = torch.Generator().manual_seed(seed)
    reference = torch.rand(items, 3, 32, 32, generator=generator) * 2 - 1
    reconstruction = reference + 0.1 * torch.randn(reference.shape, generator=generator)
    return RoundTrip(reference, reconstruction, torch.randint(0, 9, (items, 4, 4, 1), generator=generator), 9)


def test_before_the_first_item_every_figure_is_unknown(random_backbones) -> None:
    for name, metric in build_metrics(metrics_for("image"), "image").items():
        assert math.isnan(metric.compute()), name
        assert metric.unscored == 0, name


def test_two_processes_and_an_idle_one_give_the_figure_of_one(random_backbones) -> None:
    names = metrics_for("image")
    torch.manual_seed(0)
    parts = [build_metrics(names, "image") for _ in range(3)]
    whole = build_metrics(names, "image")
    for name in names:
        if "lpips" in name:
            for part in parts:
                part[name].network = whole[name].network
        for part, seen in zip(parts, [batch(2, seed=1), batch(3, seed=2)], strict=False):
            part[name].update(seen)
            whole[name].update(seen)
        merged = build_metrics([name], "image")[name]
        merged.state = merge_states([part[name].state for part in reversed(parts)])
        assert merged.compute() == pytest.approx(whole[name].compute(), rel=1e-12), name


def test_states_hold_only_float64_and_int64_tensors(random_backbones) -> None:
    for name, metric in build_metrics(metrics_for("image"), "image").items():
        metric.update(batch(2, seed=0))
        assert {value.dtype for value in metric.state.values()} <= {torch.float64, torch.int64}, name


def test_updating_keeps_no_graph() -> None:
    seen = batch(2, seed=0)
    metric = METRICS.build({"kind": "psnr"})
    metric.update(RoundTrip(seen.reference, seen.reconstruction.requires_grad_(), None, 1))
    assert not metric.state["total"].requires_grad


class NothingWaits(TorchDispatchMode):
    """Refuses every operation that makes the program wait for its device."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        waits = ("_local_scalar_dense", "nonzero", "bincount", "unique", "coalesce", "is_nonzero", "item")
        assert function.overloadpacket.__name__ not in waits, f"{function} waits for the device"
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("codebook_size", [9, 2**31])
def test_updating_waits_for_no_device(random_backbones, codebook_size) -> None:
    metrics = build_metrics(metrics_for("image"), "image")
    seen = dataclasses.replace(batch(2, seed=0), codebook_size=codebook_size)
    with NothingWaits():
        for metric in metrics.values():
            metric.update(seen)
            metric.update(seen)
    with pytest.raises(AssertionError, match="waits for the device"), NothingWaits():
        metrics["psnr"].compute()


def test_metrics_come_back_in_the_order_asked_for() -> None:
    assert list(build_metrics(["cvu", "psnr"], "image")) == ["cvu", "psnr"]


def test_unknown_metrics_and_those_of_another_modality_are_reported_together() -> None:
    with pytest.raises(UsageError) as caught:
        build_metrics(["pnsr", "usage", "ssim"], "audio")
    message = str(caught.value)
    assert "there is no metric 'pnsr'; " in message
    assert "the metric 'ssim' judges image, not audio; expected one of: " in message


def test_a_misspelt_metric_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"there is no metric 'pnsr'; did you mean 'psnr'\?"):
        build_metrics(["pnsr"], "image")


def test_every_absent_backbone_is_named_before_anything_is_computed(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"vgg16-397923af\.pth.*; LPIPS .*alexnet-owt-7be5be79\.pth"):
        build_metrics(["psnr", "lpips", "lpips-alex"], "image")


def test_scores_of_items_come_in_the_order_of_the_updates_and_only_from_metrics_of_items(random_backbones) -> None:
    metrics = build_metrics(metrics_for("image"), "image")
    for metric in metrics.values():
        metric.update(batch(2, seed=1))
        metric.update(dataclasses.replace(batch(1, seed=2), reconstruction=torch.full((1, 3, 32, 32), math.nan)))
    scored = {name for name, metric in metrics.items() if metric.item_scores() is not None}
    assert scored == {"psnr", "ssim", "lpips", "lpips-alex", "lpips-squeeze"}
    for name in scored:
        scores = metrics[name].item_scores()
        assert (scores.shape, scores.dtype) == ((3,), torch.float64)
        assert scores[:2].mean().item() == pytest.approx(metrics[name].compute(), rel=1e-12), name
        assert math.isnan(scores[2]), name
