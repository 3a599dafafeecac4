"""VQGAN's autoencoder: shapes, strides, the published size, and one image against a batch."""

import pytest
import torch
from torch import Tensor, nn

from tokcli.autoencoders import AUTOENCODERS
from tokcli.autoencoders.vqgan import Attention, ResidualBlock, VQGANAutoencoder, group_norm
from tokcli.errors import ArgumentError


def tiny(**changes: object) -> VQGANAutoencoder:
    """A network of f = 4 that runs in milliseconds."""
    torch.manual_seed(0)
    return VQGANAutoencoder(**{"latent_dim": 4, "width": 8, "multipliers": [1, 2], "blocks": 1, "patch": 2} | changes)


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("multipliers", "patch", "stride"),
    [([1], 4, 4), ([1, 2], 2, 4), ([1, 2, 2], 1, 4), ([1, 2, 4], 2, 8), ([1, 1, 2, 2], 1, 8), ([1, 1, 1], 4, 16)],
)
def test_stride_is_patch_times_two_per_downsampling(multipliers: list[int], patch: int, stride: int) -> None:
    autoencoder = tiny(multipliers=multipliers, patch=patch)
    image = images(2, 3, 2 * stride, 3 * stride)
    latents = autoencoder.encode(image)
    assert autoencoder.stride == stride
    assert latents.shape == (2, 2, 3, 4)
    assert autoencoder.decode(latents).shape == image.shape


def test_odd_widths_and_patches_of_three_pixels_work() -> None:
    autoencoder = tiny(latent_dim=5, width=7, multipliers=[1, 3], patch=3, attention=True)
    latents = autoencoder.encode(images(1, 3, 12, 18))
    assert latents.shape == (1, 2, 3, 5)
    assert autoencoder.decode(latents).shape == (1, 3, 12, 18)


def test_the_default_is_the_published_network_of_f_8() -> None:
    """The f = 8 tokenizer published with 256 features and codes of 8 dimensions has 70 million parameters."""
    with torch.device("meta"):
        published = VQGANAutoencoder(latent_dim=8, attention=True, feature_dim=256)
    assert published.stride == 8
    assert round(parameter_count(published) / 1e6) == 70


def test_a_residual_block_has_the_parameters_of_two_convolutions_and_their_norms() -> None:
    convolutions = (8 * 16 * 9 + 16) + (16 * 16 * 9 + 16)
    norms = 2 * 8 + 2 * 16
    shortcut = 8 * 16 + 16
    assert parameter_count(ResidualBlock(8, 16, 2)) == convolutions + norms + shortcut


def test_attention_is_at_the_lowest_resolution_alone() -> None:
    autoencoder = tiny(multipliers=[1, 2, 4], blocks=2, attention=True)
    places = [name for name, module in autoencoder.named_modules() if isinstance(module, Attention)]
    assert places == [
        "encoder.levels.2.1",
        "encoder.levels.2.3",
        "encoder.middle.1",
        "decoder.middle.1",
        "decoder.levels.0.1",
        "decoder.levels.0.3",
        "decoder.levels.0.5",
    ]
    assert not any(isinstance(module, Attention) for module in tiny().modules())


def test_attention_mixes_positions_as_the_softmax_formula_says() -> None:
    torch.manual_seed(0)
    attention = Attention(8, 2)
    features = torch.randn(2, 8, 3, 5)
    query, key, value = attention.query_key_value(attention.norm(features)).flatten(2).chunk(3, dim=1)
    scores = torch.einsum("bcq,bck->bqk", query, key) / 8**0.5
    attended = torch.einsum("bqk,bck->bcq", scores.softmax(-1), value).reshape(2, 8, 3, 5)
    torch.testing.assert_close(attention(features), features + attention.projection(attended))


@pytest.mark.parametrize(
    ("channels", "most", "groups"), [(128, 32, 32), (512, 32, 32), (32, 32, 8), (48, 32, 12), (64, 4, 4), (7, 32, 1)]
)
def test_groups_divide_the_width_and_hold_four_channels(channels: int, most: int, groups: int) -> None:
    assert group_norm(channels, most).num_groups == groups


