"""What a user gets wrong: one sentence that names it and the next step, the documented exit code, nothing lost."""

import json
import os
import pathlib

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file


@pytest.mark.parametrize(
    "command", ["train", "encode", "decode", "build-codebook", "evaluate", "eval", "sweep", "bench", "recipes", "info"]
)
def test_every_command_has_help_with_an_example(tok, command: str) -> None:
    outcome = tok(command, "--help")
    assert outcome.code == 0
    assert "Example: tok" in outcome.out


def test_no_command_at_all_shows_the_way_in(tok) -> None:
    outcome = tok()
    assert outcome.code == 0
    assert "tok train quickstart" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["trian"], 2, "No such command 'trian'"),
        (["train"], 2, "tok train quickstart is a start"),
        (["train", "quikstart"], 3, "did you mean 'quickstart'?"),
        (["train", "mine.yaml"], 3, "there is no recipe file mine.yaml"),
        (["train", "quickstart", "training.stpes=3"], 2, "did you mean 'steps'?"),
        (["train", "quickstart", "seed=1", "--seed", "2"], 2, "seed=1 and --seed 2 contradict each other; give one of"),
        (["train", "quickstart", "--device", "tpu"], 2, "there is no device 'tpu'"),
        (["encode", "-o", "t.npy"], 2, "Missing argument 'INPUT'"),
        (["encode", "photos"], 2, "Missing option '--output'"),
        (["encode", "photos", "-o", "t.npy"], 3, "train one with: tok train quickstart"),
        (["encode", "photos", "-o", "t.npy", "-m", "nowhere"], 3, "there is no tokenizer at nowhere"),
        (["encode", "photos", "-o", "t.tokens", "-m", "nowhere"], 2, "t.tokens: tokens are kept as NAME.npy"),
        (["encode", "photos", "-o", "t.npy", "--size", "big"], 2, "expected a number of samples or 'native'"),
        (["decode", "absent.npy", "-o", "out"], 3, "there is no token file absent.npy"),
        (["build-codebook", "--size", "many"], 2, "such as 256,1024; got 'many'"),
        (["eval"], 3, "holds no finished run"),
        (["sweep"], 2, "tok sweep --list names the shipped ones"),
        (["sweep", "vpvae"], 3, "there is no sweep 'vpvae'"),
        (["sweep", "mine.yaml"], 3, "there is no sweep file mine.yaml"),
        (["judge-cell", "nowhere"], 3, "it is no cell of a sweep"),
        (["recipes", "show"], 2, "needs the name of a recipe"),
        (["recipes", "show", "quickstrt"], 3, "did you mean 'quickstart'?"),
        (["info", "nothing"], 3, "there is nothing at nothing"),
    ],
)
def test_a_mistake_gets_a_sentence_and_its_exit_code(tok, arguments: list[str], code: int, words: str) -> None:
    outcome = tok(*arguments)
    assert outcome.code == code
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    as_json = tok(*arguments, "--json")
    assert as_json.code == code
    assert as_json.json["error"]["exit_code"] == code
    assert words in as_json.json["error"]["message"]


def test_folders_without_pictures_are_named(tok, tiny_run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    for given, words in (("empty", "'empty' holds no images"), ("missing", "there is no file or folder 'missing'")):
        outcome = tok("encode", given, "-o", "t.npy")
        assert outcome.code == 3
        assert words in outcome.err
        assert not (tmp_path / "t.npy").exists()


def hostile_pictures(folder: pathlib.Path) -> dict[str, str]:
    """Files that are no whole picture, and the words their failure must hold."""
    folder.mkdir()
    generator = numpy.random.default_rng(0)
    Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=numpy.uint8)).save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:900])
    (folder / "text.jpg").write_text("not a picture")
    (folder / "nothing.png").write_bytes(b"")
    Image.new("1", (20000, 20000)).save(folder / "bomb.png")
    return {"cut.jpg": "cut", "text.jpg": "not", "nothing.png": "empty", "bomb.png": "pixels"}


