"""`tok decode` of integers that no header describes: what a generator sampled becomes files in one command."""

import os
import pathlib

import numpy
import pytest
import torch
from safetensors.torch import save_file

from tokcli.errors import MismatchError, UsageError
from tokcli.exchange import Expected
from tokcli.exchange.arrays import split_items

IMAGES = Expected(36, 1, "image", usual=(8, 8))


@pytest.mark.parametrize(
    ("shape", "expected", "result"),
    [
        ((5, 8, 8), IMAGES, (5, 8, 8, 1)),
        ((5, 8, 8, 1), IMAGES, (5, 8, 8, 1)),
        ((5, 64), IMAGES, (5, 8, 8, 1)),
        ((5, 16), IMAGES, (5, 4, 4, 1)),
        ((64,), IMAGES, (1, 8, 8, 1)),
        ((8, 8), IMAGES, (1, 8, 8, 1)),
        ((64, 64), IMAGES, (64, 8, 8, 1)),
        ((5, 12), Expected(36, 1, "image", (3, 4)), (5, 3, 4, 1)),
        ((3, 4), Expected(36, 1, "image", (3, 4)), (1, 3, 4, 1)),
        ((24,), Expected(36, 1, "image", (3, 4)), (2, 3, 4, 1)),
        ((5, 12), Expected(36, 1, "audio"), (5, 12, 1)),
        ((12,), Expected(36, 1, "audio"), (1, 12, 1)),
        ((12, 2), Expected(36, 2, "audio"), (1, 12, 2)),
        ((5, 8, 8, 2), Expected(36, 2, "image", usual=(8, 8)), (5, 8, 8, 2)),
        ((5, 64, 2), Expected(36, 2, "image", usual=(8, 8)), (5, 8, 8, 2)),
    ],
)
def test_what_the_axes_of_an_array_mean(shape, expected, result) -> None:
    assert split_items(numpy.zeros(shape, int), expected, "x").shape == result


@pytest.mark.parametrize(
    ("shape", "expected", "error", "words"),
    [
        ((5, 12), IMAGES, UsageError, "which make no square; say the grid with --grid HxW"),
        ((5, 8, 8), Expected(36, 1, "image", (4, 4)), MismatchError, "holds items of 8×8 tokens, and 4×4 was asked"),
        ((5, 8), Expected(36, 2, "audio"), MismatchError, r"expected \(items, positions, 2\)"),
        ((2, 5, 8, 8, 1), IMAGES, MismatchError, r"expected \(items, height, width\) or \(items, positions\)"),
    ],
)
def test_what_they_cannot_mean_is_said(shape, expected, error, words) -> None:
    with pytest.raises(error, match=words):
        split_items(numpy.zeros(shape, int), expected, "x")


def names_in(folder: str) -> list[str]:
    return sorted(path.name for path in pathlib.Path(folder).iterdir())


def test_integers_of_any_type_and_file_become_numbered_pictures(tok, tiny_run) -> None:
    """Every way to save the same tokens gives the same pictures, and a header is no more than another way."""
    tokens = numpy.random.default_rng(0).integers(0, 36, (3, 8, 8))
    numpy.save("gen.npy", tokens)
    numpy.save("rows.npy", tokens.reshape(3, 64).astype("<i4"))
    numpy.save("large.npy", tokens.astype("<u8"))
    save_file({"samples": torch.from_numpy(tokens)}, "gen.safetensors")
    tokens.astype("<u2").tofile("gen.bin")
    tokens.astype("<u4").tofile("wide.bin")
    pictures = {}
    for given in ("gen.npy", "rows.npy", "large.npy", "gen.safetensors"):
        outcome = tok("decode", given, "-m", "runs/tiny", "-o", f"of-{given}")
        assert outcome.code == 0, outcome.err
        assert f"{given} has no header: taken as 3 items of 8×8 tokens of runs/tiny" in outcome.err
        pictures[given] = [path.read_bytes() for path in sorted(pathlib.Path(f"of-{given}").iterdir())]
    for given in ("gen.bin", "wide.bin"):
        assert tok("decode", given, "-o", f"of-{given}", "--grid", "8x8").code == 0
        pictures[given] = [path.read_bytes() for path in sorted(pathlib.Path(f"of-{given}").iterdir())]
    assert names_in("of-gen.npy") == ["00000.png", "00001.png", "00002.png"]
    assert len(set(map(tuple, pictures.values()))) == 1
    assert tok("import", "gen.npy", "-o", "t.npy").code == 0
    assert tok("decode", "t.npy", "-o", "again", "-q").code == 0
    assert [path.read_bytes() for path in sorted(pathlib.Path("again").iterdir())] == pictures["gen.npy"]


