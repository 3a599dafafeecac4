"""What every autoencoder owes the rest of the program, run on an example of each."""

import math

import pytest
import torch
from meta_device import META, meta_device, move, require_there
from torch import Tensor

from tokcli.autoencoders import AUTOENCODERS
from tokcli.contracts import Autoencoder
from tokcli.errors import ArgumentError

EXAMPLES = [
    {"kind": "vqgan", "latent_dim": 4, "width": 16, "multipliers": [1, 2], "blocks": 1, "patch": 2},
    {"kind": "vqgan", "latent_dim": 4, "width": 16, "multipliers": [1, 2], "feature_dim": 9, "attention": True},
    {"kind": "spectral", "latent_dim": 4, "width": 16, "blocks": 2, "kernel": 3, "hop": 8, "frame": 32},
    {"kind": "waveform", "latent_dim": 4, "width": 8, "strides": [2, 3], "dilations": [1, 3]},
    {"kind": "waveform", "latent_dim": 4, "width": 8, "strides": [2, 3], "attention": 1, "attention_reach": 4},
    {"kind": "waveform", "latent_dim": 4, "width": 8, "strides": [2, 3], "causal": True},
]
"""Small networks, as recipes write them; a new one is a line here."""

AXES = {"image": 2, "audio": 1}
every_example = pytest.mark.parametrize("node", EXAMPLES, ids=lambda node: "-".join(map(str, node.values())))


def build(node: dict, **changes: object) -> Autoencoder:
    torch.manual_seed(0)
    return AUTOENCODERS.build({**node, **changes})


