"""Inputs and outputs that a person tries: patterns in quotes, a list on standard input, other formats, `-m`."""

import io
import pathlib

import numpy
import pytest
from PIL import Image

from tokcli.data.files import describe_skipped, find_files
from tokcli.errors import InputError

SUFFIXES = (".jpg", ".png")


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Files of several kinds in two folders, the current folder above them."""
    for name in ("a.jpg", "b.png", "c.gif", "in/d.jpg", "in/e.heic", "in/f.txt", "in/.g.gif", "odd[1].jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("photos/*.jpg", ["a.jpg", "odd[1].jpg"]),
        ("photos/**/*.jpg", ["a.jpg", "in/d.jpg", "odd[1].jpg"]),
        ("photos/?.*", ["a.jpg", "b.png"]),
        ("pho*/in/*", ["photos/in/d.jpg"]),
        ("photos/odd[1].jpg", ["odd[1].jpg"]),
    ],
)
def test_a_pattern_stands_for_the_files_that_match(folder, pattern: str, names: list[str]) -> None:
    assert list(find_files([pattern], SUFFIXES, "images").names) == names


def test_a_pattern_that_matches_nothing_says_what_it_found(folder) -> None:
    with pytest.raises(InputError, match=r"'photos/\*.bmp' matches no images: no file is one of .jpg, .png"):
        find_files(["photos/*.bmp"], SUFFIXES, "images")
    with pytest.raises(InputError, match=r"none of the 1 files is one of"):
        find_files(["photos/*.gif"], SUFFIXES, "images")


def test_pictures_that_are_not_read_are_counted(folder) -> None:
    assert describe_skipped(find_files(["photos"], SUFFIXES, "images")) == (
        "1 .gif and 1 .heic files are skipped, which cannot be read here; convert them to have them too"
    )
    assert describe_skipped(find_files(["photos/a.jpg"], SUFFIXES, "images")) is None
    (folder / "only").mkdir()
    (folder / "only" / "x.heic").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds no images: .*; it holds 1 .heic, which cannot be read here"):
        find_files(["only"], SUFFIXES, "images")


def test_a_list_comes_from_standard_input(folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("photos/b.png\n\n  photos/in/d.jpg\n"))
    assert list(find_files(["-"], SUFFIXES, "images").names) == ["photos/b.png", "photos/in/d.jpg"]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(InputError, match="the list '-' is empty"):
        find_files(["-"], SUFFIXES, "images")


def test_the_way_there_and_back_with_patterns_lists_and_formats(tok, tiny_run, photos, monkeypatch) -> None:
    (photos / "moving.gif").write_bytes(b"")
    outcome = tok("encode", "photos", "-o", "all.npy")
    assert (outcome.code, "1 .gif file is skipped" in outcome.err) == (0, True), outcome.err
    assert tok("encode", "photos/*.png", "-o", "glob.npy", "--json").json["items"] == 3
    monkeypatch.setattr("sys.stdin", io.StringIO("photos/photo-0.png\nphotos/inner/photo-1.png\n"))
    assert tok("encode", "-", "-o", "listed.npy", "--json").json["items"] == 2
    pictures = {}
    for file_format in ("png", "webp", "jpg"):
        assert tok("decode", "listed.npy", "-o", file_format, "--format", file_format).code == 0
        (path,) = pathlib.Path(file_format).glob(f"photos/photo-0.{file_format}")
        pictures[file_format] = numpy.asarray(Image.open(path).convert("RGB")).astype(int)
    assert (pictures["png"] == pictures["webp"]).all()
    assert 0 < abs(pictures["png"] - pictures["jpg"]).max() < 40


def test_a_model_is_named_by_its_flag_everywhere(tok, tiny_run) -> None:
    assert tok("bench", "-m", "runs/tiny", "--items", "1", "--json").code == 0
    assert "fsp" in tok("build-codebook", "-m", "runs/tiny").err
    two = tok("bench", "runs/tiny", "-m", "runs/other")
    assert (two.code, "two models: runs/tiny, and runs/other by -m; name one" in two.err) == (2, True)


def test_an_unknown_flag_of_the_program_points_to_its_help(tok) -> None:
    assert "(tok --help says more)" in tok("--nothing").err
