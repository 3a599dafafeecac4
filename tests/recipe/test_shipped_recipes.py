"""Every shipped recipe loads, builds as written, and trains: shrunk to a second by overrides."""

import pathlib

import pytest

from tokcli.commands.train import train
from tokcli.recipe.recipe import Recipe, from_text
from tokcli.recipe.shipped import list_shipped, read_shipped

PICTURES = ["data.train={kind: dead-leaves, items: 40, size: 32}", "data.eval={kind: dead-leaves, items: 2, size: 32}"]
SOUNDS = [
    "data.train={kind: synthetic-voices, items: 40, size: 960}",
    "data.eval={kind: synthetic-voices, items: 2, size: 16000, seed: 1}",
]
SMALL = {
    "vqgan": [*PICTURES, "autoencoder.groups=2", "autoencoder.width=8", "autoencoder.blocks=1"],
    "spectral": [*SOUNDS, "autoencoder.width=8", "autoencoder.blocks=1"],
    "waveform": [*SOUNDS, "autoencoder.width=2"],
}
"""Other data and a narrower network, by the kind of autoencoder."""


def shrunk(recipe: Recipe) -> list[str]:
    """Overrides that keep the recipe's parts and make them small."""
    overrides = [
        *SMALL[recipe.autoencoder["kind"]],
        "training.steps=2",
        "training.batch_size=4",
        "training.workers=0",
        "training.warmup_steps=0",
        "evaluation.every=1",
    ]
    if "feature_dim" in recipe.autoencoder:
        overrides.append("autoencoder.feature_dim=8")
    rate = recipe.autoencoder.get("sample_rate", 16000)
    overrides += [f"data.{half}.sample_rate={rate}" for half in ("train", "eval") if rate != 16000]
    place, quantizer = "quantizer", recipe.quantizer
    while "of" in quantizer:
        place, quantizer = f"{place}.of", quantizer["of"]
    if quantizer.get("codebook_size", 0) > 64:
        overrides.append(f"{place}.codebook_size=64")
    if recipe.quantizer.get("sizes") is not None:
        overrides.append("quantizer.sizes=[32, 64]")
    if recipe.codebook is not None:
        overrides += ["codebook.samples=2000", "codebook.passes=1"]
    if recipe.codebook is not None and recipe.codebook.sizes is not None:
        overrides.append("codebook.sizes=[32, 64]")
    if recipe.adversary is not None:
        overrides += ["adversary.start_step=0", "adversary.lead_steps=0", "adversary.discriminator.width=8"]
    # The weights of LPIPS, Whisper and rFID cannot be assumed; their absence has tests of its own.
    kept = [dict(node) for node in recipe.losses if node["kind"] not in ("lpips", "whisper")]
    overrides.append(f"losses={kept}")
    judged = [name for name in recipe.evaluation.metrics if "lpips" not in name and name != "rfid"]
    overrides.append(f"evaluation.metrics={judged}")
    if recipe.evaluation.best not in judged:
        overrides.append("evaluation.best=null")
    return overrides


@pytest.mark.parametrize("name", list_shipped())
def test_a_shipped_recipe_says_what_it_is_and_how_to_run_it(name: str) -> None:
    recipe = read_shipped(name)
    assert len(recipe.summary) > 20
    assert recipe.summary.endswith((".", ":"))
    assert f"tok train {name}" in recipe.text
    assert from_text(recipe.text, name).name == name


@pytest.mark.parametrize("name", list_shipped())
def test_a_shipped_recipe_trains(name: str, tmp_path: pathlib.Path) -> None:
    recipe = from_text(read_shipped(name).text, name)
    result = train(name, shrunk(recipe), out=str(tmp_path / "run"))
    assert result.steps == 2
    assert result.artifact.exists()
    assert all(value is not None for value in result.metrics.values()), result.metrics
