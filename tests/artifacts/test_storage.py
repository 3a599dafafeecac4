"""An artifact in fewer bits is what it stores: tokens, fingerprints and codebooks are those of the rounded weights."""

import dataclasses
import json
import pathlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from tokcli.artifacts import Artifact, load_artifact, save_artifact
from tokcli.artifacts.fingerprint import compute_fingerprints
from tokcli.artifacts.storage import list_weights, round_weights
from tokcli.artifacts.tensors import read_metadata
from tokcli.errors import MismatchError, UsageError
from tokcli.recipe.build import build_tokenizer
from tokcli.recipe.recipe import from_text


@pytest.fixture
def artifact(tiny: str) -> Artifact:
    torch.manual_seed(0)
    recipe = from_text(tiny, "tiny", ["quantizer={kind: vq, dim: 3, codebook_size: 36}"])
    return Artifact(build_tokenizer(recipe).eval(), recipe, "raw", training={"steps": 0})


@pytest.mark.parametrize(("storage", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_what_is_stored_is_what_runs(artifact: Artifact, tmp_path: pathlib.Path, storage, bits: int) -> None:
    before = {name: value.clone() for name, value in list_weights(artifact.tokenizer).items()}
    save_artifact(tmp_path / "whole.safetensors", artifact)
    round_weights(artifact.tokenizer, storage)
    for name, value in list_weights(artifact.tokenizer).items():
        assert ((value - before[name]).abs() <= before[name].abs() * 2.0**-bits + 1e-7).all()
    path = tmp_path / "a.safetensors"
    save_artifact(path, dataclasses.replace(artifact, storage=storage))
    again = load_artifact(path)
    assert again.storage == storage
    signals = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(again.tokenizer.encode(signals), artifact.tokenizer.encode(signals))
    sums = [compute_fingerprints(each.tokenizer, each.recipe) for each in (again, artifact)]
    assert sums[0] == sums[1]
    stored = load_file(path)
    narrow = {name for name, value in stored.items() if value.dtype == getattr(torch, storage)}
    assert narrow == set(list_weights(again.tokenizer))
    assert all(value.dtype == torch.float32 for name, value in stored.items() if name.startswith("quantizer."))
    numbers = sum(value.numel() for value in list_weights(again.tokenizer).values())
    saved = (tmp_path / "whole.safetensors").stat().st_size - path.stat().st_size
    assert saved == pytest.approx(2 * numbers, abs=300)  # offsets have fewer digits
    save_artifact(tmp_path / "b.safetensors", again)  # as building a codebook into it does
    assert (tmp_path / "b.safetensors").read_bytes() == path.read_bytes()


def test_weights_that_were_not_rounded_are_not_saved(artifact: Artifact, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="was not rounded to bfloat16"):
        save_artifact(tmp_path / "a.safetensors", dataclasses.replace(artifact, storage="bfloat16"))
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_weight_that_is_too_large_is_named(artifact: Artifact) -> None:
    with torch.no_grad():
        next(iter(list_weights(artifact.tokenizer).values())).fill_(1e6)
    with pytest.raises(UsageError, match="holds 1e\\+06, more than float16 can; use --storage bfloat16"):
        round_weights(artifact.tokenizer, "float16")


def test_a_file_must_store_what_it_says(artifact: Artifact, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.safetensors"
    round_weights(artifact.tokenizer, "bfloat16")
    save_artifact(path, dataclasses.replace(artifact, storage="bfloat16"))
    tensors, metadata = load_file(path), read_metadata(path)
    del metadata["digest"]
    for said, words in (("float16", "torch.bfloat16, not torch.float16"), ("int4", "storage 'int4', which is none of")):
        save_file(tensors, path, {**metadata, "storage": json.dumps(said)})
        with pytest.raises(MismatchError, match=words):
            load_artifact(path)
    name = next(iter(list_weights(artifact.tokenizer)))
    save_file({**tensors, name: tensors[name].float()}, path, metadata)
    with pytest.raises(MismatchError, match=r"float32, not torch\.bfloat16"):
        load_artifact(path)


def test_an_artifact_of_float32_says_nothing_of_its_storage(artifact: Artifact, tmp_path: pathlib.Path) -> None:
    save_artifact(tmp_path / "a.safetensors", artifact)
    assert {"storage", "credits"}.isdisjoint(read_metadata(tmp_path / "a.safetensors"))
