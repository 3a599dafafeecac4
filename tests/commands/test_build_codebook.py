"""`tok build-codebook -o FILE`: an artifact to keep or to give away, made of one that stays as it is."""

import json
import pathlib

import pytest
import torch

import tokcli
from tokcli.artifacts.tensors import read_metadata

VPVAE = "quantizer={kind: vpvae, dim: 3, codebook_size: 8, neighbours_per_code: 8}"


@pytest.fixture
def run(tok, tiny: str) -> pathlib.Path:
    pathlib.Path("tiny.yaml").write_text(tiny)
    done = tok("train", "tiny.yaml", VPVAE, "codebook={sizes: [8], samples: 400}", "evaluation.metrics=[psnr]", "-q")
    assert done.code == 0, done.err
    return pathlib.Path("runs/tiny/tokenizer.safetensors")


def test_another_artifact_has_its_own_codebooks_storage_and_record(tok, run: pathlib.Path) -> None:
    before = run.read_bytes()
    credit = "Photographs: A, B (CC BY 2.0)"
    made = tok(
        *("build-codebook", "runs/tiny", "--size", "8,16,32", "-o", "photo-1.safetensors", "--storage", "float16"),
        *("--codebook", 16, "--record", "licence=CC BY 4.0", "--record", f"credits={credit}", "--record", "name=photo"),
        *("--record", "data.train={kind: images, path: photographs, size: 16}"),
    )  # fmt: skip
    assert made.code == 0, made.err
    assert run.read_bytes() == before
    facts = tok("info", "photo-1.safetensors", "--json").json
    assert [built["size"] for built in facts["codebooks"]] == [8, 16, 32]
    assert (facts["codebook_size"], facts["name"], facts["storage"]) == (16, "photo", "float16")
    assert (facts["licence"], facts["credits"], facts["metrics"]) == ("CC BY 4.0", credit, {})
    assert facts["recipe"]["data"]["train"]["path"] == "photographs"
    metadata = read_metadata(pathlib.Path("photo-1.safetensors"))
    assert [json.loads(metadata[key]) for key in ("licence", "credits")] == ["CC BY 4.0", credit]
    assert json.loads(metadata["training"]) == {"steps": 6}
    whole, narrow = tokcli.load(run), tokcli.load("photo-1.safetensors")
    for name, value in narrow.module.autoencoder.named_parameters():
        own = whole.module.autoencoder.get_parameter(name)
        assert torch.equal(value, own.half().float() if own.dim() > 1 else own)
    again = tok("build-codebook", "runs/tiny", "-o", "photo-1.safetensors")
    assert (again.code, "photo-1.safetensors is there; --force overwrites it" in again.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--storage", "float16"], 2, "name its file: -o FILE.safetensors"),
        (["--record", "licence=x"], 2, "name its file: -o FILE.safetensors"),
        (["-o", "x.safetensors", "--storage", "int8"], 2, "expected float32, float16, bfloat16; got 'int8'"),
        (["-o", "x.safetensors", "--record", "quantizer.dim=4"], 2, "they cannot be recorded otherwise"),
        (["-o", "x.safetensors", "--record", "licence"], 2, "expected an override as key.path=value"),
        (["-o", "x.safetensors", "--evenness", "1.5"], 2, "evenness: expected -3 to 1, got 1.5"),
        (["-o", "x.npy"], 2, "expected a name that ends in .safetensors"),
        (["-o", "x.safetensors", "--codebook", "7"], 2, "no codebook of 7 codes"),
    ],
)
def test_mistakes_are_found_before_the_work(tok, run: pathlib.Path, words: list[str], code: int, said: str) -> None:
    outcome = tok("build-codebook", "runs/tiny", "--size", "16", *words)
    assert (outcome.code, said in outcome.err) == (code, True), outcome.err
    assert not pathlib.Path("x.safetensors").exists()


def test_an_even_codebook_says_so(tok, run: pathlib.Path) -> None:
    built = tok("build-codebook", "runs/tiny", "--size", "16", "--evenness", 0.5, "--json", "-q").json["codebooks"]
    assert built["16"]["evenness"] == 0.5
    facts = {each["size"]: each["evenness"] for each in tok("info", "runs/tiny", "--json").json["codebooks"]}
    assert facts == {8: 0.0, 16: 0.5}


def test_the_stage_after_training_takes_an_evenness_and_refuses_one_before_it(tok, tiny: str) -> None:
    pathlib.Path("tiny.yaml").write_text(tiny)
    stage = "codebook={sizes: [8], samples: 400, evenness: 1.0}"
    done = tok("train", "tiny.yaml", VPVAE, stage, "evaluation.metrics=[psnr]", "-q")
    assert done.code == 0, done.err
    assert [each["evenness"] for each in tok("info", "runs/tiny", "--json").json["codebooks"]] == [1.0]
    levels = ["quantizer={kind: fsp, levels: [4, 3, 2]}", "codebook={evenness: 1.0}", "--out", "other"]
    refused = tok("train", "tiny.yaml", *levels, "-q")
    assert (refused.code, "crossings of its levels" in refused.err) == (2, True), refused.err
    wrong = tok("train", "tiny.yaml", VPVAE, "codebook={evenness: 2}", "-q")
    assert (wrong.code, "codebook.evenness: expected 1 or less, got 2" in wrong.err) == (2, True), wrong.err


def test_a_codebook_in_use_may_be_chosen_in_place(tok, run: pathlib.Path) -> None:
    assert tok("build-codebook", "runs/tiny", "--size", "16,32", "--codebook", 32).code == 0
    assert tokcli.load("runs/tiny").codebook_size == 32
