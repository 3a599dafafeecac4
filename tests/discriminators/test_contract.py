"""What every discriminator owes training, run on an example of each."""

import pytest
import torch
from meta_device import META, meta_device, move, require_there
from torch import Tensor

from tokcli.contracts import Discriminator
from tokcli.discriminators import DISCRIMINATORS
from tokcli.errors import ArgumentError

EXAMPLES = [
    *({"kind": "patchgan", "width": 8, "layers": 2, "norm": norm} for norm in ("batch", "group", "spectral")),
    *({"kind": "multi-scale-stft", "width": 4, "windows": [64, 16], "norm": norm} for norm in ("weight", "spectral")),
    *({"kind": "multi-period", "width": 2, "periods": [2, 3], "norm": norm} for norm in ("weight", "spectral")),
    *(
        {"kind": "multi-band-stft", "width": 2, "windows": [64, 32], "periods": [3], "norm": norm}
        for norm in ("weight", "spectral")
    ),
]
"""Small networks, as recipes write them; a new one is a line here."""

SHAPES = {"image": (3, 24, 28), "audio": (2, 700)}
every_example = pytest.mark.parametrize("node", EXAMPLES, ids=lambda node: f"{node['kind']}-{node['norm']}")


def build(node: dict) -> Discriminator:
    torch.manual_seed(0)
    return DISCRIMINATORS.build(node)


def signals(discriminator: Discriminator, batch: int = 3) -> Tensor:
    shape = (batch, *SHAPES[discriminator.modality])
    return (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.3).clamp(-1, 1)


def test_every_registered_discriminator_has_an_example() -> None:
    assert set(DISCRIMINATORS) == {node["kind"] for node in EXAMPLES}


@every_example
def test_it_gives_logits_for_each_item_at_each_scale(node: dict) -> None:
    discriminator = build(node)
    logits = discriminator(signals(discriminator))
    assert isinstance(logits, tuple)
    assert logits
    assert all(scale.shape[:2] == (3, 1) and scale[0].numel() > 0 and scale.isfinite().all() for scale in logits)


@every_example
def test_the_gradient_of_each_scale_reaches_the_signal_and_all_of_them_every_weight(node: dict) -> None:
    discriminator = build(node)
    signal = signals(discriminator).requires_grad_()
    for scale in discriminator(signal):
        (gradient,) = torch.autograd.grad(scale.square().sum(), signal, retain_graph=True)
        assert gradient.isfinite().all()
        assert (gradient != 0).float().mean() > 0.5
    torch.stack([scale.square().mean() for scale in discriminator(signal)]).sum().backward()
    assert [name for name, value in discriminator.named_parameters() if value.grad is None] == []


@every_example
def test_its_features_are_of_each_item_and_change_with_it(node: dict) -> None:
    discriminator = build({**node, "norm": "spectral"})  # the norm over a batch would let items change each other
    one = signals(discriminator)
    other = one.clone()
    other[1] = -other[1]
    before, after = discriminator.eval().discriminate(one).features, discriminator.discriminate(other).features
    assert before
    for here, there in zip(before, after, strict=True):
        assert len(here) == len(one)
        assert torch.allclose(here[0], there[0], atol=1e-6)
        assert not torch.allclose(here[1], there[1], atol=1e-6)


@every_example
def test_bfloat16_autocast_is_accepted(node: dict) -> None:
    discriminator = build(node)
    with torch.autocast("cpu", torch.bfloat16):
        logits = discriminator(signals(discriminator))
    assert all(scale.isfinite().all() for scale in logits)


@every_example
def test_weights_survive_a_reload(node: dict) -> None:
    trained, fresh = build(node), build(node)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter += 0.01
    fresh.load_state_dict(trained.state_dict(), strict=True)
    signal = signals(trained)
    for one, other in zip(trained(signal), fresh(signal), strict=True):
        assert torch.equal(one, other)


@every_example
def test_a_width_of_nothing_and_an_unknown_norm_are_refused_together(node: dict) -> None:
    with pytest.raises(ArgumentError, match="width: expected 1 or more, got 0; norm: input should be"):
        DISCRIMINATORS[node["kind"]](width=0, norm="layer")


@every_example
def test_its_repr_shows_its_arguments(node: dict) -> None:
    assert f"width={node['width']}" in repr(build(node))


@every_example
def test_it_stays_on_its_device_and_never_waits(node: dict) -> None:
    discriminator = build(node)
    with meta_device():
        move(discriminator)
        for _ in range(2):
            logits = discriminator(signals(discriminator).to(META))
            sum(scale.sum() for scale in logits).backward()
        require_there({**{str(number): scale for number, scale in enumerate(logits)}, **discriminator.state_dict()})
