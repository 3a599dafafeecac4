"""Discriminators of sound: how many logits, of which lengths, where gradients go, and what they learn to hear."""

import math

import pytest
import torch

from tokcli.discriminators import DISCRIMINATORS
from tokcli.discriminators.objectives import discriminator_loss
from tokcli.errors import RecipeError

KINDS = ["multi-scale-stft", "multi-period"]


def build(kind: str, width: int = 4, **arguments: object) -> torch.nn.Module:
    return DISCRIMINATORS.build({"kind": kind, "width": width, **arguments})


def noise(count: int, samples: int, channels: int = 1) -> torch.Tensor:
    return torch.randn(count, channels, samples, generator=torch.Generator().manual_seed(0)) * 0.1


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_logits_of_the_spectra_counted_by_hand() -> None:
    logits = build("multi-scale-stft", windows=[2048, 128])(noise(2, 9600))
    # 1 + 9600 // 512 = 19 frames of 1025 -> 513 -> 257 -> 129 rows; 1 + 9600 // 32 = 301 of 65 -> 33 -> 17 -> 9
    assert [scale.shape for scale in logits] == [(2, 1, 19 * 129), (2, 1, 301 * 9)]


def test_logits_of_the_periods_counted_by_hand() -> None:
    logits = build("multi-period", periods=[2, 7])(noise(2, 9600))
    # 4800 -> 1600 -> 534 -> 178 -> 60 rows of 2; 1372 -> 458 -> 153 -> 51 -> 17 rows of 7
    assert [scale.shape for scale in logits] == [(2, 1, 60 * 2), (2, 1, 17 * 7)]


def test_logits_of_the_bands_counted_by_hand() -> None:
    logits = build("multi-band-stft", windows=[2048, 128], periods=[2])(noise(2, 9600))
    # bands of 102, 154, 256, 256 and 257 rows, halved three times: 13 + 20 + 32 + 32 + 33; of 6, 10, 16, 16 and 17
    assert [scale.shape for scale in logits] == [(2, 1, 60 * 2), (2, 1, 19 * 130), (2, 1, 301 * (1 + 2 + 2 + 2 + 3))]


def test_a_band_is_judged_by_layers_of_its_own() -> None:
    """A tone in the highest band changes no feature of another."""
    discriminator = build("multi-band-stft", windows=[512])
    times = torch.arange(4000) / 16_000
    tone = 0.1 * torch.cos(2 * math.pi * 7500 * times)
    quiet = torch.zeros(1, 1, 4000)
    before, after = (discriminator.discriminate(sound).features for sound in (quiet, quiet + tone))
    assert len(before) == 5 * 5
    changed = [float((one - other).detach().abs()[..., 5:-5].max()) for one, other in zip(before, after, strict=True)]
    assert max(changed[:20]) < 1e-4
    assert min(changed[20:]) > 1e-4


def test_a_cut_that_leaves_a_band_empty_is_refused() -> None:
    with pytest.raises(RecipeError, match="each band at least one of the 17 rows that a window of 32 gives"):
        build("multi-band-stft", windows=[32], cuts=[0.5, 0.5])


@pytest.mark.parametrize("norm", ["weight", "spectral"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [1, 10, 127, 4001])
def test_sounds_of_any_length_are_judged_at_five_scales(kind: str, norm: str, samples: int) -> None:
    logits = build(kind, norm=norm)(noise(2, samples))
    assert len(logits) == 5
    assert all(scale.shape[:2] == (2, 1) and scale.shape[2] >= 1 for scale in logits)
    assert all(torch.isfinite(scale).all() for scale in logits)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_each_scale_reaches_the_whole_sound_and_every_weight(kind: str) -> None:
    discriminator = build(kind)
    sound = noise(1, 2310).requires_grad_()
    for scale in discriminator(sound):
        (gradient,) = torch.autograd.grad(scale.square().sum(), sound, retain_graph=True)
        assert torch.isfinite(gradient).all()
        assert (gradient != 0).float().mean() > 0.9
    sum(scale.square().mean() for scale in discriminator(sound)).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in discriminator.parameters())


def test_silence_has_finite_gradients() -> None:
    for kind in KINDS:
        sound = torch.zeros(1, 1, 500, requires_grad=True)
        sum(scale.mean() for scale in build(kind)(sound)).backward()
        assert torch.isfinite(sound.grad).all()


def test_a_period_looks_along_its_own_column() -> None:
    sound = noise(1, 1000).requires_grad_()
    (logits,) = build("multi-period", periods=[5])(sound)
    logits[0, 0, 3].backward()
    heard = sound.grad.flatten().nonzero().flatten()
    assert len(heard) > 10
    assert (heard % 5 == 3).all()


def test_the_spectra_hear_phase() -> None:
    times = torch.arange(2048) / 16_000
    sounds = torch.stack([torch.cos(2 * math.pi * 1000 * times + phase) for phase in (0, math.pi / 2)]).unsqueeze(1)
    (logits,) = build("multi-scale-stft", windows=[512])(sounds)
    # Away from the ends the two have the same magnitudes: only the phase tells them apart.
    inner = logits.view(2, -1, 17)[..., 8]
    assert (inner[0] - inner[1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_channels_and_items_of_a_batch_are_judged_apart(kind: str) -> None:
    discriminator = build(kind)
    sounds = noise(3, 1000, channels=2)
    for together, left, right in zip(
        discriminator(sounds), discriminator(sounds[:, :1]), discriminator(sounds[1:2, 1:]), strict=True
    ):
        places = left.shape[2]
        torch.testing.assert_close(together[..., :places], left, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together[1:2, :, places:], right, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("norm", ["weight", "spectral"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_to_tell_tones_from_noise(kind: str, norm: str) -> None:
    scales = {"windows": [256, 64]} if kind == "multi-scale-stft" else {"periods": [2, 3]}
    discriminator = build(kind, norm=norm, **scales)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=5e-3)
    pitches = torch.linspace(200, 2000, 8).view(8, 1, 1)
    tones = torch.sin(2 * math.pi * pitches * torch.arange(1600) / 16_000) / math.sqrt(2)
    # Louder than most speech: with all slopes bounded, a quiet sound cannot reach the margin of the hinge.
    hiss = noise(8, 1600) * 5
    for _ in range(40):
        pairs = list(zip(discriminator(tones), discriminator(hiss), strict=True))
        loss = sum(discriminator_loss("hinge", *pair) for pair in pairs) / len(pairs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for tone, other in pairs:
        assert tone.mean() - other.mean() > 1
    assert loss < 0.4


def test_bfloat16_autocast_is_accepted() -> None:
    for kind in KINDS:
        with torch.autocast("cpu", torch.bfloat16):
            logits = build(kind)(noise(1, 700))
        assert all(torch.isfinite(scale).all() for scale in logits)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"kind": "multi-period", "periods": []}, "periods: expected at least 1 of them, got []"),
        ({"kind": "multi-period", "periods": [2, 0]}, "periods.1: expected 1 or more, got 0"),
        ({"kind": "multi-scale-stft", "windows": []}, "windows: expected at least 1 of them"),
        ({"kind": "multi-scale-stft", "windows": [2]}, "windows.0: expected 4 or more, got 2"),
        ({"kind": "multi-scale-stft", "width": 0}, "width: expected 1 or more, got 0"),
        ({"kind": "multi-period", "norm": "batch"}, "norm: input should be 'weight' or 'spectral', got 'batch'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(node: dict, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        DISCRIMINATORS.build(node)
    assert words in str(caught.value)
