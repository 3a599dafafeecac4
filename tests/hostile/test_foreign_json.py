"""Small files and foreign tokens that another program has damaged: one sentence, or the work goes on without them."""

import io
import pathlib
import tarfile
from typing import Any

import numpy
import pytest

from tokcli.errors import InputError, MismatchError, TokError
from tokcli.exchange import Expected, build_format
from tokcli.exchange.about import read_about
from tokcli.exchange.base import guard_items
from tokcli.exchange.staging import Staging
from tokcli.sweeps.judge_cell import judge_cell
from tokcli.sweeps.outcomes import count_steps, read_ended, read_evaluations
from tokcli.training.evaluation import _find_former
from tokcli.training.run_folder import RunFolder, parse_entry
from tokcli.untrusted import parse_json

DEEP = b"[" * 100_000
DIGITS = b'{"tokens": ' + b"9" * 10_000 + b"}"
ODD = [b"", b"\xff\xfe", DEEP, DIGITS, b"[]", b"3", b"null", b'"x"', b"{}", b'{"step": [], "tokens": {}, "name": 3}']
NAMES = [f"{number}" for number in range(len(ODD))]


def as_tar(content: bytes) -> bytes:
    file, array = io.BytesIO(), io.BytesIO()
    numpy.save(array, numpy.zeros(16, numpy.int64))
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in (("a.json", content), ("a.npy", array.getvalue())):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def as_parquet(content: bytes) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    schema = pyarrow.schema([("tokens", pyarrow.list_(pyarrow.int64())), ("about", pyarrow.binary())])
    columns = {"tokens": [[0] * 16], "about": [content]}
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pydict(columns, schema), file)
    return file.getvalue()


FORMATS = {
    "jsonl": ("a.jsonl", lambda content: content + b"\n"),
    "webdataset": ("a.tar", as_tar),
    "parquet": ("a.parquet", as_parquet),
    "bin": ("train.bin", lambda content: numpy.zeros(16, numpy.uint16).tobytes()),
    "npy-tree": ("a.npy", lambda content: content),
}


@pytest.mark.parametrize("content", ODD, ids=NAMES)
@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_tokens_of_other_programs_are_refused_in_a_sentence(
    tmp_path: pathlib.Path, kind: str, content: bytes
) -> None:
    name, wrap = FORMATS[kind]
    (tmp_path / name).write_bytes(wrap(content))
    (tmp_path / "meta.json").write_bytes(content)
    (tmp_path / "train.items.jsonl").write_bytes(content)
    items = build_format(kind, {}).read(tmp_path, Expected(9, 1, "image"))
    try:
        found = list(guard_items(items, tmp_path))
    except TokError as refusal:
        said = str(refusal)
    else:  # what is odd was not looked at
        assert all(item.tokens.shape for item in found)
        return
    assert len(said) < 1000
    assert str(tmp_path) in said


def test_what_a_library_raises_of_a_damaged_file_names_the_file(tmp_path: pathlib.Path) -> None:
    def read() -> Any:
        yield 1 / 0

    with pytest.raises(MismatchError, match=r"is damaged: it cannot be read \(ZeroDivisionError"):
        list(guard_items(read(), tmp_path))

    def exhaust() -> Any:
        raise MemoryError
        yield

    with pytest.raises(InputError, match="there is not enough memory to read it"):
        list(guard_items(exhaust(), tmp_path))

    def fail() -> Any:
        raise OSError(5, "Input/output error", "x")
        yield

    with pytest.raises(OSError, match="Input/output error"):
        list(guard_items(fail(), tmp_path))


@pytest.mark.parametrize("content", ODD, ids=NAMES)
def test_small_files_of_a_sweep_and_of_a_run_may_be_damaged(tmp_path: pathlib.Path, content: bytes) -> None:
    for name in ("outcome.json", "judged.json", "metrics.jsonl", "wanted.json"):
        (tmp_path / name).write_bytes(content)
    assert count_steps(tmp_path) == 0
    assert read_ended(tmp_path).exit_code == 0
    assert read_evaluations(tmp_path) == {}
    assert parse_entry(content) is None
    if content not in (b"[]", b"{}"):  # which ask for nothing
        with pytest.raises(InputError, match="is damaged"):
            judge_cell(str(tmp_path))


@pytest.mark.parametrize("content", ODD, ids=NAMES)
def test_a_damaged_best_is_no_best(tmp_path: pathlib.Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    text = content.decode("latin-1")
    monkeypatch.setattr("tokcli.training.evaluation.read_metadata", lambda path: {"training": text})
    assert _find_former(RunFolder(tmp_path), "psnr") is None


@pytest.mark.parametrize("content", ODD, ids=NAMES)
def test_a_damaged_ledger_and_damaged_metadata_are_no_traceback(tmp_path: pathlib.Path, content: bytes) -> None:
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "ledger.json").write_bytes(content)
    assert Staging(tmp_path / "out", {"items": 1}, resume=True, force=False).done == []
    (tmp_path / "about.jsonl").write_bytes(content)
    if content:
        with pytest.raises(InputError):
            read_about(tmp_path / "about.jsonl")


@pytest.mark.parametrize("text", [DEEP, DIGITS, b"\xff", b"{"])
def test_what_is_no_json_is_one_error(text: bytes) -> None:
    with pytest.raises(ValueError, match="JSON"):
        parse_json(text)
