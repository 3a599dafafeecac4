"""The convolutional audio codec: Snake by its formula, declared context, causality, lengths."""

import pytest
import torch
from torch import Tensor

from tokcli.autoencoders.layers import Convolution, LocalAttention, Snake, Upsampling
from tokcli.autoencoders.waveform import WaveformAutoencoder
from tokcli.errors import ArgumentError


def tiny(**changes: object) -> WaveformAutoencoder:
    """A network of 6 samples per position that runs in milliseconds."""
    torch.manual_seed(0)
    arguments = {"latent_dim": 3, "width": 4, "strides": [2, 3], "dilations": [1, 3], "attention_reach": 4} | changes
    return WaveformAutoencoder(**arguments)


def sounds(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def moved(before: Tensor, after: Tensor) -> list[int]:
    """The positions at which two results (1, positions, …) differ at all."""
    return (before != after).flatten(2).any(2)[0].nonzero().flatten().tolist()


SHAPES = [
    {},
    {"strides": [2, 2], "dilations": [1]},
    {"strides": [3, 1]},
    {"attention": 2},
    {"causal": True},
    {"causal": True, "attention": 1},
]


def test_snake_is_its_formula() -> None:
    snake = Snake(2)
    snake.log_frequency.data = torch.tensor([[2.0], [0.5]]).log()
    features = torch.linspace(-3, 3, 7).expand(1, 2, 7)
    expected = torch.stack([x + (alpha * x).sin() ** 2 / alpha for alpha, x in zip((2.0, 0.5), features[0])])  # noqa: B905
    torch.testing.assert_close(snake(features)[0], expected)


def test_snake_begins_with_frequency_one_and_learns_it() -> None:
    snake = Snake(3)
    features = sounds(2, 3, 5)
    torch.testing.assert_close(snake(features), features + features.sin().square())
    snake(features).sum().backward()
    assert snake.log_frequency.grad.abs().min() > 0


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3, 6])
def test_strides_divide_and_multiply_the_length(stride: int, causal: bool) -> None:
    features = sounds(1, 2, 12)
    down = Convolution(2, 3, 2 * stride, stride=stride, causal=causal)
    up = Upsampling(3, 2, stride, causal=causal)
    assert down(features).shape == (1, 3, 12 // stride)
    assert up(down(features)).shape == (1, 2, 12)


def test_attention_is_the_softmax_over_a_band() -> None:
    """Against attention over all positions at once, with a mask."""
    torch.manual_seed(0)
    attention = LocalAttention(8, reach=3, causal=False)
    attention.offsets.data.normal_()
    features = torch.randn(2, 8, 11)
    rows = features.transpose(1, 2)
    query, key, value = attention.query_key_value(attention.norm(rows)).chunk(3, dim=-1)
    offset = torch.arange(11) - torch.arange(11)[:, None]
    bias = attention.offsets[0, offset.clamp(-3, 3) + 3].masked_fill(offset.abs() > 3, -torch.inf)
    weights = (query @ key.transpose(1, 2) / 8**0.5 + bias).softmax(-1)
    expected = rows + attention.projection(weights @ value)
    expected = expected + attention.feed_forward(expected)
    torch.testing.assert_close(attention(features), expected.transpose(1, 2))


@pytest.mark.parametrize("positions", [1, 3, 4, 5])
def test_attention_has_finite_gradients_at_every_length(positions: int) -> None:
    attention = LocalAttention(8, reach=4, causal=True)
    attention(sounds(1, 8, positions)).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in attention.parameters())


@pytest.mark.parametrize("changes", SHAPES)
@pytest.mark.parametrize("positions", [1, 2, 40])
def test_a_position_is_the_product_of_strides(changes: dict[str, object], positions: int) -> None:
    autoencoder = tiny(**changes)
    signal = sounds(2, 1, positions * autoencoder.stride)
    latents = autoencoder.encode(signal)
    assert latents.shape == (2, positions, 3)
    assert autoencoder.decode(latents).shape == signal.shape


def test_the_default_is_the_papers_token_rate() -> None:
    with torch.device("meta"):
        autoencoder = WaveformAutoencoder(latent_dim=4)
    assert autoencoder.stride == 96
    assert autoencoder.sample_rate == 16_000


@pytest.mark.parametrize("changes", SHAPES)
def test_context_is_what_one_sample_and_one_latent_move(changes: dict[str, object]) -> None:
    """The declared context is reached, and never left; measured in double precision, where every path shows."""
    autoencoder = tiny(**changes).double()
    stride, middle = autoencoder.stride, 60
    signal = sounds(1, 1, 120 * stride).double()
    latents = sounds(1, 120, 3).double()
    encoded, decoded = autoencoder.encode(signal), autoencoder.decode(latents)
    touched = set()
    for sample in range(middle * stride, (middle + 1) * stride):
        changed = signal.clone()
        changed[..., sample] += 0.5
        touched |= set(moved(encoded, autoencoder.encode(changed)))
    latents[0, middle] += 1
    touched |= set(moved(decoded.view(1, 120, -1), autoencoder.decode(latents).view(1, 120, -1)))
    assert max(abs(position - middle) for position in touched) == autoencoder.context
    assert 0 < autoencoder.context < 55
    assert min(touched) >= middle or not changes.get("causal")


def test_without_causality_a_sample_reaches_back() -> None:
    """The test of causality above has teeth."""
    autoencoder = tiny().double()
    signal = sounds(1, 1, 6 * 40).double()
    before = autoencoder.encode(signal)
    signal[..., 6 * 20] += 0.5
    assert min(moved(before, autoencoder.encode(signal))) < 20


def test_last_layer_is_the_weight_that_makes_the_samples() -> None:
    autoencoder = tiny()
    sound = autoencoder.decode(sounds(1, 5, 3))
    (gradient,) = torch.autograd.grad(sound.square().sum(), autoencoder.last_layer)
    assert autoencoder.last_layer.shape == (1, 4, 7)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strides": []}, r"^strides: expected at least 1 of them, got \[\]$"),
        ({"strides": [2, 0]}, r"^strides\.1: expected 1 or more, got 0$"),
        ({"dilations": []}, r"^dilations: expected at least 1 of them, got \[\]$"),
        ({"attention": -1, "attention_reach": 0}, "attention: expected 0 or more, got -1; attention_reach: expected 1"),
        ({"window": 0}, "^window: expected 1 or more, got 0$"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        tiny(**changes)
