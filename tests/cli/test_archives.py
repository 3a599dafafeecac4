"""Commands and recipes take archives as they take folders: same tokens, labels arrive, losses are listed."""

import io
import json
import pathlib
import tarfile

import numpy
import pyarrow
import pyarrow.parquet
import pytest
import yaml
from PIL import Image

import tokcli


@pytest.fixture
def pictures() -> dict[str, bytes]:
    """A dozen pictures of different sizes, as PNG."""
    generator = numpy.random.default_rng(0)
    contents = {}
    for number in range(12):
        coarse = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=numpy.uint8))
        content = io.BytesIO()
        coarse.resize((20 + number, 24), Image.Resampling.BICUBIC).save(content, "PNG")
        contents[f"{number:02d}.png"] = content.getvalue()
    return contents


@pytest.fixture
def sets(tmp_path: pathlib.Path, pictures: dict[str, bytes]) -> dict[str, str]:
    """The same pictures as a folder, as three tars and as a parquet file; `about.jsonl` is of the folder."""
    (tmp_path / "folder").mkdir()
    for name, content in pictures.items():
        (tmp_path / "folder" / name).write_bytes(content)
    for shard in range(3):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for number in range(4 * shard, 4 * shard + 4):
                beside = {
                    "png": pictures[f"{number:02d}.png"],
                    "cls": f"{number % 2}".encode(),
                    "txt": f"picture {number}".encode(),
                    "json": json.dumps({"sharp": number / 2}).encode(),
                }
                for suffix, content in beside.items():
                    member = tarfile.TarInfo(f"{number:02d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    rows = [{"bytes": content, "path": name} for name, content in pictures.items()]
    columns = {"image": rows, "label": [number % 2 for number in range(12)]}
    columns |= {"text": [f"picture {number}" for number in range(12)], "sharp": [number / 2 for number in range(12)]}
    table = pyarrow.table(columns)
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=5)
    lines = [
        {"name": f"{number:02d}", "label": number % 2, "caption": f"picture {number}", "sharp": number / 2}
        for number in range(12)
    ]
    (tmp_path / "about.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return {"folder": "folder", "tar": "{0..2}.tar", "parquet": "rows.parquet"}


def read_tokens(path: pathlib.Path) -> dict[str, tuple[list[int], dict]]:
    """Tokens and what is known, by the last part of the name."""
    return {item.name.rpartition("/")[2]: (item.tokens.tolist(), dict(item.about)) for item in tokcli.load_tokens(path)}


def test_every_form_gives_the_same_tokens_and_labels_arrive(
    tok, tiny_run: pathlib.Path, sets: dict[str, str], tmp_path: pathlib.Path
) -> None:
    tokens = {}
    for form, given in sets.items():
        about = ["--about", "about.jsonl"] if form == "folder" else []
        outcome = tok("encode", given, "-o", f"{form}-tokens", *about, "--shard-items", "5", "--json")
        assert outcome.code == 0, outcome.err
        tokens[form] = read_tokens(tmp_path / f"{form}-tokens")
    assert tokens["folder"]["07.png"][1] == {"label": 1, "caption": "picture 7", "sharp": 3.5}
    assert list(tokens["tar"].values()) == list(tokens["folder"].values()) == list(tokens["parquet"].values())
    assert list(tokens["parquet"])[7] == "00000007"
    plain = tok("encode", "folder", "-o", "plain.safetensors")
    assert plain.code == 0, plain.err
    known = [codes for codes, _ in tokens["folder"].values()]
    assert list(read_tokens(tmp_path / "plain.safetensors").values()) == [(codes, {}) for codes in known]
    assert tok("decode", "tar-tokens", "-o", "out").code == 0
    assert (tmp_path / "out/1.tar/07.png").is_file()
    assert tok("decode", "parquet-tokens", "-o", "rows").code == 0
    assert (tmp_path / "rows/00000007.png").is_file()


def test_every_command_takes_archives(
    tok, tiny_run: pathlib.Path, sets: dict[str, str], tmp_path: pathlib.Path
) -> None:
    scores = []
    for given in sets.values():
        outcome = tok("eval", "--data", given, "--metrics", "psnr", "--json")
        assert outcome.code == 0, outcome.err
        scores.append(outcome.json["metrics"])
    assert scores[0] == scores[1] == scores[2]
    built = tok("build-codebook", "--data", sets["tar"], "--size", "36", "--force", "--json")
    assert built.code == 0, built.err
    for given in ("0.tar", sets["tar"]):
        outcome = tok("info", given, "--json")
        assert outcome.code == 0, outcome.err
        assert outcome.json == {
            "pictures": 4 if given == "0.tar" else 12,
            "path": given,
            "next": f"tok encode '{given}' -o tokens.npy",
        }


def test_an_item_without_the_label_that_others_have_is_a_listed_failure(
    tok, tiny_run: pathlib.Path, pictures: dict[str, bytes], tmp_path: pathlib.Path
) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for number, (name, content) in enumerate(list(pictures.items())[:5]):
            beside = {name: content, f"{number:02d}.cls": b"3"}
            for inner, inside in list(beside.items())[: 1 if number == 2 else 2]:
                member = tarfile.TarInfo(inner)
                member.size = len(inside)
                tar.addfile(member, io.BytesIO(inside))
    outcome = tok("encode", "x.tar", "-o", "x.npy", "--json")
    assert outcome.code == 5
    assert outcome.json["failed"] == [{"item": "02.png", "reason": "it has no label, which most others beside it have"}]
    (tmp_path / "more.csv").write_text("name,label\n02,4\n")
    outcome = tok("encode", "x.tar", "-o", "x.npy", "--force", "--about", "more.csv")
    assert outcome.code == 0
    assert [item.about["label"] for item in tokcli.load_tokens(tmp_path / "x.npy")] == [3, 3, 4, 3, 3]


def test_a_recipe_trains_on_archives(tok, tiny: str, sets: dict[str, str], tmp_path: pathlib.Path) -> None:
    recipe = yaml.safe_load(tiny)
    recipe["data"] = {
        "train": {"kind": "images", "path": sets["tar"], "size": 16, "crop": "random"},
        "eval": {"kind": "images", "path": "2.tar", "size": 16},
    }
    (tmp_path / "packed.yaml").write_text(yaml.safe_dump(recipe))
    outcome = tok("train", "packed.yaml", "--json")
    assert outcome.code == 0, outcome.err
    assert "training on 12 pictures, crops of 16²; judged on 4 pictures of 16²" in outcome.err
    assert "4 of the 4 files to judge on are also trained on" in outcome.err


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b""), "x.tar': it is no tar but empty (0 bytes)"),
        (lambda path: None, "there is no file or folder 'x.tar'"),
    ],
    ids=["empty", "missing"],
)
def test_a_tar_that_cannot_be_read_is_one_sentence(tok, tiny_run: pathlib.Path, make, words, tmp_path) -> None:
    make(tmp_path / "x.tar")
    outcome = tok("encode", "x.tar", "-o", "x.npy")
    assert outcome.code == 3
    assert words in outcome.err
    assert not list(tmp_path.glob("*.npy*"))


