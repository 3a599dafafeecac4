"""What hostile files once did to the program, each by itself: it is refused in a sentence now, or one item fails."""

import json
import os
import pathlib
import struct

import numpy
import pytest
import torch
from hostile_generators import read_safetensors, write_safetensors
from hostile_harness import run_tok
from PIL import Image

from tokcli.artifacts import Artifact, load_artifact, save_artifact
from tokcli.commands.decode import find_unwritable
from tokcli.data.batches import open_training_loader
from tokcli.data.files import find_files
from tokcli.data.image import decoding
from tokcli.data.image.files import ImageFiles
from tokcli.data.items import Failure, read_items
from tokcli.errors import LONGEST_LINE, InputError, MismatchError, RecipeError, TokError, quote
from tokcli.recipe.build import build_tokenizer
from tokcli.recipe.recipe import from_text
from tokcli.recipe.shipped import find_recipe_text
from tokcli.recipe.text import parse
from tokcli.tokens import TokenHeader, open_tokens, open_writer
from tokcli.untrusted import check_plain, parse_json

TINY = """name: tiny
data:
  train: {kind: dead-leaves, items: 32, size: 16}
  eval: {kind: dead-leaves, items: 4, size: 16, seed: 1}
autoencoder: {kind: vqgan, latent_dim: 3, width: 8, multipliers: [1, 1], blocks: 1, patch: 2, groups: 2}
quantizer: {kind: vq, dim: 3, codebook_size: 36}
losses:
  - {kind: l1}
training: {steps: 4}
"""

NINE = "[x,x,x,x,x,x,x,x,x]"
BOMB = f"a: &a {NINE}\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + former] * 9)}]\n" for former, name in zip("abcdefgh", "bcdefghi", strict=True)
)


# Files


def make_odd(folder: pathlib.Path, kind: str) -> pathlib.Path:
    path = folder / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("kind", ["pipe", "loop", "folder", "device", "missing"])
def test_what_is_no_regular_file_is_one_failed_item(tmp_path: pathlib.Path, kind: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    make_odd(tmp_path, kind)
    (tmp_path / "l.txt").write_text("a.png\nx.png\n")
    first, second = read_items(ImageFiles(str(tmp_path / "l.txt")), workers=0)
    assert not isinstance(first, Failure)
    assert isinstance(second, Failure)
    assert second.reason.startswith("the file cannot be opened: ")


def test_names_that_no_file_can_have_are_failed_items_of_a_list(tmp_path: pathlib.Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "l.txt").write_bytes(b"a.png\nb\0c.png\n" + b"n" * 300 + b".png\n")
    source = ImageFiles(str(tmp_path / "l.txt"))
    assert source.names[:2] == ["a.png", r"b\x00c.png"]
    assert [isinstance(item, Failure) for item in read_items(source, workers=0)] == [False, True, True]
    assert len(list(find_files([str(tmp_path / "l.txt")], (".png",), "images").resolved())) == 3


def test_a_name_that_is_not_utf8_does_not_refuse_the_folder(tmp_path: pathlib.Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    try:
        pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(b"x")
    except OSError:
        pytest.skip("this system has no such names")
    readings = list(read_items(ImageFiles(str(tmp_path)), workers=0))
    assert [type(each).__name__ for each in readings] == ["Item", "Failure"]


def test_a_list_that_never_ends_and_a_recipe_that_is_a_pipe_are_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "l.txt").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="it is a device"):
        find_files([str(tmp_path / "l.txt")], (".png",), "images")
    os.mkfifo(tmp_path / "r.yaml")
    with pytest.raises(InputError, match="it is a pipe"):
        find_recipe_text(str(tmp_path / "r.yaml"))
    with pytest.raises(InputError, match="there is no recipe"):
        find_recipe_text("n" * 300)
    os.mkfifo(tmp_path / "t.safetensors")
    for reader in (open_tokens, load_artifact):
        with pytest.raises(InputError, match="it is a pipe"):
            reader(tmp_path / "t.safetensors")


