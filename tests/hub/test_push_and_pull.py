"""Sharing a tokenizer and bringing it back: what lies in the repository, who sees it, and what is refused."""

import json
import pathlib

import pytest
from loopback_hub import TOKEN, Hub

import tokcli
from tokcli.artifacts import load_artifact
from tokcli.artifacts.fingerprint import compute_fingerprints

GROUND = pathlib.Path(__file__).parents[1] / "ground"
RUN = GROUND / "image-vpvae"


@pytest.fixture
def signed_in(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub, with a token that may write."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


def test_a_shared_tokenizer_is_one_file_a_config_and_a_card(tok, signed_in: Hub) -> None:
    pushed = tok("push", RUN, "me/leaves", "--licence", "cc0-1.0", "--json")
    assert pushed.code == 0, pushed.err
    assert pushed.json["private"] is True
    files = signed_in.files("me/leaves")
    assert set(files) == {".gitattributes", "tokenizer.safetensors", "config.json", "README.md"}
    config = json.loads(files["config.json"])
    assert (config["library_name"], config["licence"], config["codebook_sizes"]) == ("tok", "cc0-1.0", [16, 20])
    card = files["README.md"].decode()
    assert card.startswith("---\nlicense: cc0-1.0\nlibrary_name: tok\n")
    for words in (
        "tok encode FOLDER -o tokens.npy -m hf:me/leaves --codebook 20",
        "| psnr | ssim | usage |",
        "13.99",
        '"window": "11x11 Gaussian, sigma 1.5"',
        "## Training data\n\n    {kind: dead-leaves",
        "## Licence\n\ncc0-1.0",
    ):
        assert words in card, words
    assert signed_in.repositories["me/leaves"].private


def test_what_is_pulled_is_what_was_shared_with_its_licence(tok, signed_in: Hub) -> None:
    pushed = tok("push", RUN, "hf:me/leaves", "--licence", "cc0-1.0", "--json").json
    pulled = tok("pull", "me/leaves", "--json")
    assert pulled.code == 0, pulled.err
    assert pulled.json == {
        "output": "leaves.safetensors",
        "model": f"hf:me/leaves@{pushed['revision']}",
        "licence": "cc0-1.0",
    }
    here, there = load_artifact("leaves.safetensors"), load_artifact(RUN)
    assert here.recipe.licence == "cc0-1.0"
    sums = [compute_fingerprints(each.tokenizer, each.recipe) for each in (here, there)]
    assert sums[0] == sums[1]
    assert tok("pull", "me/leaves").code == 2
    assert tok("pull", "me/leaves", "--force", "-o", "runs/leaves").code == 0
    assert tokcli.load("runs/leaves").codebook_size == tokcli.load("hf:me/leaves").codebook_size


def test_without_a_licence_nothing_is_shared(tok, signed_in: Hub) -> None:
    refused = tok("push", RUN, "me/leaves")
    assert refused.code == 2
    assert "records no licence, and nobody may use what has none; name it: --licence apache-2.0" in refused.err
    assert signed_in.seen == []


def test_a_dry_run_shows_the_card_and_asks_nobody(tok, hub: Hub) -> None:
    told = tok("push", RUN, "me/leaves", "--licence", "a licence of my own", "--dry-run")
    assert told.code == 0, told.err
    assert "license: other\nlicense_name: a licence of my own\n" in told.out
    assert hub.seen == []


def test_a_card_shows_the_evaluation_that_is_given(tok, signed_in: Hub, photos: pathlib.Path) -> None:
    judged = tok("eval", RUN, "--data", photos, "--size", 16, "--metrics", "psnr", "--against", "jpeg", "--json")
    assert judged.code == 0, judged.err
    pathlib.Path("eval.json").write_text(judged.out)
    told = tok("push", RUN, "me/leaves", "--licence", "mit", "--evaluation", "eval.json", "--dry-run").out
    assert "| jpeg" in told
    assert "dataset\\_sha256" in told or "dataset_sha256" in told


def test_a_new_version_is_a_commit_and_something_else_is_left_alone(tok, signed_in: Hub) -> None:
    arguments = ("push", RUN, "me/leaves", "--licence", "mit", "--json")
    first = tok(*arguments).json
    again = tok(*arguments, "--public")
    assert again.code == 0, again.out
    second = again.json
    assert list(signed_in.repositories["me/leaves"].commits)[1:] == [first["revision"], second["revision"]]
    assert second["private"] is True
    signed_in.add("me/novel", {"book.txt": b"once"})
    refused = tok("push", RUN, "me/novel", "--licence", "mit")
    assert (refused.code, "hf:me/novel holds something else (book.txt)" in refused.err) == (2, True), refused.err
    assert tok("push", RUN, "me/novel", "--licence", "mit", "--force").code == 0
    assert tok("push", RUN, "me/open", "--licence", "mit", "--public", "--json").json["private"] is False


def test_who_may_not_write_is_told(tok, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("push", RUN, "me/leaves", "--licence", "mit")
    alone = tok(*arguments)
    assert (alone.code, "needs a token that may write; set HF_TOKEN" in alone.err) == (3, True)
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    wrong = tok(*arguments)
    assert (wrong.code, "refuses this token for hf:me/leaves" in wrong.err) == (3, True), wrong.err
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    others = tok("push", RUN, "you/leaves", "--licence", "mit")
    assert (others.code, "takes one that may write there" in others.err) == (3, True), others.err
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    away = tok(*arguments)
    assert (away.code, "cannot be reached for hf:me/leaves" in away.err) == (3, True), away.err
    monkeypatch.setenv("TOK_OFFLINE", "1")
    assert "the network is forbidden" in tok(*arguments).err


def test_a_pull_of_what_is_no_tokenizer_leaves_nothing(tok, hub: Hub) -> None:
    hub.add("you/other", {"model.safetensors": b"\0" * 64, "config.json": b'{"library_name": "tok"}'})
    refused = tok("pull", "you/other", "-o", "mine.safetensors")
    assert refused.code == 4
    assert not pathlib.Path("mine.safetensors").exists()
    assert tok("pull", "you/none").code == 3
    assert tok("pull", "you/other", "-o", "mine.txt").code == 4


def test_words_of_a_stranger_stay_words_in_a_card(tok, signed_in: Hub) -> None:
    told = tok("push", RUN, "me/leaves", "--licence", "mine <script> [x](y) | `z`", "--dry-run").out
    line = told.split("## Licence\n\n")[1].splitlines()[0]
    assert line == r"mine \<script\> \[x\](y) \| \`z\`"
