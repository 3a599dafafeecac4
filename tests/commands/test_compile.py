"""`--compile`: the same commands through torch.compile, and a sentence where it does not work."""

import pathlib
import shutil

import pytest
import torch

from tokcli.tokens import open_tokens

ENCODE = ["encode", "photos", "--size", "16", "--device", "cpu"]


@pytest.mark.parametrize("verb", ["encode", "decode", "eval", "train"])
def test_an_absent_compiler_is_a_sentence(tok, tiny_run, photos, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    assert tok(*ENCODE, "-o", "tokens.npy", "-q").code == 0

    def fail(function):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nmore of it")

    monkeypatch.setattr(torch, "compile", fail)
    typed = {
        "encode": [*ENCODE, "-o", "others.npy"],
        "decode": ["decode", "tokens.npy", "-o", "out"],
        "eval": ["eval", "--metrics", "psnr"],
        "train": ["train", "tiny.yaml", "-o", "runs/other"],
    }
    outcome = tok(*typed[verb], "--device", "cpu", "--compile")
    assert outcome.code == 2, outcome.err
    assert "torch.compile does not work here on cpu (InvalidCxxCompiler: No working C++ compiler found)" in outcome.err
    assert "needs a C++ compiler, such as g++: install that, or leave the flag out" in outcome.err
    assert not pathlib.Path("others.npy").exists()


def test_tokens_that_are_others_are_counted(tok, tiny_run, photos, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that makes the encoder another one, in place of one that changes last bits."""
    monkeypatch.setattr(torch, "compile", lambda function: lambda *signals: -2 * function(*signals))
    outcome = tok(*ENCODE, "-o", "tokens.npy", "--compile")
    assert outcome.code == 0, outcome.err
    assert "tokens of the first 4 items, " in outcome.err
    assert "%) are others than without --compile" in outcome.err
    monkeypatch.setattr(torch, "compile", lambda function: function)
    same = tok(*ENCODE, "-o", "tokens.npy", "--compile", "--force")
    assert "of 64 tokens of the first 4 items, none are others than without --compile" in same.err


def test_a_folder_begun_with_it_goes_on_with_it(tok, tiny_run, photos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function: function)
    sharded = [*ENCODE, "-o", "tokens", "--shard-items", "2"]
    assert tok(*sharded, "--compile", "--shard", "0/2").code == 0
    assert tok(*sharded, "--compile").code == 0
    other = tok(*sharded[:-4], "-o", "plain", "--shard-items", "2", "--shard", "0/2")
    assert other.code == 0
    mixed = tok(*sharded[:-4], "-o", "plain", "--shard-items", "2", "--compile")
    assert (mixed.code, "begun with other settings: compiled" in mixed.err) == (4, True)


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_a_real_compiler_gives_the_same_tokens_or_nearly_all(tok, tiny_run, photos, tiny: str) -> None:
    for name, flags in (("plain.npy", []), ("compiled.npy", ["--compile"])):
        assert tok(*ENCODE, "-o", name, "-q", *flags).code == 0
    pairs = zip(open_tokens("plain.npy"), open_tokens("compiled.npy"), strict=True)
    differing = torch.cat([(one.tokens != other.tokens).flatten() for one, other in pairs])
    assert differing.float().mean() < 0.02
    for name, flags in (("plain", []), ("compiled", ["--compile"])):
        assert tok("decode", "plain.npy", "-o", name, "--device", "cpu", "-q", *flags).code == 0
    assert len(list(pathlib.Path("compiled").rglob("*.png"))) == 5
    trained = tok("train", "tiny.yaml", "-o", "runs/other", "--device", "cpu", "-q", "--compile", "--json")
    assert trained.code == 0, trained.err
    scores = [
        tok("eval", run, "--metrics", "psnr", "--device", "cpu", "--json").json for run in ("runs/tiny", "runs/other")
    ]
    assert scores[1]["metrics"]["psnr"] == pytest.approx(scores[0]["metrics"]["psnr"], abs=0.1)
