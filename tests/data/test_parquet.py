"""Parquet as Hugging Face datasets keep it: rows by themselves, what other columns say, and what can be wrong."""

import io
import json
import pathlib
import pickle

import numpy
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
import torch
from PIL import Image

from tokcli.data import cache
from tokcli.data.audio.files import AudioFiles
from tokcli.data.files import find_files
from tokcli.data.image.files import ImageFiles
from tokcli.data.items import Failure, read_items
from tokcli.data.modality import count_files, find_modality
from tokcli.errors import InputError

STRUCT = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def draw(seed: int) -> bytes:
    """A PNG of noise."""
    content = io.BytesIO()
    Image.fromarray(numpy.random.default_rng(seed).integers(0, 256, (18, 20, 3), dtype=numpy.uint8)).save(
        content, "PNG"
    )
    return content.getvalue()


def sound() -> bytes:
    content = io.BytesIO()
    soundfile.write(content, numpy.random.default_rng(0).uniform(-0.5, 0.5, 1600), 16000, format="WAV")
    return content.getvalue()


def write(path: pathlib.Path, columns: dict, rows_in_group: int = 3, features: dict | None = None) -> pathlib.Path:
    arrays = {
        name: pyarrow.array(values, STRUCT if values and isinstance(values[0], dict) else None)
        for name, values in columns.items()
    }
    table = pyarrow.table(arrays)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, path, row_group_size=rows_in_group)
    return path


def find(path: pathlib.Path):
    return find_files([str(path)], (".png",), "images")


def test_rows_are_items_and_other_columns_what_is_known_of_them(tmp_path: pathlib.Path) -> None:
    pictures = [draw(number) for number in range(8)]
    path = write(
        tmp_path / "x.parquet",
        {
            "image": [{"bytes": each, "path": f"{number}.png"} for number, each in enumerate(pictures)],
            "label": [0, 1, -1, 2, 1, 0, None, 7],
            "text": ["a", "b", None, "d", "e", "f", "g", "h"],
            "score": [0.5, float("nan"), None, 1.0, 1.0, 1.0, 1.0, 1.0],
            "embedding": [[0.0, 1.0]] * 8,
        },
        features={"image": {"_type": "Image"}, "label": {"names": ["cat", "dog", "fox"], "_type": "ClassLabel"}},
    )
    files = pickle.loads(pickle.dumps(find(path)))
    assert list(files.names) == [f"{row:08d}" for row in range(8)]
    assert files.starts.tolist() == [0, 3, 6, 8]
    for row in (7, 0, 4, 3):
        assert files.open(row).read() == pictures[row]
    assert files.about(0) == {"label": 0, "label_name": "cat", "caption": "a", "score": 0.5}
    assert files.about(1) == {"label": 1, "label_name": "dog", "caption": "b"}
    assert files.about(2) == {}
    assert files.about(7) == {"label": 7, "caption": "h", "score": 1.0}
    assert [list(files.lacks(row)) for row in (0, 2, 6)] == [[], ["label", "caption"], ["label"]]
    assert next(iter(files.resolved(1))) == f"{path.resolve()}:0"


def test_rows_are_the_pictures_that_files_are(tmp_path: pathlib.Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02d}.png").write_bytes(draw(number))
    for shard in range(2):
        rows = [{"bytes": draw(number), "path": None} for number in range(10 * shard, 10 * shard + 10)]
        write(tmp_path / f"{shard}.parquet", {"image": rows})
    loose = ImageFiles(str(tmp_path), 16, crop="random", flip=True)
    packed = ImageFiles([str(tmp_path / f"{shard}.parquet") for shard in range(2)], 16, crop="random", flip=True)
    assert packed.names[12] == "1.parquet/00000002"
    for index, item in enumerate(read_items(packed, workers=2, draw=3)):
        assert not isinstance(item, Failure)
        assert torch.equal(item.signal, loose.load(index, 3).signal)


