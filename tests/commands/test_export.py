"""`tok export` and `tok import` as a user calls them: the round trip is the picture that decode gives."""

import pathlib

import numpy
import pytest

KINDS = {
    "parquet": [],
    "bin": ["--eos", "auto", "--order", "morton", "--split", "0.5"],
    "webdataset": [],
    "npy-tree": [],
    "jsonl": ["--order", "snake"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_export_import_and_decode_give_what_decode_gives(kind: str, tok, tiny_run, photos: pathlib.Path) -> None:
    assert tok("encode", photos, "-o", "t.safetensors", "--size", "native").code == 0
    exported = tok("export", "t.safetensors", "--to", kind, *KINDS[kind], "-o", "data")
    assert exported.code == 0, exported.err
    assert tok("import", "data", "-o", "back.safetensors").code == 0
    assert tok("decode", "t.safetensors", "-o", "a").code == 0
    assert tok("decode", "back.safetensors", "-o", "b").code == 0
    pictures = {path.relative_to("a"): path.read_bytes() for path in pathlib.Path("a").rglob("*.png")}
    assert {path.relative_to("b"): path.read_bytes() for path in pathlib.Path("b").rglob("*.png")} == pictures
    assert len(pictures) == 5


def test_ids_that_a_generator_sampled_become_pictures(tok, tiny_run) -> None:
    """Nothing but a flat file of ids, a grid, and the tokenizer."""
    numpy.random.default_rng(0).integers(0, 36, 3 * 16).astype("<u2").tofile("samples.bin")
    assert tok("import", "samples.bin", "-o", "t.npy", "--grid", "4x4").code == 0
    assert tok("decode", "t.npy", "-o", "out").code == 0
    assert sorted(path.name for path in pathlib.Path("out").iterdir()) == ["00000.png", "00001.png", "00002.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--to", "parquett", "-o", "x"], 2, "there is no export format 'parquett'; did you mean 'parquet'?"),
        (["--to", "parquet", "-o", "x.pdf"], 2, "parquet is written to a folder, or a file NAME.parquet"),
        (["--to", "parquet", "--bos", "3", "-o", "x"], 2, "--bos: 'parquet' takes no such argument"),
        (["--to", "bin", "--dtype", "uint8", "-o", "x"], 2, "--dtype: input should be 'auto', 'uint16' or 'uint32'"),
        (["--to", "bin", "--bos", "one", "-o", "x"], 2, "--bos: expected the number of an id, or auto; got 'one'"),
        (["--to", "bin", "--about", "no.csv", "-o", "x"], 3, "there is no file no.csv"),
        (["--to", "bin", "--label-token", "auto", "-o", "x"], 2, "--label-token: these tokens have no labels"),
        (["--to", "npy-tree", "--preset", "llamagen", "-o", "x"], 2, "needs a label for each item"),
    ],
)
def test_a_wrong_word_is_one_sentence(arguments, code, words, tok, tiny_run, photos) -> None:
    assert tok("encode", photos, "-o", "t.npy", "--size", "16").code == 0
    outcome = tok("export", "t.npy", *arguments)
    assert (outcome.code, words in outcome.err) == (code, True), outcome.err
    assert not pathlib.Path("x").exists()


def test_tokens_of_another_tokenizer_are_refused(tok, tiny_run, tiny: str, photos) -> None:
    pathlib.Path("other.yaml").write_text(tiny.replace("name: tiny", "name: other\nseed: 7"))
    assert tok("train", "other.yaml", "-q").code == 0
    assert tok("encode", photos, "-o", "t.npy", "--size", "16", "-m", "runs/tiny").code == 0
    assert tok("export", "t.npy", "--to", "bin", "-o", "data").code == 0
    outcome = tok("import", "data", "-o", "back.npy", "-m", "runs/other")
    assert (outcome.code, "made by another tokenizer (runs/tiny)" in outcome.err) == (4, True), outcome.err
