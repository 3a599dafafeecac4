"""Shipped tokenizers go by their names, from the first command on, and tokens know which one made them."""

import json
import pathlib
import shutil
import socket

import numpy
import pytest

import tokcli
from tokcli import shipped
from tokcli.cli.completion import complete_anything, complete_model


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network is asked for something")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_the_newest_has_the_bare_name_and_every_version_its_own(stand_ins: pathlib.Path) -> None:
    shutil.copy(stand_ins / "photo-2.safetensors", stand_ins / "photo-10.safetensors")
    (stand_ins / "photo-x.safetensors").touch()
    labels = [each.label for each in shipped.list_tokenizers()]
    assert labels == ["photo@10", "photo@2", "photo@1", "speech@1"]
    assert shipped.list_names() == ["photo", "speech"]
    assert shipped.find_tokenizer("photo").label == "photo@10"
    assert tokcli.load("photo@1").artifact.recipe.quantizer["kind"] == "vpvae"
    assert repr(tokcli.load("photo@2")).startswith("<image tokenizer photo@2: fsp, 60 codes")


@pytest.mark.usefixtures("_offline")
def test_the_first_commands_need_no_run_no_model_and_no_network(tok, stand_ins, photos, sounds) -> None:
    for inputs, suffix, label, ending in (
        (photos, ".npy", "photo@2", ".png"),
        (sounds, ".safetensors", "speech@1", ".wav"),
    ):
        tokens, out = f"{label}{suffix}", f"out-{label}"
        encoded = tok("encode", inputs, "-o", tokens)
        assert encoded.code == 0, encoded.err
        assert f"no tokenizer was named and ./runs holds no finished run: {label}, which comes with tok" in encoded.err
        assert f"-m {label}" in encoded.out
        decoded = tok("decode", tokens, "-o", out)
        assert decoded.code == 0, decoded.err
        assert f"model {label}:" in decoded.err
        assert len(list(pathlib.Path(out).rglob(f"*{ending}"))) == len(
            [each for each in inputs.rglob("*") if each.is_file()]
        )
        assert tok("info", tokens, "--json").json["model"] == label


def test_tokens_of_an_older_version_are_decoded_by_it(tok, stand_ins, photos) -> None:
    for codebook in (16, 20):
        name = f"t{codebook}.npy"
        chosen = tok("encode", photos, "-o", name, "-m", "photo@1", "--codebook", codebook)
        assert chosen.code == 0, chosen.err
        assert json.loads(pathlib.Path(f"{name}.json").read_text())["model"] == "photo@1"
        assert tok("decode", name, "-o", f"out{codebook}").code == 0


def test_what_does_not_say_its_tokenizer_is_known_by_its_fingerprints(tok, stand_ins, photos, tiny_run) -> None:
    tok("encode", photos, "-o", "t.npy", "-m", stand_ins / "photo-1.safetensors")
    header = pathlib.Path("t.npy.json")
    header.write_text(header.read_text().replace(', "model": "photo@1"', ""))
    assert "photo@1" not in header.read_text()
    decoded = tok("decode", "t.npy", "-o", "out")
    assert (decoded.code, "model photo@1:" in decoded.err) == (0, True)
    refused = tok("decode", "t.npy", "-o", "out2", "-m", "runs/tiny")
    assert (refused.code, "name it: -m photo@1" in refused.err) == (4, True)
    # and a run's own tokens are still the run's
    tok("encode", photos, "-o", "run.npy", "-q")
    assert "model runs/tiny" in tok("decode", "run.npy", "-o", "out3").err


def test_a_name_that_lies_is_found_out(tok, stand_ins, photos) -> None:
    tok("encode", photos, "-o", "t.npy", "-m", "photo@1")
    header = pathlib.Path("t.npy.json")
    header.write_text(header.read_text().replace("photo@1", "photo@2"))
    assert "model photo@1:" in tok("decode", "t.npy", "-o", "out").err
    header.write_text(header.read_text().replace("photo@2", "photo@7"))
    for path in stand_ins.glob("*"):
        path.unlink()
    gone = tok("decode", "t.npy", "-o", "out2")
    assert gone.code == 3
    assert "was made by 'photo@7', which comes with another version of tok: install that" in gone.err


def test_an_export_says_whose_tokens_it_holds(tok, stand_ins, photos) -> None:
    tok("encode", photos, "-o", "t.npy", "-m", "photo@1")
    assert tok("export", "t.npy", "--to", "jsonl", "-o", "export").code == 0
    back = tok("decode", "export", "-o", "out")
    assert (back.code, "model photo@1:" in back.err) == (0, True), back.err
    assert tok("import", "export", "-o", "again.npy").code == 0
    assert numpy.array_equal(numpy.load("again.npy"), numpy.load("t.npy"))


def test_files_of_both_kinds_need_a_name(tok, stand_ins, photos, sounds) -> None:
    mixed = tok("encode", photos, sounds, "-o", "t.npy")
    assert mixed.code == 3
    assert "there are 5 pictures and 2 sounds here; say -m photo or -m speech" in mixed.err
    pathlib.Path("list.txt").write_text("sounds/sound-0.wav\n")
    assert "speech@1, which comes with tok, is taken for sounds" in tok("encode", "list.txt", "-o", "t.npy").err
    assert "say -m photo or -m speech" in tok("encode", "-", "-o", "t2.npy").err
    assert "there is no file or folder 'absent'" in tok("encode", "absent", "-o", "t2.npy").err


def test_a_finished_run_comes_before_what_is_shipped(tok, stand_ins, photos, tiny_run) -> None:
    assert "model runs/tiny" in tok("encode", photos, "-o", "t.npy").err


