"""Tars as WebDataset packs them: items by themselves, what lies beside them, shards, and whatever can be wrong."""

import gzip
import io
import os
import pathlib
import pickle
import re
import tarfile
import time
from collections.abc import Mapping

import numpy
import pytest
import soundfile
import torch
from PIL import Image

from tokcli.data.audio.files import AudioFiles
from tokcli.data.batches import open_training_loader
from tokcli.data.files import find_files
from tokcli.data.image.files import ImageFiles
from tokcli.data.items import Failure, read_items
from tokcli.data.named_files import Files
from tokcli.errors import InputError

SUFFIXES = (".jpg", ".png")


def draw(seed: int) -> bytes:
    """A PNG of noise."""
    pixels = numpy.random.default_rng(seed).integers(0, 256, (18, 20, 3), dtype=numpy.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def pack(path: pathlib.Path, members: Mapping[str, bytes] | list[tuple[str, bytes]]) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def find(*inputs: object) -> Files:
    return find_files([str(given) for given in inputs], SUFFIXES, "images")


def problem_of(files: Files, name: str) -> str:
    with pytest.raises(InputError) as caught:
        files.open(list(files.names).index(name))
    return str(caught.value)


def test_pictures_are_read_where_they_lie_with_what_lies_beside_them(tmp_path: pathlib.Path) -> None:
    members = {
        "a/1.jpg": b"one",
        "a/1.cls": b"7\n",
        "a/1.txt": b"ein Hund\n",
        "a/1.json": b'{"url": "u", "caption": "from the JSON"}',
        "2.large.png": b"two, whose key is 2",
        "2.cls": b"cat",
        "2.json": b"[1, 2]",
        "3.PNG": b"",
        "3.heic": b"not read",
        "._3.png": b"of another system",
    }
    files = find(pack(tmp_path / "x.tar", members))
    assert list(files.names) == ["a/1.jpg", "2.large.png", "3.PNG"]
    assert [files.open(index).read() for index in range(3)] == [b"one", b"two, whose key is 2", b""]
    assert files.about(0) == {"label": 7, "caption": "ein Hund", "url": "u"}
    assert files.about(1) == {"label": "cat", "json": [1, 2]}
    assert files.about(2) == {}
    assert [list(files.lacks(index)) for index in range(3)] == [[], [], ["label", "json"]]
    assert files.skipped == {".heic": 1}
    assert list(files.resolved(1)) == [f"{(tmp_path / 'x.tar').resolve()}:512"]


def test_siblings_need_not_be_side_by_side(tmp_path: pathlib.Path) -> None:
    members = {"1.cls": b"1", "2.cls": b"2", "2.png": b"", "1.png": b""}
    files = find(pack(tmp_path / "x.tar", members))
    assert [files.about(index) for index in range(2)] == [{"label": 2}, {"label": 1}]


def test_the_index_is_made_once_and_again_for_another_tar(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOK_CACHE", str(tmp_path / "cache"))
    path = pack(tmp_path / "x.tar", {"1.png": b"one"})
    files = find(path)
    (index,) = [each for each in (tmp_path / "cache").rglob("*") if each.is_file()]
    made = index.stat().st_ino
    assert find(path).names[0] == "1.png"
    assert index.stat().st_ino == made
    path.unlink()
    pack(path, {"2.png": b"two"})
    os.utime(path, ns=(0, time.time_ns() + 10**9))
    assert problem_of(files, "1.png") == "it was changed while it was being read; give the command again"
    assert list(find(path).names) == ["2.png"]


def test_many_tars_are_one_sequence(tmp_path: pathlib.Path) -> None:
    for shard in range(4):
        pack(tmp_path / f"x/{shard:02d}.tar", {f"{number}.png": f"{shard} {number}".encode() for number in range(3)})
    wanted = [f"{shard:02d}.tar/{number}.png" for shard in range(4) for number in range(3)]
    (tmp_path / "x.txt").write_text("x/{00..01}.tar\nx/02.tar\n\nx/03.tar\n")
    ways = [
        [tmp_path / "x/{00..03}.tar"],
        [tmp_path / "x/*.tar"],
        [tmp_path / "x.txt"],
        [f"file://{tmp_path}/x/0{{0,1}}.tar", tmp_path / "x/02.tar", tmp_path / "x/03.tar", tmp_path / "x/03.tar"],
    ]
    for inputs in ways:
        files = pickle.loads(pickle.dumps(find(*inputs)))
        assert list(files.names) == wanted
        assert files.names[4:6] == wanted[4:6]
        assert files.names[-1] == wanted[-1]
        assert [files.open(index).read() for index in (11, 0, 4)] == [b"3 2", b"0 0", b"1 1"]
        assert files.starts.tolist() == [0, 3, 6, 9, 12]


def test_names_in_several_folders_stay_apart(tmp_path: pathlib.Path) -> None:
    for folder in ("a", "b"):
        pack(tmp_path / folder / "0.tar", {"1.png": folder.encode()})
    files = find(tmp_path / "a/0.tar", tmp_path / "b/0.tar")
    assert list(files.names) == ["a/0.tar/1.png", "b/0.tar/1.png"]


def test_a_shard_that_changes_while_it_is_read_stops_the_work(tmp_path: pathlib.Path) -> None:
    paths = [pack(tmp_path / f"{shard}.tar", {"1.png": b""}) for shard in range(2)]
    files = find(*paths)
    os.utime(paths[1], ns=(0, 10**18))
    with pytest.raises(InputError, match=r"1\.tar' was changed while it was being read; give the command again"):
        files.opener(1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"x\.tar': it is no tar but empty \(0 bytes\)"),
        (b"GIF89a, and so on" * 100, r"x\.tar': it is no tar, or damaged from its beginning"),
        (gzip.compress(b"tar"), r"x\.tar': it is compressed, so that nothing in it can be read by itself; gunzip it"),
        (bytes(10240), r"x\.tar' holds no images: none of its 0 files is \.jpg, \.png"),
    ],
    ids=["empty", "another file", "compressed", "nothing packed"],
)
def test_what_is_no_tar_is_refused(tmp_path: pathlib.Path, content: bytes, words: str) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(InputError, match=words):
        find(tmp_path / "x.tar")


