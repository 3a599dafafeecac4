"""Training a tokenizer of sound against each discriminator of sound: both players move, and pictures stay apart."""

import pytest
import torch

from tokcli.errors import RecipeError
from tokcli.recipe.recipe import from_text
from tokcli.training import loop
from tokcli.training.parts import Training, make_accelerator, prepare

SOUND = [
    "autoencoder={kind: spectral, latent_dim: 3, width: 8, blocks: 1}",
    "losses=[{kind: l1}, {kind: mel, windows: [256], bands: [10]}]",
    "training.precision=bf16",
    "training.channels_last=true",
]


@pytest.fixture
def started(tiny: str, monkeypatch: pytest.MonkeyPatch):
    """Build the tiny recipe for sounds with these overrides; the sounds come from the test."""
    for part in ("training", "evaluation"):
        monkeypatch.setattr(f"tokcli.training.parts.build_{part}_source", lambda *arguments: None)

    def start(*overrides: str) -> Training:
        return prepare(from_text(tiny, "tiny.yaml", [*SOUND, *overrides]), make_accelerator("cpu"))

    return start


@pytest.mark.parametrize("kind", ["multi-scale-stft", "multi-period"])
def test_both_players_learn_from_a_step(started, kind: str) -> None:
    # Logistic: within its margins the hinge's two pulls on the last bias cancel exactly.
    game = "adaptive: true, lecam_weight: 0.01, learning_rate: 1, discriminator_loss: logistic"
    training = started(f"adversary={{discriminator: {{kind: {kind}, width: 2}}, {game}}}")
    sounds = torch.randn(2, 1, 1000, generator=torch.Generator().manual_seed(0)) * 0.1
    figures = loop.backward(training, sounds)
    assert figures["perplexity"] >= 1
    assert all(torch.isfinite(value).all() for value in figures.values())
    assert {"adversarial_loss", "adversarial_weight", "discriminator_loss", "lecam"} <= set(figures)
    assert training.tokenizer.autoencoder.last_layer.grad.abs().sum() > 0
    before = [value.clone() for value in training.adversary.discriminator.parameters()]
    training.adversary.update(0)
    pairs = zip(before, training.adversary.discriminator.parameters(), strict=True)
    assert all(not torch.equal(old, new) for old, new in pairs)


def test_a_discriminator_of_images_is_refused_with_those_of_audio(started) -> None:
    words = "'patchgan' judges image, the recipe trains audio; expected one of: multi-scale-stft, multi-period"
    with pytest.raises(RecipeError, match=rf"^adversary\.discriminator: {words}"):
        started("adversary.weight=0.1")


def test_losses_are_held_to_the_autoencoders_sample_rate(started) -> None:
    with pytest.raises(RecipeError, match=r"losses\.1: 'mel' is for 16000 Hz, the recipe trains at 24000 Hz"):
        started("autoencoder.sample_rate=24000")