def cut(path: pathlib.Path) -> None:
    content = (path / "1.tar").read_bytes()
    (path / "1.tar").write_bytes(content[: len(content) // 2])


def drop_column(path: pathlib.Path) -> None:
    table = pyarrow.parquet.read_table(path / "rows.parquet")
    pyarrow.parquet.write_table(table.drop_columns(["image"]), path / "rows.parquet")


@pytest.mark.parametrize(
    ("given", "harm", "code", "words"),
    [
        ("{0..2}.tar", lambda path: (path / "1.tar").unlink(), 3, "there is no file or folder '1.tar'"),
        ("{0..2}.tar", cut, 4, "the inputs have changed since its plan was made, those of 1 of 3 shards"),
        ("rows.parquet", drop_column, 3, "has no column 'image' of a struct with `bytes`; there are: "),
        ("s3://bucket/{0..2}.tar", lambda path: None, 3, "there are no credentials for s3://; set AWS_ACCESS_KEY_ID"),
    ],
    ids=["missing", "cut under a plan", "column", "credentials"],
)
def test_bad_input_is_a_sentence_and_what_was_done_stays(
    tok, tiny_run: pathlib.Path, sets, given: str, harm, code: int, words: str, tmp_path, monkeypatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    begun = given if "://" not in given else "{0..2}.tar"
    if given.startswith("s3"):
        pytest.importorskip("s3fs", reason="fsspec reads s3:// with s3fs").S3FileSystem.clear_instance_cache()
    assert tok("encode", begun, "-o", "tokens", "--shard-items", "4", "--shard", "0/2", "-q").code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "tokens").iterdir()}
    assert len(before) == 5
    harm(tmp_path)
    outcome = tok("encode", given, "-o", "tokens", "--shard-items", "4", "-q")
    assert (outcome.code, words in outcome.err) == (code, True), outcome.err
    assert "Traceback" not in outcome.err
    assert {path.name: path.read_bytes() for path in (tmp_path / "tokens").iterdir()} == before


def test_what_a_cut_tar_still_holds_is_encoded_and_the_rest_is_listed(tok, tiny_run, sets, tmp_path) -> None:
    cut(tmp_path)
    outcome = tok("encode", "{0..2}.tar", "-o", "tokens", "--json", "-q")
    assert outcome.code == 5, outcome.err
    (failed,) = outcome.json["failed"]
    assert failed["item"].startswith("1.tar/")
    assert "the tar is cut off: its end is missing" in failed["reason"]
    assert "fetch or pack the tar again" in failed["reason"]
    assert outcome.json["items"] == 11