def test_no_projection_where_features_are_the_code_dimension() -> None:
    assert isinstance(tiny().down_projection, nn.Identity)
    assert isinstance(tiny().up_projection, nn.Identity)
    assert isinstance(tiny(feature_dim=4).down_projection, nn.Identity)
    projected = tiny(feature_dim=6)
    assert projected.down_projection.weight.shape == (4, 6)
    assert projected.up_projection.weight.shape == (6, 4)


@pytest.mark.parametrize("feature_dim", [None, 6])
def test_the_decoder_may_read_half_of_what_the_encoder_gives(feature_dim: int | None) -> None:
    autoencoder = tiny(latent_dim=8, decoder_dim=4, feature_dim=feature_dim)
    assert autoencoder.encode(images(1, 3, 8, 8)).shape == (1, 2, 2, 8)
    assert autoencoder.decode(torch.zeros(1, 2, 2, 4)).shape == (1, 3, 8, 8)


def test_last_layer_is_the_weight_that_makes_the_pixels() -> None:
    autoencoder = tiny()
    with torch.no_grad():
        autoencoder.last_layer.zero_()
        autoencoder.decoder.head[-1].bias.zero_()
    assert autoencoder.last_layer.shape == (3 * 2 * 2, 8, 3, 3)
    assert autoencoder.decode(torch.randn(1, 2, 2, 4)).abs().max() == 0


def test_a_change_of_pixels_reaches_the_latents_over_it() -> None:
    """Rows and columns are not swapped: pixels at the right edge move the latents of the right edge."""
    autoencoder = tiny().eval()
    image = images(1, 3, 64, 128)
    changed = image.clone()
    changed[..., 0:4, -4:] *= -1
    with torch.inference_mode():
        difference = (autoencoder.encode(changed) - autoencoder.encode(image)).square().sum(-1)[0]
    assert difference[:6, 26:].sum() > 0.9 * difference.sum()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_one_image_gives_the_latents_it_gives_in_a_batch_up_to_rounding(memory_format: torch.memory_format) -> None:
    """Convolution kernels are chosen by the size of the batch, so the last bits may differ; nothing else may.

    Images encoded one at a time agree to the bit, wherever they lie in memory.
    """
    autoencoder = tiny(width=16, feature_dim=9, attention=True).eval().to(memory_format=memory_format)
    batch = images(5, 3, 32, 48).contiguous(memory_format=memory_format)
    with torch.inference_mode():
        together = autoencoder.encode(batch)
        alone = torch.cat([autoencoder.encode(image) for image in batch.split(1)])
        elsewhere = torch.cat([autoencoder.encode(image.clone()) for image in batch.flip(0).split(1)]).flip(0)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert torch.equal(alone, elsewhere)


def test_both_memory_formats_agree_and_channels_last_is_kept() -> None:
    autoencoder = tiny(width=16).eval()
    image = images(2, 3, 32, 32)
    expected = autoencoder.decode(autoencoder.encode(image))
    autoencoder.to(memory_format=torch.channels_last)
    latents = autoencoder.encode(image.contiguous(memory_format=torch.channels_last))
    reconstruction = autoencoder.decode(latents)
    assert latents.is_contiguous()
    torch.testing.assert_close(reconstruction, expected, rtol=1e-4, atol=1e-5)


def test_recipes_build_it_and_a_typo_is_corrected() -> None:
    node = {"kind": "vqgan", "latent_dim": 4, "width": 8, "multipliers": [1, 2], "patch": 2}
    assert AUTOENCODERS.build(node).stride == 4
    assert AUTOENCODERS.problems(node | {"multiplier": [1]}, "autoencoder") == [
        "autoencoder.multiplier: 'vqgan' takes no such argument; did you mean 'multipliers'?"
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"multipliers": []}, r"^multipliers: expected at least 1 of them, got \[\]$"),
        ({"multipliers": [1, 0], "patch": -2}, r"^multipliers\.1: expected 1 or more, got 0; patch: .*, got -2$"),
        ({"blocks": 0, "groups": 0}, "^blocks: expected 1 or more, got 0; groups: expected 1 or more, got 0$"),
        ({"feature_dim": 0}, "^feature_dim: expected 1 or more, got 0$"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        tiny(**changes)
