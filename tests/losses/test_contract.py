"""What every loss owes training, run on an example of each that needs no weights from elsewhere."""

import copy

import pytest
import torch
from meta_device import META, meta_device, move, require_there
from torch import Tensor

from tokcli.backbones.lpips import build_untrained_lpips
from tokcli.contracts import Loss
from tokcli.errors import ArgumentError, RecipeError
from tokcli.losses import LOSSES

EXAMPLES = [
    {"kind": "l1"},
    {"kind": "mse"},
    {"kind": "lpips", "backbone": "squeeze"},
    {"kind": "multi-resolution-stft", "windows": [256, 64]},
    {"kind": "mel", "windows": [256, 64], "bands": [20, 5]},
]
"""As recipes write them; a new one is a line here."""

ELSEWHERE = {"whisper"}
"""Kinds whose network is a folder of the user's: tests/losses/test_whisper.py makes one."""

SHAPES = {"image": (3, 32, 32), "audio": (1, 2000), None: (2, 50)}
every_example = pytest.mark.parametrize("node", EXAMPLES, ids=lambda node: node["kind"])


@pytest.fixture(autouse=True)
def _random_lpips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokcli.losses.perceptual.load_lpips", build_untrained_lpips)


def build(node: dict, **changes: object) -> Loss:
    torch.manual_seed(0)
    return LOSSES.build({**node, **changes}, "losses.0")


def signals(loss: Loss, batch: int = 3) -> tuple[Tensor, Tensor]:
    """A reconstruction and a reference, (batch, channels, *size) in [-1, 1]."""
    generator = torch.Generator().manual_seed(1)
    both = torch.rand(2, batch, *SHAPES[loss.modality], generator=generator) * 2 - 1
    return both[0], both[1]


def test_every_registered_loss_has_an_example() -> None:
    assert set(LOSSES) == {node["kind"] for node in EXAMPLES} | ELSEWHERE


@every_example
def test_it_is_a_scalar_that_is_zero_for_the_reference_alone(node: dict) -> None:
    loss = build(node)
    reconstruction, reference = signals(loss)
    distance = loss(reconstruction, reference)
    assert distance.shape == ()
    assert distance.dtype == torch.float32
    assert distance > 0
    assert loss(reference, reference).item() == pytest.approx(0, abs=1e-6)


@every_example
def test_its_weight_is_left_to_training(node: dict) -> None:
    plain, heavy = build(node), build(node, weight=3)
    assert (plain.weight, heavy.weight) == (1.0, 3.0)
    assert torch.equal(plain(*signals(plain)), heavy(*signals(plain)))


@every_example
def test_the_gradient_reaches_the_reconstruction_and_no_weight(node: dict) -> None:
    loss = build(node)
    reconstruction, reference = signals(loss)
    reconstruction.requires_grad_()
    loss(reconstruction, reference).backward()
    assert reconstruction.grad.isfinite().all()
    assert (reconstruction.grad != 0).float().mean() > 0.5
    assert all(parameter.grad is None for parameter in loss.parameters())
    assert not any(parameter.requires_grad for parameter in loss.parameters())


@every_example
def test_it_is_the_mean_over_a_batch(node: dict) -> None:
    loss = build(node)
    reconstruction, reference = signals(loss)
    alone = [loss(*pair) for pair in zip(reconstruction.split(1), reference.split(1), strict=True)]
    torch.testing.assert_close(loss(reconstruction, reference), torch.stack(alone).mean(), rtol=1e-4, atol=1e-6)


@every_example
def test_it_computes_in_float32_under_autocast(node: dict) -> None:
    loss = build(node)
    pair = [signal.bfloat16().float() for signal in signals(loss)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distance = loss(*pair)
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance, loss(*pair), rtol=2e-2, atol=1e-3)


@every_example
def test_it_leaves_the_signals_and_itself_alone(node: dict) -> None:
    loss = build(node)
    reconstruction, reference = signals(loss)
    before = copy.deepcopy((reconstruction, reference, loss.state_dict()))
    loss(reconstruction, reference)
    assert torch.equal(reconstruction, before[0])
    assert torch.equal(reference, before[1])
    assert all(torch.equal(value, before[2][name]) for name, value in loss.state_dict().items())


@every_example
@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_no_weight_is_refused(node: dict, weight: float) -> None:
    with pytest.raises(RecipeError, match=r"losses\.0\.weight: expected (0 or more|a finite number), got"):
        build(node, weight=weight)
    with pytest.raises(ArgumentError, match="weight: expected"):
        LOSSES[node["kind"]](weight=weight)


@every_example
def test_its_repr_shows_its_arguments(node: dict) -> None:
    assert "weight=1.0" in repr(build(node))


@every_example
def test_it_stays_on_its_device_and_never_waits(node: dict) -> None:
    loss = build(node)
    reconstruction, reference = (signal.to(META) for signal in signals(loss))
    reconstruction.requires_grad_()
    with meta_device():
        distance = move(loss)(reconstruction, reference)
        distance.backward()
        require_there({"distance": distance, **loss.state_dict()})
