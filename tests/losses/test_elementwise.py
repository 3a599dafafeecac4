"""L1 and squared error: values that can be redone by hand, and float32 whatever comes in."""

import pytest
import torch

from tokcli.errors import RecipeError
from tokcli.losses import LOSSES

REFERENCE = torch.tensor([[[0.0, 0.5, -0.5, 1.0]]])
RECONSTRUCTION = torch.tensor([[[0.0, 0.0, 0.5, 0.5]]])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("l1", (0 + 0.5 + 1.0 + 0.5) / 4), ("mse", (0 + 0.25 + 1.0 + 0.25) / 4)],
)
def test_the_loss_is_the_mean_over_samples_before_its_weight(kind, expected) -> None:
    loss = LOSSES.build({"kind": kind, "weight": 3.0})
    assert loss.weight == 3.0
    assert loss.modality is None
    assert loss(RECONSTRUCTION, REFERENCE).item() == pytest.approx(expected)


def test_gradients_of_both_losses() -> None:
    for kind, expected in {"l1": [0.0, -0.25, 0.25, -0.25], "mse": [0.0, -0.25, 0.5, -0.25]}.items():
        reconstruction = RECONSTRUCTION.clone().requires_grad_()
        LOSSES.build({"kind": kind})(reconstruction, REFERENCE).backward()
        assert reconstruction.grad.flatten().tolist() == expected


@pytest.mark.parametrize("kind", ["l1", "mse"])
def test_half_precision_signals_are_compared_in_float32(kind) -> None:
    loss = LOSSES.build({"kind": kind})
    signals = torch.rand(2, 4, 3, 64, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(*signals)
    assert found.dtype == torch.float32
    assert torch.equal(found, loss(*signals.float()))


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_no_weight_is_refused(weight) -> None:
    with pytest.raises(RecipeError, match=r"losses\.0\.weight: expected (0 or more|a finite number), got"):
        LOSSES.build({"kind": "l1", "weight": weight}, "losses.0")