def test_a_run_of_that_name_is_what_the_name_means_and_another_folder_is_not(tok, stand_ins, photos, tiny_run) -> None:
    photos.rename("photo")
    assert "model photo@2:" in tok("encode", "photo", "-o", "t.npy", "-m", "photo").err
    shutil.copytree("photo", "pictures")
    shutil.rmtree("photo")
    shutil.copytree("runs/tiny", "photo")
    assert "model photo/tokenizer.safetensors:" in tok("encode", "pictures", "-o", "t2.npy", "-m", "photo").err
    assert "model photo@2:" in tok("encode", "pictures", "-o", "t3.npy", "-m", "photo@2").err


def test_the_environment_may_name_one(tok, stand_ins, photos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOK_MODEL", "photo@1")
    assert "model photo@1:" in tok("encode", photos, "-o", "t.npy").err


def test_every_command_that_takes_a_model_takes_a_name(tok, stand_ins, photos, tiny: str) -> None:
    evaluated = tok("eval", "photo@1", "photo@2", "--data", photos, "--size", 16, "--metrics", "psnr,cvu", "--json")
    assert evaluated.code == 0, evaluated.err
    assert [row["model"] for row in evaluated.json] == ["photo@1", "photo@2"]
    alone = tok("eval", "--data", photos, "--metrics", "psnr", "--codebook", "all")
    assert (alone.code, "photo@2" in alone.out) == (0, True), alone.err
    assert tok("bench", "photo", "--items", 2, "--size", 16, "--json").json["model"] == "photo@2"
    assert "name one that comes with tok (-m photo or -m speech), or train one with" in tok("bench").err
    recipe = json.loads(json.dumps(tokcli.load("photo@2").artifact.recipe.to_dict()))
    recipe["data"]["train"] = {"kind": "dead-leaves", "items": 4, "size": 16}
    recipe["data"]["eval"] = {"kind": "dead-leaves", "items": 2, "size": 16}
    recipe["training"] |= {"steps": 1}
    pathlib.Path("again.yaml").write_text(json.dumps(recipe))
    tuned = tok("train", "again.yaml", "--init-from", "photo", "-o", "runs/tuned")
    assert tuned.code == 0, tuned.err
    assert "beginning with the weights of photo@2" in tuned.err


def test_what_is_absent_is_said_clearly(tok, stand_ins, photos) -> None:
    absent = tok("encode", photos, "-o", "t.npy", "-m", "photo@7")
    assert absent.code == 3
    assert "does not have the tokenizer photo@7 (it has: photo@2, photo@1, speech@1)" in absent.err
    assert "or one of: photo, speech" in tok("encode", photos, "-o", "t.npy", "-m", "phot").err
    for path in stand_ins.glob("*"):
        path.unlink()
    assert "does not have the tokenizer photo (it has: none)" in tok("encode", photos, "-o", "t.npy", "-m", "photo").err
    assert "train one with: tok train quickstart" in tok("encode", photos, "-o", "t.npy").err


def test_names_are_completed(stand_ins, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert complete_model("pho") == ["photo"]
    assert "speech" in complete_anything("spee")


def test_what_is_shipped_stays_as_it_is(tok, stand_ins, photos) -> None:
    before = (stand_ins / "photo-1.safetensors").read_bytes()
    refused = tok("build-codebook", "photo@1", "--size", 24, "--data", photos)
    assert (refused.code, "photo@1 comes with tok and stays as it is" in refused.err) == (2, True)
    record = "data.train={kind: images, path: elsewhere, size: 16}"
    made = tok(
        *("build-codebook", "photo@1", "--size", 24, "--data", photos, "-o", "mine.safetensors", "--record", record)
    )
    assert made.code == 0, made.err
    assert (stand_ins / "photo-1.safetensors").read_bytes() == before
    assert tokcli.load("mine.safetensors", codebook=24).codebook_size == 24
    lost = tok("build-codebook", "mine.safetensors", "--size", 28)
    assert (lost.code, "name what to encode with --data FOLDER" in lost.err) == (3, True), lost.err


def test_info_shows_the_card(tok, stand_ins) -> None:
    card = {
        "trained_on": "two leaves",
        "trained_for": "a minute",
        "figures_of": "a made-up picture",
        "figures": [{"codebook": 16, "psnr": 12.5}, {"codebook": 20, "psnr": 13.5}, {"against": "jpeg", "psnr": 14.25}],
        "fails": "everywhere",
    }
    (stand_ins / "photo-1.json").write_text(json.dumps(card))
    told = tok("info", "photo@1")
    for words in (
        "photo@1",
        "two leaves",
        "a minute",
        "everywhere",
        "13.5",
        "14.25",
        "jpeg",
        "licence",
        "next: tok encode",
    ):
        assert words in told.out, words
    facts = tok("info", "photo@1", "--json").json
    assert next(iter(facts.items())) == ("tokenizer", "photo@1")
    assert facts["figures"] == card["figures"]
    assert tok("info", "photo", "--json").json["tokenizer"] == "photo@2"
    pathlib.Path("photo").mkdir()
    pathlib.Path("photo/notes.txt").write_text("a folder of that name, which is nothing to describe")
    assert tok("info", "photo", "--json").json["tokenizer"] == "photo@2"
    assert "does not have the tokenizer photo@9" in tok("info", "photo@9").err
    assert set(tok("info", "--json").json["tokenizers"]) == {"photo@1", "photo@2", "speech@1"}
    (stand_ins / "photo-1.json").write_text("{")
    damaged = tok("info", "photo@1")
    assert (damaged.code, "photo-1.json is damaged" in damaged.err) == (3, True)
