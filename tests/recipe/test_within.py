"""A quantizer within another: a recipe's problems, widths, defaults and keys reach as deep."""

import copy
import pathlib
from typing import Any

import pytest

from tokcli.artifacts import Artifact, load_artifact, save_artifact
from tokcli.errors import RecipeError
from tokcli.quantizers.residual import ResidualQuantizer
from tokcli.recipe.build import build_tokenizer
from tokcli.recipe.keys import list_keys
from tokcli.recipe.recipe import Recipe, from_artifact, from_text
from tokcli.recipe.text import parse


def read(tiny: str, quantizer: str, *overrides: str) -> Recipe:
    return from_text(tiny, "tiny", [f"quantizer={quantizer}", *overrides])


def test_what_is_wrong_within_is_told_with_its_place(tiny: str) -> None:
    with pytest.raises(RecipeError) as refused:
        read(tiny, "{kind: residual, of: {kind: fsp, levels: [1, 3], etta: 2}, depth: 0}")
    assert str(refused.value).splitlines() == [
        "quantizer.depth: expected 1 or more, got 0",
        "quantizer.of.levels.0: expected 2 or more, got 1",
        "quantizer.of.etta: 'fsp' takes no such argument; did you mean 'eta'?",
    ]


def test_every_default_within_is_written_out_and_reads_back(tiny: str) -> None:
    recipe = read(tiny, "{kind: residual, of: {kind: fsp, levels: [4, 3, 3]}, depth: 2}")
    assert recipe.quantizer["of"]["quantize_rate"] == 0.5
    written = parse(recipe.to_yaml(), "written")
    assert written == recipe.to_dict()
    assert from_text(recipe.to_yaml(), "written").fingerprint() == recipe.fingerprint()


@pytest.mark.parametrize(
    ("quantizer", "latent", "decoded"),
    [
        ("{kind: residual, of: {kind: vq, codebook_size: 8}, depth: 2}", 6, 6),
        ("{kind: residual, of: {kind: vaevq, codebook_size: 8}, depth: 2}", 6, 3),
        ("{kind: grouped, of: {kind: vq, codebook_size: 8}, groups: 3}", 6, 6),
        ("{kind: grouped, of: {kind: residual, of: {kind: vpvae, codebook_size: 8}, depth: 2}, groups: 2}", 6, 6),
    ],
)
def test_the_width_within_follows_the_autoencoder(tiny: str, quantizer: str, latent: int, decoded: int) -> None:
    tokenizer = build_tokenizer(read(tiny, quantizer, f"autoencoder.latent_dim={latent}"))
    assert (tokenizer.quantizer.input_dim, tokenizer.quantizer.dim) == (latent, decoded)


@pytest.mark.parametrize(
    ("quantizer", "latent", "decoded"),
    [
        ("{kind: residual, of: {kind: fsq, levels: [4, 3]}, depth: 3}", 2, 2),
        ("{kind: grouped, of: {kind: tokenbridge, dim: 2}, groups: 3}", 12, 6),
        ("{kind: residual, of: {kind: vq, dim: 2, codebook_size: 8}, depth: 3, dim: 16}", 16, 16),
    ],
)
def test_the_autoencoder_follows_the_width_within(tiny: str, quantizer: str, latent: int, decoded: int) -> None:
    text = tiny.replace("latent_dim: 3, ", "")
    tokenizer = build_tokenizer(read(text, quantizer))
    assert (tokenizer.quantizer.input_dim, tokenizer.quantizer.dim) == (latent, decoded)


def test_a_width_that_does_not_fit_has_a_remedy(tiny: str) -> None:
    with pytest.raises(RecipeError, match=r"set autoencoder.latent_dim=4, or give quantizer.of another width"):
        build_tokenizer(read(tiny, "{kind: grouped, of: {kind: fsq, levels: [3, 3]}, groups: 2}"))


def test_the_keys_within_are_known_to_completion() -> None:
    content: dict[str, Any] = {"quantizer": {"kind": "residual", "of": {"kind": "fsp"}, "depth": 2}}
    assert {"quantizer.depth", "quantizer.of.kind", "quantizer.of.levels"} <= set(list_keys(content))


def test_an_artifact_runs_no_code_of_strangers_within(tiny: str) -> None:
    content = read(tiny, "{kind: residual, of: {kind: fsp, levels: [4, 3, 3]}, depth: 2}").to_dict()
    hostile = copy.deepcopy(content)
    hostile["quantizer"]["of"] = {"kind": "os:system"}
    with pytest.raises(RecipeError, match=r"quantizer.of.kind: 'os:system' is code outside of tok"):
        from_artifact(hostile)


def test_an_artifact_of_stages_survives_a_reload(tiny: str, tmp_path: pathlib.Path) -> None:
    recipe = read(tiny, "{kind: residual, of: {kind: vpvae, dim: 3, codebook_size: 8}, depth: 2}")
    tokenizer = build_tokenizer(recipe).eval()
    save_artifact(tmp_path / "a.safetensors", Artifact(tokenizer, recipe, "raw"))
    loaded = load_artifact(tmp_path / "a.safetensors")
    assert isinstance(loaded.tokenizer.quantizer, ResidualQuantizer)
    assert loaded.recipe.fingerprint() == recipe.fingerprint()
