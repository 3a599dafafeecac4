"""`--weights lpips=FILE`, and the same in a recipe: a local file of features judges and teaches, and is on record."""

import hashlib
import pathlib

import pytest
import safetensors.torch
import torch

from tokcli.backbones.torchvision import let_torchvision_import


@pytest.fixture
def squeeze(tmp_path: pathlib.Path) -> pathlib.Path:
    """Random features of SqueezeNet."""
    let_torchvision_import()
    import torchvision

    torch.manual_seed(1)
    path = tmp_path / "squeeze.safetensors"
    safetensors.torch.save_file(torchvision.models.squeezenet1_1(weights=None).features.state_dict(), path)
    return path


def test_a_model_is_judged_with_a_local_file_and_its_digest_is_in_the_protocol(tok, tiny_run, photos, squeeze) -> None:
    asked = ("eval", tiny_run, "--data", photos, "--size", 24, "--metrics", "psnr,lpips-squeeze")
    outcome = tok(*asked, "--weights", f"lpips={squeeze}", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["metrics"]["lpips-squeeze"] > 0
    protocol = outcome.json["protocol"]["metrics"]["lpips-squeeze"]
    assert protocol["backbone_weights_sha256"] == hashlib.sha256(squeeze.read_bytes()).hexdigest()
    other = tok(*asked, "--weights", f"lpips-squeeze={squeeze}", "--json")
    assert other.json["metrics"] == outcome.json["metrics"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--metrics", "psnr", "--weights", "lpips={}"], 2, "is for the metric lpips-squeeze, which was not asked for"),
        (["--metrics", "lpips-alex", "--weights", "lpips-alex={}"], 3, "does not hold the features of the alex backb"),
        (["--metrics", "psnr", "--weights", "lpips"], 2, "--weights: expected NAME=FILE, such as lpips=squeezenet"),
        (["--metrics", "lpips-squeeze", "--weights", "lpips=none.safetensors"], 3, "none.safetensors: the file cannot"),
        (["--metrics", "lpips"], 3, "needs the file vgg16-397923af.pth"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(
    tok, tiny_run, squeeze, monkeypatch, tmp_path, words, code, told
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    outcome = tok("eval", tiny_run, *(word.format(squeeze) for word in words))
    assert outcome.code == code
    assert told in outcome.err


def test_a_recipe_trains_and_is_judged_with_a_local_file(tok, tiny: str, squeeze, tmp_path) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny.replace("size: 16", "size: 24"))
    overrides = [
        f"losses=[{{kind: l1}}, {{kind: lpips, backbone: squeeze, weights: {squeeze}}}]",
        f"evaluation.weights={{lpips: {squeeze}}}",
        "evaluation.metrics=[psnr, lpips-squeeze]",
        "training.steps=1",
    ]
    outcome = tok("train", "tiny.yaml", *overrides, "--json")
    assert outcome.code == 0, outcome.err
    again = tok("eval", "--json")  # the recipe of the model says where its weights are
    assert again.json["metrics"]["lpips-squeeze"] == pytest.approx(outcome.json["metrics"]["lpips-squeeze"])
    assert tok("eval", "--metrics", "psnr", "--json").code == 0
    squeeze.unlink()
    assert tok("info", "runs/tiny").code == 0
    missing = tok("eval")
    assert missing.code == 3
    assert "squeeze.safetensors: the file cannot be opened" in missing.err


def test_a_recipe_without_local_files_says_nothing_of_them(tiny_run: pathlib.Path) -> None:
    assert "weights" not in (tiny_run / "recipe.yaml").read_text()