def test_each_modality_finds_its_column(tmp_path: pathlib.Path) -> None:
    audio = write(tmp_path / "a.parquet", {"audio": [{"bytes": sound(), "path": None}], "text": ["hello"]})
    assert find_modality(str(audio)).name == "audio"
    assert count_files([str(audio)]) == {"audio": 1}
    item = AudioFiles(str(audio)).load(0)
    assert (item.original_size, item.about) == ((1600,), {"caption": "hello"})
    both = {"audio": [{"bytes": sound(), "path": None}], "photo": [{"bytes": draw(0), "path": None}]}
    features = {"audio": {"_type": "Audio"}, "photo": {"_type": "Image"}}
    typed = write(tmp_path / "b.parquet", both, features=features)
    assert find(typed).open(0).read() == draw(0)
    assert count_files([str(typed)]) == {"image": 1, "audio": 1}
    plain = write(tmp_path / "c.parquet", {"image": [draw(0)]})
    assert find(plain).open(0).read() == draw(0)


def test_a_missing_column_is_one_sentence_with_those_that_there_are(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "x.parquet", {"label": [1, 2], "text": ["a", "b"]})
    words = r"x\.parquet' has no column 'image' of a struct with `bytes`; there are: label \(int64\), text \(string\)$"
    with pytest.raises(InputError, match=words):
        find(path)


def test_what_is_no_parquet_is_refused(tmp_path: pathlib.Path) -> None:
    whole = write(tmp_path / "x.parquet", {"image": [{"bytes": draw(0), "path": None}]}).read_bytes()
    for content in (b"", b"PAR1", whole[:-9], b"PAR1" + bytes(1000) + b"PAR1"):
        path = tmp_path / "y.parquet"
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"y\.parquet': it is no parquet file, or cut off: "):
            find(path)
    with pytest.raises(InputError, match=r"z\.parquet' holds no images: it has no rows"):
        find(write(tmp_path / "z.parquet", {"image": pyarrow.array([], STRUCT)}))


def test_a_row_without_a_picture_and_a_damaged_group_are_failures_of_their_own(tmp_path: pathlib.Path) -> None:
    rows = [{"bytes": None, "path": "lost.png"}, {"bytes": draw(1), "path": None}, None, {"bytes": b"no", "path": None}]
    source = ImageFiles(str(write(tmp_path / "x.parquet", {"image": rows, "label": [1, 1, 1, 1]}, 2)), 16)
    first, second, third, fourth = read_items(source, workers=0)
    assert isinstance(first, Failure)
    assert first.reason == "the row has no bytes; it names the file 'lost.png', which is not in it"
    assert not isinstance(second, Failure)
    assert isinstance(third, Failure)
    assert third.reason == "the row has no bytes"
    assert isinstance(fourth, Failure)
    path = write(tmp_path / "y.parquet", {"image": [{"bytes": draw(row), "path": None} for row in range(4)]}, 2)
    content = bytearray(path.read_bytes())
    start = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content[start : start + 60] = b"\xff" * 60
    path.write_bytes(content)
    readings = list(read_items(ImageFiles(str(path), 16), workers=0))
    assert [isinstance(each, Failure) for each in readings] == [False, False, True, True]
    assert readings[2].reason.startswith("row group 1 of the file is damaged: ")


def test_without_a_cache_rows_are_read_all_the_same(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file in the place of the folder")
    monkeypatch.setenv("TOK_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path / "x.parquet", {"image": [{"bytes": draw(row), "path": None} for row in range(30)]})
    files = find(path)
    assert [files.open(row).read() for row in range(30)] == [draw(row) for row in range(30)]
    assert len(cache._made) <= cache.IN_MEMORY


def test_the_form_is_that_of_the_library(tmp_path: pathlib.Path) -> None:
    datasets = pytest.importorskip("datasets")
    pictures = [Image.open(io.BytesIO(draw(number))) for number in range(4)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = datasets.Dataset.from_dict({"image": pictures, "label": [0, 1, 1, 0]}, features)
    rows.to_parquet(tmp_path / "x.parquet")
    source = ImageFiles(str(tmp_path / "x.parquet"), 16)
    assert [source.load(row).about["label_name"] for row in range(4)] == ["cat", "dog", "dog", "cat"]