def test_missing_and_unusable_shards_are_all_named_before_the_work(tmp_path: pathlib.Path) -> None:
    pack(tmp_path / "0.tar", {"1.png": b""})
    with pytest.raises(InputError, match=r"there is no file or folder '.*1\.tar'"):
        find(tmp_path / "{0..1}.tar")
    (tmp_path / "list.txt").write_text("{0..2}.tar\n")
    with pytest.raises(InputError, match=r"1\.tar': the file cannot be opened: No such .*\n.*2\.tar': the file cannot"):
        find(tmp_path / "list.txt")
    for shard in (1, 2):
        (tmp_path / f"{shard}.tar").touch()
    with pytest.raises(InputError, match=r"1\.tar': it is no tar .*\n.*2\.tar': it is no tar"):
        find(tmp_path / "{0..2}.tar")
    with pytest.raises(InputError, match=r"it holds 3 \.tar, which are read by their names: '.*\*\.tar'"):
        find(tmp_path)
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=r"0\.tar' is an archive, which .* other archives alone; got '.*a\.png'"):
        find(tmp_path / "0.tar", tmp_path / "a.png")


def test_what_a_cut_tar_still_holds_is_read_and_the_rest_is_one_failure(tmp_path: pathlib.Path) -> None:
    whole = pack(tmp_path / "whole.tar", {"1.png": b"one" * 400, "2.png": b"two" * 400}).read_bytes()
    path = tmp_path / "x.tar"
    second = 512 + 1536
    cuts = {
        second + 512 + 1000: ("2.png", "the tar ends at byte 3,560, in the middle of it"),
        second + 100: ("1.png-and-what-follows", "the tar is cut off: its end is missing at byte 2,048 behind 1.png"),
        second: ("1.png-and-what-follows", "the tar is cut off"),
    }
    for length, (name, words) in cuts.items():
        path.write_bytes(whole[:length])
        files = find(path)
        assert list(files.names) == ["1.png", name]
        assert files.open(0).read() == b"one" * 400
        assert problem_of(files, name).startswith(words)
        path.unlink()
    path.write_bytes(whole[:second] + b"x" * 512 + whole[second + 512 :])
    assert problem_of(find(path), "1.png-and-what-follows").startswith("the tar has a damaged header at byte 2,048")


