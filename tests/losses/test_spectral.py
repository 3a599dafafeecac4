"""Spectral losses: closed forms, what each window hears, and arguments that do not fit."""

import math

import pytest
import torch

from tokcli.backbones.spectra import Spectrogram, mel_bank
from tokcli.errors import RecipeError
from tokcli.losses import LOSSES

NOISE = torch.randn(2, 2, 1, 4000, generator=torch.Generator().manual_seed(0)) * 0.1


@pytest.mark.parametrize("kind", ["multi-resolution-stft", "mel"])
def test_a_sound_is_at_no_distance_from_itself(kind) -> None:
    loss = LOSSES.build({"kind": kind})
    assert loss.modality == "audio"
    assert loss(NOISE[0], NOISE[0]) == 0
    assert loss(*NOISE) > 0.1


@pytest.mark.parametrize("kind", ["multi-resolution-stft", "mel"])
def test_half_the_loudness_is_ln_2_away_on_the_logarithmic_axis(kind) -> None:
    arguments = {"windows": [512, 64], "linear": 0.0, **({"bands": [20, 4]} if kind == "mel" else {})}
    loss = LOSSES.build({"kind": kind, **arguments})
    assert loss(NOISE[0] / 2, NOISE[0]).item() == pytest.approx(math.log(2), rel=1e-4)


def test_the_linear_term_is_the_mean_difference_of_magnitudes_over_resolutions() -> None:
    loss = LOSSES.build({"kind": "multi-resolution-stft", "windows": [512, 64], "logarithmic": 0.0, "linear": 2.0})
    apart = [(Spectrogram(window)(NOISE[0]) - Spectrogram(window)(NOISE[1])).abs().mean() for window in (512, 64)]
    torch.testing.assert_close(loss(*NOISE), 2.0 * (apart[0] + apart[1]) / 2)


def test_the_mel_loss_compares_bands_of_the_spectrogram() -> None:
    loss = LOSSES.build({"kind": "mel", "sample_rate": 8000, "windows": [256], "bands": [10]})
    logs = [(mel_bank(8000, 256, 10) @ Spectrogram(256)(sound)).clamp(min=1e-5).log() for sound in NOISE]
    torch.testing.assert_close(loss(*NOISE), (logs[0] - logs[1]).abs().mean())


@pytest.mark.parametrize("kind", ["multi-resolution-stft", "mel"])
def test_gradients_are_finite_even_for_silence(kind) -> None:
    for sound in (torch.zeros(1, 1, 4000), NOISE[0].clone()):
        sound.requires_grad_()
        LOSSES.build({"kind": kind})(sound, NOISE[1][: len(sound)]).backward()
        assert torch.isfinite(sound.grad).all()


def test_descending_the_loss_brings_the_spectrum_closer() -> None:
    loss = LOSSES.build({"kind": "multi-resolution-stft", "windows": [256, 64]})
    sound = NOISE[0].clone().requires_grad_()
    before = loss(sound, NOISE[1])
    optimizer = torch.optim.Adam([sound], lr=1e-2)
    for _ in range(15):
        optimizer.zero_grad()
        loss(sound, NOISE[1]).backward()
        optimizer.step()
    assert loss(sound, NOISE[1]) < 0.8 * before


def test_spectral_losses_hold_nothing_to_train_or_save() -> None:
    for kind in ("multi-resolution-stft", "mel"):
        loss = LOSSES.build({"kind": kind})
        assert not list(loss.parameters())
        assert not loss.state_dict()


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        ({"kind": "mel", "windows": [64]}, "loss: there are 1 windows and 7 bands, expected one of each per scale"),
        ({"kind": "multi-resolution-stft", "windows": []}, r"loss\.windows: expected at least 1 of them, got \[\]"),
        ({"kind": "multi-resolution-stft", "windows": [2]}, r"loss\.windows\.0: expected 4 or more, got 2"),
        (
            {"kind": "multi-resolution-stft", "linear": 0.0, "logarithmic": 0.0},
            "loss: linear and logarithmic are 0.0 and 0.0, expected one to be positive",
        ),
        ({"kind": "mel", "sample_rate": 0}, r"loss\.sample_rate: expected 1 or more, got 0"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(node, sentence) -> None:
    with pytest.raises(RecipeError, match=sentence):
        LOSSES.build(node)
