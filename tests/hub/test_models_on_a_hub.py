"""`-m hf:USER/NAME`: a tokenizer in a repository is a model like any other, pinned wherever it is named."""

import pathlib

import pytest
from loopback_hub import Hub

import tokcli
from tokcli.models import shorten_labels

GROUND = pathlib.Path(__file__).parents[1] / "ground"
CONFIG = b'{"library_name": "tok"}'


def artifact(case: str) -> bytes:
    return (GROUND / case / "tokenizer.safetensors").read_bytes()


@pytest.fixture
def shared(hub: Hub) -> str:
    """The commit of hf:you/leaves, which holds a tiny tokenizer of images."""
    return hub.add("you/leaves", {"tokenizer.safetensors": artifact("image-fsp"), "config.json": CONFIG})


def test_tokens_name_the_commit_and_are_decoded_by_it(tok, hub: Hub, shared: str, photos: pathlib.Path) -> None:
    made = tok("encode", photos, "-o", "t.npy", "-m", "hf:you/leaves", "--json")
    assert made.code == 0, made.err
    label = f"hf:you/leaves@{shared}"
    assert tokcli.load_tokens("t.npy").header.model == label
    hub.add("you/leaves", {"tokenizer.safetensors": artifact("image-vpvae")})
    hub.seen.clear()
    assert tok("decode", "t.npy", "-o", "out").code == 0
    assert hub.seen == []
    assert len(list(pathlib.Path("out").rglob("*.png"))) == 5


def test_tokens_send_nobody_to_a_network(tok, hub: Hub, shared: str, photos: pathlib.Path, monkeypatch) -> None:
    assert tok("encode", photos, "-o", "t.npy", "-m", "hf:you/leaves").code == 0
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "another-cache")
    hub.seen.clear()
    refused = tok("decode", "t.npy", "-o", "out")
    assert refused.code == 3
    remedy = f"-m hf:you/leaves@{shared}"
    assert f"which is fetched if you name it: {remedy}" in refused.err
    assert hub.seen == []
    assert tok("decode", "t.npy", "-o", "out", *remedy.split()).code == 0


def test_figures_name_the_commit(tok, hub: Hub, shared: str, photos: pathlib.Path) -> None:
    judged = tok("eval", "hf:you/leaves", "--data", photos, "--size", 16, "--metrics", "psnr", "--json")
    assert judged.code == 0, judged.err
    assert judged.json["model"] == f"hf:you/leaves@{shared}"
    told = tok("info", "hf:you/leaves@main", "--json").json
    assert told["tokenizer"] == f"hf:you/leaves@{shared}"
    assert told["codebook_size"] == tokcli.load("hf:you/leaves").codebook_size


def test_beside_runs_it_is_called_by_a_short_name(hub: Hub, shared: str) -> None:
    path = tokcli.load("hf:you/leaves").path
    run = pathlib.Path("runs/a/tokenizer.safetensors")
    assert shorten_labels([path, run]) == [f"hf:you/leaves@{shared[:12]}", "a"]
    assert shorten_labels([path]) == [f"hf:you/leaves@{shared[:12]}"]


def test_a_codebook_is_built_beside_it_and_never_in_the_cache(tok, hub: Hub, photos: pathlib.Path) -> None:
    hub.add("you/leaves", {"tokenizer.safetensors": artifact("image-vpvae"), "config.json": CONFIG})
    refused = tok("build-codebook", "hf:you/leaves", "--size", 24, "--data", photos)
    assert (refused.code, "lies on a hub and stays as it is; name a file" in refused.err) == (2, True)
    made = tok("build-codebook", "hf:you/leaves", "--size", 24, "--data", photos, "-o", "mine.safetensors")
    assert made.code == 0, made.err
    assert tokcli.load("mine.safetensors", codebook=24).codebook_size == 24


def test_what_is_no_tokenizer_of_tok_is_refused(tok, hub: Hub, photos: pathlib.Path, shared: str) -> None:
    hub.add("you/other", {"model.safetensors": artifact("image-fsp"), "config.json": b"[]"})
    refused = tok("encode", photos, "-o", "t.npy", "-m", "hf:you/other")
    assert refused.code == 4
    assert "hf:you/other holds no tokenizer that tok push has shared" in refused.err
    hub.add("you/two", {"a.safetensors": b"", "b.safetensors": b"", "config.json": CONFIG})
    assert "holds no tokenizer that tok push has shared" in tok("info", "hf:you/two").err
    assert "the number 6 chooses among the rates of a published" in tok("info", "hf:you/leaves@6").err
    assert "names no repository; expected USER/NAME" in tok("info", "hf:leaves").err
    hub.add("you/broken", {"tokenizer.safetensors": b"\0" * 100, "config.json": CONFIG})
    assert tok("encode", photos, "-o", "t.npy", "-m", "hf:you/broken").code == 4