def test_odd_members_are_failures_of_their_own(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", encoding="utf-8", errors="surrogateescape") as tar:
        for name in ("./a.png", "../b.png", "a.png", "/c.png", "d\udcff.png", "x" * 2000 + ".png"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
        for name, kind, target in (("e.png", tarfile.SYMTYPE, "a.png"), ("f.png", tarfile.LNKTYPE, "./a.png")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
    files = find(path)
    long = ("x" * 2000 + ".png")[:1024]
    assert list(files.names) == ["a.png", "__/b.png", "a.png_", "c.png", "d\\udcff.png", long, "e.png", "f.png"]
    assert [files.open(index).read() for index in (0, 3, 7)] == [b"abc"] * 3
    assert problem_of(files, "__/b.png") == "its name leaves the folder; rename it and pack the tar again"
    assert "another file of this name before it" in problem_of(files, "a.png_")
    assert "no UTF-8" in problem_of(files, "d\\udcff.png")
    assert "longer than 1024 characters" in problem_of(files, long)
    assert "it is a link, not a file; pack the tar with --dereference" in problem_of(files, "e.png")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("1.json", b"{", r"its \.json cannot be read: not JSON"),
        ("1.json", b'{"a": NaN}', r"its \.json cannot be read: the number nan"),
        ("1.cls", b"\xff\xfe", r"its \.cls cannot be read: it is not UTF-8 at byte 0"),
        ("1.txt", b"a" * (2**20 + 1), r"its \.txt has 1,048,577 bytes; at most 1,048,576 are read"),
    ],
)
def test_a_sibling_that_cannot_be_read_fails_its_item_alone(
    tmp_path: pathlib.Path, name: str, content: bytes, words: str
) -> None:
    path = pack(tmp_path / "x.tar", {"1.png": draw(1), name: content, "2.png": draw(2), "3.png": b"no picture"})
    first, second, third = read_items(ImageFiles(str(path), 16), workers=0)
    assert isinstance(first, Failure)
    assert first.item == "1.png"
    assert re.match(words, first.reason)
    assert not isinstance(second, Failure)
    assert isinstance(third, Failure)
    assert third.reason == "the content is not a picture this can read (JPEG, PNG, WEBP, BMP, TIFF)"


def test_a_hundred_thousand_names_take_seconds_and_little_memory(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.tar"
    header = tarfile.TarInfo("n.png").tobuf()
    with open(path, "wb") as file:
        for number in range(20_000):
            name = f"{number:06d}".encode()
            checksum = sum(header[:148]) + 8 * 32 + sum(header[156:]) - sum(b"n.png\0") + sum(name + b".png")
            file.write(name + b".png" + header[10:148] + f"{checksum:06o}".encode() + b"\0 " + header[156:])
        file.write(bytes(1024))
    started = time.perf_counter()
    files = find(path)
    assert len(files.names) == 20_000
    assert files.names[19_999] == "019999.png"
    assert time.perf_counter() - started < 10


def test_a_header_of_terabytes_takes_no_memory(tmp_path: pathlib.Path) -> None:
    member = tarfile.TarInfo("long")
    member.type, member.size = tarfile.XHDTYPE, 2**42
    (tmp_path / "x.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(InputError, match=r"it is no tar, or damaged from its beginning: a header of 4,398,046,511,104"):
        find(tmp_path / "x.tar")


def test_tars_and_folders_give_the_same_items(tmp_path: pathlib.Path) -> None:
    names = [f"{number}.png" for number in range(20)]
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(names):
        (folder / name).write_bytes(draw(number))
    for shard in range(4):
        pack(tmp_path / f"{shard}.tar", {name: (folder / name).read_bytes() for name in names[shard::4]})
    loose = ImageFiles(str(folder), 16)
    packed = ImageFiles([str(tmp_path / f"{shard}.tar") for shard in range(4)], 16)
    for item in read_items(packed, workers=2):
        assert not isinstance(item, Failure)
        index = list(loose.names).index(item.name.partition("/")[2])
        assert torch.equal(item.signal, loose.load(index).signal)


def test_training_on_tars_goes_on_in_mid_epoch_with_any_number_of_processes(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokcli.data.batches.WINDOW", 8)  # windows of four tars
    for shard in range(6):
        pack(tmp_path / f"{shard}.tar", {f"{number}.png": draw(3 * shard + number) for number in range(3)})
    source = ImageFiles(str(tmp_path / "{0..5}.tar"), 16, crop="random", flip=True)
    settings = {"batch_size": 4, "seed": 5, "steps": 10}
    whole = [batch.signals for batch in open_training_loader(source, start_step=0, **settings)]
    assert len({signal.numpy().tobytes() for batch in whole for signal in batch}) > 18  # crops and flips are drawn
    resumed = [batch.signals for batch in open_training_loader(source, start_step=3, workers=1, **settings)]
    assert all(map(torch.equal, resumed, whole[3:]))
    ranks = [open_training_loader(source, start_step=6, rank=rank, world=2, **settings) for rank in range(2)]
    shared = [torch.cat([first.signals, second.signals]) for first, second in zip(*ranks, strict=True)]
    assert all(map(torch.equal, shared, whole[6:]))


def test_sounds_are_read_from_tars_and_long_ones_as_streams(tmp_path: pathlib.Path) -> None:
    generator = numpy.random.default_rng(0)
    short, long = io.BytesIO(), io.BytesIO()
    soundfile.write(short, generator.uniform(-0.5, 0.5, 16000), 16000, format="FLAC")
    samples = generator.uniform(-0.5, 0.5, 62 * 16000)
    soundfile.write(long, samples, 16000, format="WAV", subtype="DOUBLE")  # more than is read at once
    members = {"1.flac": short.getvalue(), "1.txt": b"hello", "2.wav": long.getvalue(), "2.txt": b"world"}
    source = AudioFiles(str(pack(tmp_path / "x.tar", members)), sample_rate=16000)
    assert source.load(0).original_size == (16000,)
    assert source.load(0).about == {"caption": "hello"}
    stream = source.load_or_stream(1)
    assert stream.about == {"caption": "world"}
    blocks = torch.cat(list(stream.blocks()), dim=1)
    assert torch.equal(blocks[0], torch.from_numpy(samples.astype(numpy.float32)))