@pytest.mark.parametrize(
    "error", [AssertionError("no palette"), MemoryError(), RecursionError("deep"), OSError(5, "I/O")]
)
def test_whatever_a_decoder_raises_is_one_failed_item_and_skipped_in_training(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for name, size in (("a.png", 8), ("b.png", 9)):
        Image.new("RGB", (size, size)).save(tmp_path / name)
    real = decoding.to_upright_rgb

    def fail(image: Image.Image) -> Image.Image:
        if image.width == 9:
            raise error
        return real(image)

    monkeypatch.setattr(decoding, "to_upright_rgb", fail)
    source = ImageFiles(str(tmp_path), size=8)
    assert [isinstance(item, Failure) for item in read_items(source, workers=0)] == [False, True]
    (batch,) = open_training_loader(source, batch_size=2, seed=0, start_step=0, steps=1)
    assert [failure.item for failure in batch.failures] == ["b.png"]


def test_a_picture_too_large_to_be_taken_whole_is_refused_from_its_header(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (5001, 5000)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match=r"a\.png: the picture is too large .* at most 25 million pixels.*5001x5000"):
        ImageFiles(str(tmp_path)).load(0)


# Messages


def test_a_message_is_short_and_holds_nothing_that_a_terminal_obeys() -> None:
    message = str(TokError("\x1b[31m" + "x" * 500_000 + "\n" + "y\n" * 500))
    assert "\x1b" not in message
    assert r"\x1b[31m" in message
    assert len(message) < 3 * LONGEST_LINE
    assert str(TokError("é×→ 'ä'\nsecond")) == "é×→ 'ä'\nsecond"
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("9" * 400_000, 10**5000, deep, {"a": list(range(10**6))}, "\0"):
        assert len(quote(value)) < 300
    assert quote({"b": [1, 2], "a": "x"}) in ("{'b': [1, 2], 'a': 'x'}", "{'a': 'x', 'b': [1, 2]}")


# Recipes


@pytest.mark.parametrize(
    "text",
    [
        "\0",
        "a: \x07",
        "[[1]]: 2",
        "? {a: 1}\n: 2",
        "x: 0x_",
        "x: !!bool y",
        "1" * 6000,
        "[" * 5000,
        "- " * 3000,
        BOMB,
        "a: &a [*a, *a]",
        'a: "\\ud800"',
        'a: "\\0"',
        "a: !!set {x}",
        "a: !!binary aGk=",
        "a: 1" + "0" * 23,
    ],
    ids=range(16),
)
def test_text_that_is_no_recipe_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        parse(text, "r.yaml")
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_dates_are_words_and_maps_can_be_merged() -> None:
    assert parse("a: 2024-13-45\nb: 2024-11-05", "r") == {"a": "2024-13-45", "b": "2024-11-05"}
    assert parse("a: &b {x: 1}\nc:\n  <<: *b\n  y: 2", "r") == {"a": {"x": 1}, "c": {"x": 1, "y": 2}}


@pytest.mark.parametrize(
    "override",
    [
        "seed=-1",
        "seed=true",
        "training.workers=100000",
        "quantizer={kind: []}",
        "quantizer={kind: {a: 1}}",
        "training.learning_rate=.nan",
        "training.learning_rate=.inf",
        "quantizer={kind: '../x:Y'}",
        "name={}",
        "quantizer={kind: fsp, levels: [4, -1, 3]}",
        "losses=[[[]]]",
        "name=x\x07",
    ],
)
def test_values_that_no_recipe_has_are_problems(override: str) -> None:
    with pytest.raises(RecipeError):
        from_text(TINY, "tiny", [override])


def test_json_from_strangers_has_limits() -> None:
    for text in ("[" * 100_000, "1" * 10_000, "{", b"\xff", ""):
        with pytest.raises(ValueError, match=r"JSON"):
            parse_json(text)
    with pytest.raises(ValueError, match="bytes of JSON"):
        parse_json("[1]", longest=2)
    for value in (["\ud800"], [[["\0"]]], {"a": 2**64}, {"\x07": 1}, json.loads("[" * 100 + "]" * 100)):
        with pytest.raises(ValueError, match=r"half|control|bits|within"):
            check_plain(value)
    check_plain({"a": [1, 2.5, None, True, "é\n"], "b": float("nan")})
    with pytest.raises(ValueError, match="finite"):
        check_plain({"b": float("nan")}, finite=True)


# Artifacts


@pytest.fixture
def saved(tmp_path: pathlib.Path) -> pathlib.Path:
    torch.manual_seed(0)
    recipe = from_text(TINY, "tiny")
    path = tmp_path / "m.safetensors"
    save_artifact(path, Artifact(build_tokenizer(recipe).eval(), recipe, "raw", training={"steps": 4}))
    return path


def change_metadata(path: pathlib.Path, key: str, text: str) -> None:
    header, tensors = read_safetensors(path)
    header["__metadata__"].pop("digest", None)
    header["__metadata__"][key] = text
    write_safetensors(path, header, tensors)


@pytest.mark.parametrize(
    "change",
    [
        *({"quantizer": {"codebook_size": size}} for size in (2 * 10**8, 10**9, 2**31)),
        *({"autoencoder": {"width": width}} for width in (2000, 10**5, 2**31)),
        {"autoencoder": {"blocks": 10**9}},
        {"autoencoder": {"multipliers": [1] * 500}},
    ],
    ids=lambda change: "-".join(f"{key}={value}"[:20] for inner in change.values() for key, value in inner.items()),
)
def test_an_artifact_that_asks_for_more_than_it_holds_takes_no_memory(
    saved: pathlib.Path, change: dict[str, dict]
) -> None:
    recipe = json.loads(read_safetensors(saved)[0]["__metadata__"]["recipe"])
    for part, words in change.items():
        recipe[part] |= words
    change_metadata(saved, "recipe", json.dumps(recipe))
    ended = run_tok(["info", saved], saved.parent, memory=1 << 30)
    assert (ended.code, ended.verdict) == (MismatchError.exit_code, "refused"), ended


@pytest.mark.parametrize("key", ["recipe", "weights", "codebooks", "codebook", "training", "format"])
@pytest.mark.parametrize("text", ["[" * 5000, "1" * 10_000, "[]", "NaN", "", '"x"', "\0", "[[1]]", '{"metrics": 3}'])
def test_metadata_of_any_kind_is_refused_or_taken(saved: pathlib.Path, key: str, text: str) -> None:
    change_metadata(saved, key, text)
    if (key, text) == ("codebooks", "[]"):
        load_artifact(saved)
        return
    with pytest.raises(MismatchError) as refusal:
        load_artifact(saved)
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize("value", [numpy.nan, numpy.inf])
def test_weights_that_are_not_finite_are_refused(saved: pathlib.Path, value: float) -> None:
    change_metadata(saved, "weights", '"raw"')
    header, tensors = read_safetensors(saved)
    start, stop = header["autoencoder.encoder.stem.weight"]["data_offsets"]
    poison = numpy.full((stop - start) // 4, value, "<f4").tobytes()
    write_safetensors(saved, header, tensors[:start] + poison + tensors[stop:])
    with pytest.raises(MismatchError, match="not finite"):
        load_artifact(saved)


def test_a_flipped_bit_is_found_and_equal_artifacts_are_equal_files(
    saved: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    again = tmp_path / "again.safetensors"
    save_artifact(again, load_artifact(saved))
    assert again.read_bytes() == saved.read_bytes()
    content = bytearray(saved.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    content[8 + length + 100] ^= 1
    saved.write_bytes(content)
    with pytest.raises(MismatchError, match="by the sum it carries"):
        load_artifact(saved)


def test_tensors_of_other_types_and_sizes_by_name_are_refused(saved: pathlib.Path) -> None:
    change_metadata(saved, "weights", '"raw"')
    header, tensors = read_safetensors(saved)
    entry = header["autoencoder.encoder.stem.weight"]
    write_safetensors(saved, header | {"autoencoder.encoder.stem.weight": entry | {"dtype": "I32"}}, tensors)
    with pytest.raises(MismatchError, match=r"is torch\.int32, not torch\.float32"):
        load_artifact(saved)


# Token files


@pytest.fixture
def tokens(tmp_path: pathlib.Path) -> pathlib.Path:
    header = TokenHeader(36, 1, "image", "0" * 64, "1" * 64, "raw")
    with open_writer(tmp_path / "t.npy", header, ["a"]) as writer:
        writer.append("a", numpy.zeros((2, 2, 1), "int64"), (16, 16), (16, 16))
    return tmp_path / "t.npy"


@pytest.mark.parametrize(
    "words", ["{'descr': '|u1', 'shape': (1,", "{[[[", "(" * 100, "{'descr': [1], 'x': 2}", "\t1\n 2"]
)
def test_a_damaged_npy_header_is_refused(tokens: pathlib.Path, words: str) -> None:
    content = tokens.read_bytes()
    tokens.write_bytes(content[:10] + words.ljust(117).encode() + b"\n" + content[128:])
    with pytest.raises(MismatchError, match=r"not a whole \.npy file"):
        open_tokens(tokens)


@pytest.mark.parametrize("text", ["[" * 5000, "1" * 10_000, "[]", "null", '{"format": 3}', "\0", '"x"'])
def test_a_damaged_sidecar_is_refused(tokens: pathlib.Path, text: str) -> None:
    tokens.with_name("t.npy.json").write_text(text)
    with pytest.raises(MismatchError):
        open_tokens(tokens)


def test_names_that_no_file_can_have_are_known_before_anything_is_written() -> None:
    outputs = {name: f"{name}.png" for name in ("a", "b/" + "é" * 100, "n\0", "\ud800", "x" * 252, "y" * 251)}
    assert set(find_unwritable(outputs)) == {"n\0", "\ud800", "x" * 252}


def test_a_sample_rate_that_no_file_can_have_is_refused(tokens: pathlib.Path) -> None:
    about = json.loads(tokens.with_name("t.npy.json").read_text())
    tokens.with_name("t.npy.json").write_text(json.dumps(about | {"modality": "audio", "sample_rate": 2**31}))
    with pytest.raises(MismatchError, match="sample_rate must be from 1"):
        open_tokens(tokens)
