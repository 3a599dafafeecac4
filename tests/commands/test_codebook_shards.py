"""A sample of latents in a folder: any number of workers, the codebooks of one process."""

import json
import os
import pathlib
import shutil

import pytest
import torch
from safetensors.torch import load_file

VPVAE = "quantizer={kind: vpvae, dim: 3, codebook_size: 8, neighbours_per_code: 8}"
BUILD = [
    "build-codebook",
    "runs/tiny",
    "--size",
    "16,32",
    "--evenness",
    "0.5",
    "--samples",
    "700",
    "--passes",
    "2",
    "-q",
]
SHARDED = [*BUILD, "--shards", "sample", "--shard-items", "18"]
"""64 pictures of 16 positions, twice, in batches of four: shards of 20 pictures, four of them."""


@pytest.fixture
def run(tok, tiny: str) -> pathlib.Path:
    pathlib.Path("tiny.yaml").write_text(tiny)
    done = tok("train", "tiny.yaml", VPVAE, "codebook={sizes: [], samples: 400}", "evaluation.metrics=[psnr]", "-q")
    assert done.code == 0, done.err
    return pathlib.Path("runs/tiny/tokenizer.safetensors")


@pytest.fixture
def alone(tok, run: pathlib.Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """What one process builds, in another artifact, and says of it."""
    outcome = tok(*BUILD, "-o", "alone.safetensors", "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json["codebooks"], load_file("alone.safetensors")


def require_equal(tensors: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    assert tensors.keys() == others.keys()
    assert all(torch.equal(value, others[name]) for name, value in tensors.items())


def test_workers_that_share_a_sample_build_the_codebooks_of_one(tok, run, alone) -> None:
    first = tok(*SHARDED, "--shard", "1/2", "--json")
    assert {name: first.json[name] for name in ("shards", "done", "items", "finished")} == {
        "shards": 4, "done": 2, "items": 24, "finished": False,
    }  # fmt: skip
    assert "next: tok build-codebook --shards sample --status" in tok(*SHARDED, "--shard", "1/2").out
    early = tok(*SHARDED, "--finish")
    assert (early.code, "2 of its 4 shards are missing" in early.err) == (3, True)
    last = tok(*SHARDED, "--shard", "0/2", "--json")
    assert last.code == 0, last.err
    assert last.json == {"artifact": str(run), "codebooks": alone[0]}
    require_equal(load_file(run), alone[1])
    before = run.read_bytes()
    again = tok(*[word for word in SHARDED if word != "-q"], "--json")
    assert (again.json, "complete, there is nothing to do" in again.err) == (last.json, True)
    assert run.read_bytes() == before
    assert tok("build-codebook", "--shards", "sample", "--status", "--json").json["finished"]


def test_a_damaged_shard_is_made_again_and_codebooks_of_other_sizes_stay(tok, run, alone) -> None:
    assert tok("build-codebook", "runs/tiny", "--size", "4", "-q").code == 0
    assert tok(*SHARDED, "--shard", "0/1", "--json").json["codebooks"] == alone[0]
    folder = pathlib.Path("sample")
    before = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    (folder / "codebooks.json").unlink()
    (folder / "shard-00002.safetensors").write_bytes(bytes(len(before["shard-00002.safetensors"])))
    (folder / "shard-00003.safetensors").unlink()
    outcome = tok(*[word for word in SHARDED if word != "-q"], "--json")
    assert outcome.json["codebooks"] == alone[0], outcome.err
    assert "shard 2 of sample is damaged, and is made again" in outcome.err
    assert {path.name: path.read_bytes() for path in folder.glob("*.safetensors")} == before
    assert [built["size"] for built in tok("info", run, "--json").json["codebooks"]] == [4, 8, 16, 32]


def test_another_artifact_is_written_too(tok, run, alone) -> None:
    before = run.read_bytes()
    made = tok(*SHARDED, "-o", "given.safetensors", "--storage", "float16", "--record", "licence=CC0", "--json")
    assert made.code == 0, made.err
    expected = tok(*BUILD, "-o", "half.safetensors", "--storage", "float16", "--record", "licence=CC0", "--json")
    assert made.json["codebooks"] == expected.json["codebooks"]
    require_equal(load_file("given.safetensors"), load_file("half.safetensors"))
    assert run.read_bytes() == before


def test_items_that_cannot_be_read_are_left_out(tok, run, photos) -> None:
    (photos / "photo-0.png").write_bytes(b"none")
    data = ["--data", "photos", "--json"]
    alone = tok("build-codebook", "runs/tiny", "--size", "16", "-o", "alone.safetensors", *data, "-q")
    shared = tok("build-codebook", "runs/tiny", "--size", "16", "--shards", "sample", "--shard-items", "4", *data)
    assert (shared.code, shared.json["codebooks"]) == (0, alone.json["codebooks"]), shared.err
    assert "cannot read photo-0.png, left out" in shared.err
    records = [json.loads(path.read_text()) for path in sorted(pathlib.Path("sample").glob("shard-*.json"))]
    assert [(record["items"], len(record["failed"])) for record in records] == [(3, 1), (1, 0)]


def test_another_sample_is_refused_and_nothing_is_lost(tok, run, photos) -> None:
    assert tok(*SHARDED).code == 0
    even = tok(*SHARDED, "--evenness", "1")
    assert (even.code, "was begun with other settings: evenness was 0.5 and is 1.0" in even.err) == (4, True), even.err
    other = tok(*SHARDED, "--samples", "600")
    assert (other.code, "was begun with other settings: samples was 700 and is 600" in other.err) == (4, True)
    assert tok(*SHARDED, "--samples", "600", "--force").code == 0
    there = tok(*SHARDED[:-4], "--shards", "second")
    assert (there.code, "has a codebook of 16 codes; --force replaces it" in there.err) == (2, True)
    foreign = tok(*BUILD, "--shards", "photos", "--force")
    assert (foreign.code, "is a folder with other things in it" in foreign.err) == (2, True)
    for flags in (["--shard", "0/2"], ["--finish"], ["--on", "ray"]):
        refused = tok(*BUILD, *flags)
        assert (refused.code, "--shards FOLDER" in refused.err) == (2, True), refused.err
    shutil.rmtree("sample")
    assert tok("build-codebook", "--shards", "sample", "--status").code == 3
    assert os.listdir("photos")
