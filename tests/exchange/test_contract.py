"""The suite that every exchange format passes: written in parts, resumed, read back, refused."""

import pathlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy
import pytest
from token_sets import HEADER, write_tokens

from tokcli.commands.export import export
from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.exchange import EXCHANGE_FORMATS, Expected

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "parquet": [{}, {"order": "snake", "fixed": True}],
    "bin": [{}, {"bos": "auto", "eos": "auto", "label_token": "auto", "order": "morton"}],
    "webdataset": [{}, {"preset": "maskgen", "order": "columns"}, {"preset": "4m"}],
    "npy-tree": [{}, {"preset": "llamagen"}, {"preset": "amphion"}, {"preset": "fish-speech"}, {"preset": "xcodec2"}],
    "jsonl": [{}, {"order": "snake"}],
}
CASES = [(kind, options) for kind, each in EXAMPLES.items() for options in each]
IDS = [f"{kind}-{'-'.join(map(str, options.values()))}" for kind, options in CASES]

KINDS = list(EXCHANGE_FORMATS)


def read_back(path: pathlib.Path, kind: str, options: Mapping[str, Any], groups: int = 1, grid=None) -> list[Any]:
    format_ = EXCHANGE_FORMATS.build({"kind": kind, **options}, "export")
    return list(format_.read(path, Expected(1000, groups, "image", grid)))


@pytest.mark.parametrize(("kind", "options"), CASES, ids=IDS)
def test_every_item_comes_back_with_its_tokens_label_and_sizes(
    kind: str, options: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    tokens = write_tokens(tmp_path / "tokens.npy")
    result = export(str(tmp_path / "tokens.npy"), str(tmp_path / "out"), to=kind, options=options, part_items=3)
    assert (result.items, result.labels, result.failed) == (7, 2, [])
    back = read_back(tmp_path / "out", kind, options)
    assert [item.name for item in back] == list(tokens)
    for item in back:
        assert (item.tokens == tokens[item.name]).all()
        assert (item.original_size, item.signal_size) == ((100, 90), (29, 29))
        if kind != "bin" or "label_token" in options:
            assert item.label == (1 if item.name.startswith("dog") else 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["tokens.npy", "tokens.safetensors", "tokens"])
def test_every_form_of_token_file_gives_the_same_bytes(kind: str, form: str, tmp_path: pathlib.Path) -> None:
    write_tokens(tmp_path / "tokens.npy")
    write_tokens(tmp_path / "other" / form)
    export(str(tmp_path / "tokens.npy"), str(tmp_path / "a"), to=kind, part_items=3)
    export(str(tmp_path / "other" / form), str(tmp_path / "b"), to=kind, part_items=3)
    assert content_of(tmp_path / "a") == content_of(tmp_path / "b")


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_export_goes_on_and_equals_an_uninterrupted_one(
    kind: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tokens(tmp_path / "tokens.npy", items=10)
    source = str(tmp_path / "tokens.npy")
    export(source, str(tmp_path / "whole"), to=kind, part_items=3)
    write_part, written = EXCHANGE_FORMATS[kind].write_part, []

    def cut_off(self, items, tokens, folder, part):
        write_part(self, items, tokens, folder, part)
        written.append(part)
        if written == [0, 1]:
            raise KeyboardInterrupt

    monkeypatch.setattr(EXCHANGE_FORMATS[kind], "write_part", cut_off)
    with pytest.raises(KeyboardInterrupt):
        export(source, str(tmp_path / "out"), to=kind, part_items=3)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="--resume"):
        export(source, str(tmp_path / "out"), to=kind, part_items=3)
    with pytest.raises(MismatchError, match="another part_items"):
        export(source, str(tmp_path / "out"), to=kind, part_items=4, resume=True)
    export(source, str(tmp_path / "out"), to=kind, part_items=3, resume=True)
    assert written == [0, 1, 1, 2, 3]
    assert content_of(tmp_path / "out") == content_of(tmp_path / "whole")
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_exists_is_refused_and_kept(kind: str, tmp_path: pathlib.Path) -> None:
    write_tokens(tmp_path / "tokens.npy")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists already; overwrite it with --force"):
        export(str(tmp_path / "tokens.npy"), str(tmp_path / "out"), to=kind)
    assert (tmp_path / "out" / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize("kind", KINDS)
def test_an_item_without_the_label_that_others_have_is_a_listed_failure(kind: str, tmp_path: pathlib.Path) -> None:
    tokens = write_tokens(tmp_path / "tokens.npy")
    rows = [f"{name},{number}" for number, name in enumerate(tokens) if number != 2]
    (tmp_path / "about.csv").write_text("\n".join(["name,label", *rows]))
    result = export(
        str(tmp_path / "tokens.npy"), str(tmp_path / "out"), to=kind, about=str(tmp_path / "about.csv"), part_items=3
    )
    assert result.items == 6
    assert [(failure.item, failure.reason) for failure in result.failed] == [
        ("dog/photo-2.png", "it has no label, and others have one")
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_an_item_that_cannot_be_read_stops_the_export_and_keeps_what_was_there(
    kind: str, tmp_path: pathlib.Path
) -> None:
    write_tokens(tmp_path / "tokens.npy")
    array = numpy.load(tmp_path / "tokens.npy")
    array[3, 0, 0] = 5000  # no such code
    numpy.save(tmp_path / "tokens.npy", array)
    with pytest.raises(MismatchError, match="holds the token 5000"):
        export(str(tmp_path / "tokens.npy"), str(tmp_path / "out"), to=kind)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "npy-tree"])
def test_a_share_of_the_items_validates_whatever_the_parts(kind: str, tmp_path: pathlib.Path) -> None:
    tokens = write_tokens(tmp_path / "tokens.npy", items=40)
    for part_items, name in ((3, "a"), (40, "b")):
        export(
            str(tmp_path / "tokens.npy"), str(tmp_path / name), to=kind, options={"split": 0.5}, part_items=part_items
        )
    train, whole = ({item.name for item in read_back(tmp_path / name, kind, {})} for name in "ab")
    assert train == whole == set(tokens)
    validating = [path for path in (tmp_path / "a").rglob("*") if "val" in path.relative_to(tmp_path / "a").as_posix()]
    assert validating


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "webdataset"])
@pytest.mark.parametrize("layout", ["parallel", "interleaved", "delay"])
def test_several_tokens_a_position_come_back(kind: str, layout: str, tmp_path: pathlib.Path) -> None:
    header = replace(HEADER, groups=3, modality="audio", sample_rate=16000)
    tokens = write_tokens(tmp_path / "tokens.safetensors", header=header, grid=(5,), ragged=True)
    options = {} if kind == "webdataset" else {"layout": layout}
    export(str(tmp_path / "tokens.safetensors"), str(tmp_path / "out"), to=kind, options=options)
    for item in read_back(tmp_path / "out", kind, options, groups=3):
        assert (item.tokens == tokens[item.name]).all()