def test_hostile_pictures_fail_one_by_one_and_good_ones_pass(
    tok, tiny_run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    words = hostile_pictures(tmp_path / "hostile")
    Image.new("RGB", (1, 1), "red").save(tmp_path / "hostile" / "dot.png")
    outcome = tok("encode", "hostile", "-o", "t.npy", "--json")
    assert outcome.code == 5
    assert outcome.json["items"] == 1
    reasons = {failure["item"]: failure["reason"] for failure in outcome.json["failed"]}
    assert reasons.keys() == words.keys()
    for name, word in words.items():
        assert word in reasons[name], (name, reasons[name])


def test_nothing_readable_is_an_error_that_leaves_nothing(tok, tiny_run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    hostile_pictures(tmp_path / "hostile")
    outcome = tok("encode", "hostile", "-o", "t.npy")
    assert outcome.code == 3
    assert "none of the 4 items could be encoded" in outcome.err
    assert not list(tmp_path.glob("*t.npy*"))


def test_a_foreign_safetensors_is_no_model_and_no_token_file(tok, tmp_path: pathlib.Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    for arguments in (
        ["eval", "other.safetensors"],
        ["decode", "other.safetensors", "-o", "out"],
        ["info", "other.safetensors"],
    ):
        outcome = tok(*arguments)
        assert outcome.code == 4, arguments
        assert "other.safetensors" in outcome.err


def test_tokens_of_another_tokenizer_are_refused(tok, tiny_run: pathlib.Path, photos: pathlib.Path) -> None:
    tok("train", "tiny.yaml", "seed=1", "--out", "runs/other", "-q")
    tok("encode", "photos", "-o", "tokens.npy", "-m", "runs/tiny", "-q")
    outcome = tok("decode", "tokens.npy", "-o", "out", "-m", "runs/other")
    assert outcome.code == 4
    assert "was made by another tokenizer" in outcome.err
    assert not pathlib.Path("out").exists()


def test_a_token_beyond_the_codebook_is_named(tok, tiny_run: pathlib.Path, photos: pathlib.Path) -> None:
    tok("encode", "photos", "-o", "tokens.npy", "-q")
    tokens = numpy.load("tokens.npy")
    tokens[2, 1, 1] = 36
    numpy.save("tokens.npy", tokens)
    outcome = tok("decode", "tokens.npy", "-o", "out")
    assert outcome.code == 4
    assert "the token 36" in outcome.err or "tokens.npy" in outcome.err
    assert not pathlib.Path("out").exists()


def test_nothing_is_overwritten_without_force(tok, tiny_run: pathlib.Path, photos: pathlib.Path) -> None:
    tok("encode", "photos", "-o", "tokens.npy", "-q")
    before = pathlib.Path("tokens.npy").read_bytes()
    outcome = tok("encode", "photos", "-o", "tokens.npy")
    assert outcome.code == 2
    assert "--force" in outcome.err
    assert pathlib.Path("tokens.npy").read_bytes() == before
    assert tok("encode", "photos", "-o", "tokens.npy", "--force", "-q").code == 0
    assert tok("decode", "tokens.npy", "-o", "out", "-q").code == 0
    refused = tok("decode", "tokens.npy", "-o", "out")
    assert refused.code == 2
    assert "would be overwritten" in refused.err


def test_a_folder_that_cannot_be_written_is_named(
    tok, tiny_run: pathlib.Path, photos: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(path: pathlib.Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pathlib.Path, "mkdir", locked)
    outcome = tok("encode", "photos", "-o", "locked/tokens.npy")
    assert outcome.code == 1
    assert "cannot write locked: Permission denied" in outcome.err


def test_a_full_disk_is_said_in_one_sentence(
    tok, tiny_run: pathlib.Path, photos: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "tokens.npy")

    monkeypatch.setattr(os, "fsync", full)
    outcome = tok("encode", "photos", "-o", "tokens.npy")
    assert outcome.code == 1
    assert "the disk is full: tokens.npy" in outcome.err
    assert not pathlib.Path("tokens.npy").exists()


def test_metrics_without_their_weights_say_which_file_is_wanted(
    tok, tiny_run: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    outcome = tok("eval", "--metrics", "psnr,lpips,cvu")
    assert outcome.code == 3
    assert "vgg16-397923af.pth" in outcome.err
    assert str(tmp_path / "cache") in outcome.err
    assert "model runs/tiny" not in outcome.err  # nothing was loaded for it


def test_a_metric_that_does_not_exist_is_corrected(tok, tiny_run: pathlib.Path) -> None:
    outcome = tok("eval", "--metrics", "pnsr,ssimm")
    assert outcome.code == 2
    assert "did you mean 'psnr'?" in outcome.err
    assert "did you mean 'ssim'?" in outcome.err


def test_quiet_is_quiet_and_json_is_one_object(tok, tiny_run: pathlib.Path) -> None:
    outcome = tok("eval", "--quiet", "--json")
    assert outcome.err == ""
    assert len(outcome.out.strip().splitlines()) == 1
    json.loads(outcome.out)


def test_the_environment_names_a_model_and_the_flag_wins(
    tok, tiny_run: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOK_MODEL", "elsewhere")
    assert tok("eval").code == 3
    assert tok("eval", "-m", "runs/tiny", "-q").code == 0


def test_an_unfinished_run_is_no_model(tok, tiny_run: pathlib.Path) -> None:
    (tiny_run / "tokenizer.safetensors").unlink()
    outcome = tok("eval", "runs/tiny")
    assert outcome.code == 3
    assert "has that run finished?" in outcome.err