def test_the_size_is_said_by_the_grid_or_by_a_flag(tok, tiny_run) -> None:
    from PIL import Image

    numpy.save("gen.npy", numpy.arange(12).reshape(1, 12) % 36)
    assert tok("decode", "gen.npy", "-o", "a", "--grid", "3x4").code == 0
    assert Image.open("a/00000.png").size == (16, 12)
    assert tok("decode", "gen.npy", "-o", "b", "--size", "11x16").code == 0
    assert Image.open("b/00000.png").size == (16, 11)
    refused = tok("decode", "gen.npy", "-o", "c", "--size", "17x16")
    assert (refused.code, "asked for" in refused.err or "makes 20" in refused.err) == (4, True), refused.err
    assert not pathlib.Path("c").exists()


def test_what_cannot_be_decoded_is_one_sentence(tok, tiny_run) -> None:
    numpy.save("beyond.npy", numpy.full((2, 8, 8), 36))
    numpy.save("below.npy", numpy.full((2, 8, 8), -1))
    numpy.save("huge.npy", numpy.full((2, 8, 8), 2**64 - 1, "<u8"))
    numpy.save("floats.npy", numpy.zeros((2, 8, 8)))
    numpy.save("empty.npy", numpy.zeros((0, 8, 8), int))
    numpy.array([0, 1], "<u2").tofile("flat.bin")
    for given, code, words in [
        ("beyond.npy", 4, "holds the token 36, but the codebook has 36 codes (0 to 35)"),
        ("below.npy", 4, "holds the token -1"),
        ("huge.npy", 4, "holds the token"),
        ("floats.npy", 4, "holds float64, and tokens are integers"),
        ("empty.npy", 3, "holds no tokens"),
        ("flat.bin", 2, "say it with --grid HxW"),
        ("runs/tiny/tokenizer.safetensors", 4, "is a tokenizer, and tokens were expected"),
    ]:
        outcome = tok("decode", given, "-o", "out", "-q")
        assert (outcome.code, words in outcome.err) == (code, True), outcome.err
        assert not pathlib.Path("out").exists()


def test_a_header_says_more_than_flags(tok, tiny_run, photos) -> None:
    assert tok("encode", photos, "-o", "t.npy", "-q").code == 0
    outcome = tok("decode", "t.npy", "-o", "out", "--grid", "4x4")
    assert (outcome.code, "says in its header what --grid would" in outcome.err) == (2, True), outcome.err


def test_tokens_of_another_tokenizer_name_it_before_all_else(tok, tiny_run, tiny: str, photos) -> None:
    """Also where they would ask for a codebook that this one has not: that is not what is wrong."""
    pathlib.Path("other.yaml").write_text(tiny.replace("name: tiny", "name: other").replace("[4, 3, 3]", "[5, 3, 3]"))
    assert tok("train", "other.yaml", "-q").code == 0
    assert tok("encode", photos, "-o", "t.npy", "-q", "-m", "runs/other").code == 0
    outcome = tok("decode", "t.npy", "-o", "out", "-m", "runs/tiny")
    assert outcome.code == 4
    assert "t.npy was made by another tokenizer (runs/other)" in outcome.err
    assert "name it: -m runs/other" in outcome.err
    assert tok("decode", "t.npy", "-o", "out", "-m", "runs/other").code == 0


def test_a_codebook_that_cannot_be_built_is_not_advised(tok, tiny: str, photos) -> None:
    pathlib.Path("fsq.yaml").write_text(tiny.replace("kind: fsp", "kind: fsq"))
    assert tok("train", "fsq.yaml", "-q").code == 0
    outcome = tok("encode", photos, "-o", "t.npy", "--codebook", "64")
    assert (outcome.code, "build-codebook" in outcome.err) == (2, False)
    assert "no codebook of 64 codes (it has: 36)" in outcome.err


@pytest.mark.parametrize("name", ["t.safetensors", "t.npy", "t.bin", "t.jsonl", "t.parquet", "t.tar"])
def test_a_pipe_is_no_file_of_tokens(tok, tmp_path: pathlib.Path, name: str) -> None:
    """Opening one would wait for ever."""
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / name, tmp_path / "folder" / name):
        os.mkfifo(path)
    for tokens in (name, "folder"):
        for command in (["decode", tokens, "-o", "out"], ["import", tokens, "-o", "out.safetensors"]):
            outcome = tok(*command, "-m", "nothing")
            assert outcome.code in (2, 3, 4), outcome.err
    outcome = tok("decode", name, "-o", "out", "-m", "nothing")
    assert "it is a pipe, not a regular file" in outcome.err or "tokens are kept as" in outcome.err