@pytest.mark.parametrize("layout", ["interleaved", "delay"])
def test_flat_ids_of_several_tokens_a_position_come_back(layout: str, tmp_path: pathlib.Path) -> None:
    header = replace(HEADER, groups=3, modality="audio", sample_rate=16000)
    tokens = write_tokens(tmp_path / "tokens.safetensors", header=header, grid=(5,), ragged=True)
    export(str(tmp_path / "tokens.safetensors"), str(tmp_path / "out"), to="bin", options={"layout": layout})
    back = read_back(tmp_path / "out", "bin", {}, groups=3)
    assert [item.name for item in back] == list(tokens)
    assert all((item.tokens == tokens[item.name]).all() for item in back)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("bin", {"dtype": "uint16", "offset": 65000}, "--dtype uint16 holds ids up to 65535"),
        ("bin", {"layout": "parallel"}, "--layout parallel keeps 2 tokens side by side"),
        ("bin", {"bos": 500}, r"--bos 500 is also the id of the codes \(0 to 1999\)"),
        ("bin", {"eos": 2000, "bos": 2000}, "--eos 2000 is also the id of --bos"),
        ("parquet", {"columns": {"token": "x"}}, "there is no column 'token'; did you mean 'tokens'"),
        ("parquet", {"columns": {"tokens": "name"}}, "two columns would have one name"),
        ("npy-tree", {"preset": "xcodec2"}, "keeps one token a position, these have 2"),
        ("npy-tree", {"preset": "llamagen"}, "keeps one token a position"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_anything_is_written(
    kind: str, options: dict[str, Any], words: str, tmp_path: pathlib.Path
) -> None:
    write_tokens(tmp_path / "tokens.npy", header=replace(HEADER, groups=2))
    with pytest.raises(UsageError, match=words):
        export(str(tmp_path / "tokens.npy"), str(tmp_path / "out"), to=kind, options=options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokens.npy", "tokens.npy.json"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_folder_is_named_when_read(kind: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no"):
        read_back(tmp_path / "empty", kind, {})


def test_the_table_has_an_example_of_every_format() -> None:
    assert set(EXAMPLES) == set(EXCHANGE_FORMATS)


def content_of(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