def signals(autoencoder: Autoencoder, batch: int, positions: int) -> Tensor:
    """(batch, channels, *size), as many positions along each axis."""
    size = [positions * autoencoder.stride] * AXES[autoencoder.modality]
    shape = (batch, autoencoder.channels, *size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_every_registered_autoencoder_has_an_example() -> None:
    assert set(AUTOENCODERS) == {node["kind"] for node in EXAMPLES}


@every_example
@pytest.mark.parametrize("positions", [1, 2, 5])
def test_a_position_covers_stride_samples_along_each_axis(node: dict, positions: int) -> None:
    autoencoder = build(node)
    signal = signals(autoencoder, 2, positions)
    latents = autoencoder.encode(signal)
    assert latents.shape == (2, *[positions] * AXES[autoencoder.modality], autoencoder.latent_dim)
    assert autoencoder.decode(latents).shape == signal.shape


@every_example
def test_the_decoder_may_read_half_of_what_the_encoder_gives(node: dict) -> None:
    autoencoder = build(node, latent_dim=8, decoder_dim=4)
    latents = autoencoder.encode(signals(autoencoder, 1, 3))
    assert latents.shape[-1] == autoencoder.latent_dim == 8
    assert autoencoder.decode(latents[..., : autoencoder.decoder_dim]).shape[1] == autoencoder.channels
    assert build(node).decoder_dim == build(node).latent_dim


@every_example
def test_every_parameter_receives_a_gradient(node: dict) -> None:
    autoencoder = build(node)
    autoencoder.decode(autoencoder.encode(signals(autoencoder, 2, 6))).square().mean().backward()
    assert [name for name, value in autoencoder.named_parameters() if not value.grad.abs().sum() > 0] == []


@every_example
def test_the_last_layer_is_a_weight_of_the_decoder_alone(node: dict) -> None:
    autoencoder = build(node)
    last = autoencoder.last_layer
    assert last is None or any(last is parameter for parameter in autoencoder.parameters())
    if last is not None:
        latents = autoencoder.encode(signals(autoencoder, 1, 3))
        assert torch.autograd.grad(latents.sum(), last, allow_unused=True) == (None,)
        (gradient,) = torch.autograd.grad(autoencoder.decode(latents).square().sum(), last)
        assert gradient.abs().sum() > 0


@every_example
def test_one_signal_gives_the_latents_it_gives_in_a_batch_up_to_rounding(node: dict) -> None:
    """Kernels are chosen by the size of the batch, so the last bits may differ; nothing else may.

    Signals encoded one at a time agree to the bit, wherever they lie in memory.
    """
    autoencoder = build(node).eval()
    batch = signals(autoencoder, 4, 8)
    with torch.inference_mode():
        together = autoencoder.encode(batch)
        alone = torch.cat([autoencoder.encode(signal) for signal in batch.split(1)])
        elsewhere = torch.cat([autoencoder.encode(signal.clone()) for signal in batch.flip(0).split(1)]).flip(0)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert torch.equal(alone, elsewhere)


@every_example
def test_bfloat16_autocast_stays_near_float32(node: dict) -> None:
    autoencoder = build(node).eval()
    signal = signals(autoencoder, 2, 8)
    with torch.no_grad():
        exact = autoencoder.decode(autoencoder.encode(signal))
        with torch.autocast("cpu", torch.bfloat16):
            rounded = autoencoder.decode(autoencoder.encode(signal))
    assert (rounded.float() - exact).abs().mean() < 0.03 * exact.abs().mean() + 0.01


@every_example
def test_a_window_has_a_context_and_one_axis(node: dict) -> None:
    """What a position depends on beyond its context, that is nothing, is tested for each network by itself."""
    autoencoder = build(node)
    if autoencoder.window is None:
        assert autoencoder.context == 0
        return
    assert AXES[autoencoder.modality] == 1
    autoencoder = autoencoder.double().eval()
    context = autoencoder.context
    signal = signals(autoencoder, 1, 2 * context + 9).double()
    with torch.inference_mode():
        whole = autoencoder.encode(signal)
        part = autoencoder.encode(signal[..., 4 * autoencoder.stride : (2 * context + 5) * autoencoder.stride])
    torch.testing.assert_close(part[:, context], whole[:, context + 4], rtol=0, atol=1e-12)


@every_example
def test_a_signal_that_the_stride_does_not_divide_is_refused(node: dict) -> None:
    autoencoder = build(node)
    signal = signals(autoencoder, 1, 3)[..., :-1]
    with pytest.raises(ValueError, match=rf"not divide .*pad .*{autoencoder.stride}"):
        autoencoder.encode(signal)


@every_example
def test_weights_survive_a_reload(node: dict) -> None:
    trained, fresh = build(node).eval(), build(node).eval()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter += 0.1
    fresh.load_state_dict(trained.state_dict(), strict=True)
    signal = signals(trained, 1, 3)
    assert torch.equal(fresh.encode(signal), trained.encode(signal))


@every_example
def test_it_learns_one_signal(node: dict) -> None:
    autoencoder = build(node, latent_dim=8)
    axes, side = AXES[autoencoder.modality], 4 * autoencoder.stride
    wave = 0.5 * torch.sin(torch.arange(side) * 2 * math.pi / side).expand(1, autoencoder.channels, *[side] * axes)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=3e-3)
    for _ in range(120):
        error = (autoencoder.decode(autoencoder.encode(wave)) - wave).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error < 0.2 * wave.square().mean()


@every_example
@pytest.mark.parametrize("name", ["latent_dim", "decoder_dim", "width"])
def test_a_size_of_nothing_is_refused_by_name(node: dict, name: str) -> None:
    constructor = AUTOENCODERS[node["kind"]]
    arguments = {key: value for key, value in node.items() if key != "kind"} | {name: 0}
    with pytest.raises(ArgumentError, match=f"^{name}: expected 1 or more, got 0$"):
        constructor(**arguments)


@every_example
def test_its_repr_shows_its_arguments(node: dict) -> None:
    assert f"latent_dim={node['latent_dim']}, width={node['width']}" in repr(build(node))


@every_example
def test_it_stays_on_its_device_and_never_waits(node: dict) -> None:
    autoencoder = build(node)
    with meta_device():
        move(autoencoder)
        latents = autoencoder.encode(signals(autoencoder, 2, 3).to(META))
        signal = autoencoder.decode(latents[..., : autoencoder.decoder_dim])
        signal.sum().backward()
        require_there({"latents": latents, "signal": signal, **autoencoder.state_dict()})
