"""Remote files by real protocols, S3 and HTTP, served on loopback: same items, few requests, errors in a sentence."""

import functools
import http.server
import io
import os
import pathlib
import re
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
from collections.abc import Iterator

import numpy
import pytest
import torch
from PIL import Image

from tokcli.data import places
from tokcli.data.files import find_files
from tokcli.data.image.files import ImageFiles
from tokcli.data.items import Failure, read_items
from tokcli.errors import InputError, UsageError

SUFFIXES = (".png",)


def draw(seed: int) -> bytes:
    """A PNG of noise."""
    content = io.BytesIO()
    pixels = numpy.random.default_rng(seed).integers(0, 256, (18, 20, 3), dtype=numpy.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def pack(path: pathlib.Path, numbers: range) -> pathlib.Path:
    with tarfile.open(path, "w") as tar:
        for number in numbers:
            for suffix, content in (("png", draw(number)), ("cls", str(number).encode())):
                member = tarfile.TarInfo(f"{number:02d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOK_CACHE", str(tmp_path / "own-cache"))
    monkeypatch.setattr(places, "PAUSE", 0.01)


@pytest.fixture
def shards(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two tars of four pictures, and the same pictures in a folder beside them."""
    folder = tmp_path / "served"
    (folder / "photos").mkdir(parents=True)
    for number in range(8):
        (folder / "photos" / f"{number:02d}.png").write_bytes(draw(number))
    pack(folder / "0.tar", range(4))
    pack(folder / "1.tar", range(4, 8))
    (folder / "shards.txt").write_text("0.tar\n1.tar\n")
    (folder / "photos.txt").write_text("photos/00.png\nphotos/01.png\n")
    return folder


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves parts of files, as `http.server` does not, and counts what it is asked for."""

    ranges = True
    asked: list[str] = []  # noqa: RUF012

    def log_message(self, *arguments: object) -> None: ...

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path = pathlib.Path(self.translate_path(self.path))
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if self.path.startswith("/secret"):
            self.send_error(403)
        elif not path.is_file():
            self.send_error(404)
        else:
            content = path.read_bytes()
            first, last = (int(match[1]), int(match[2] or len(content) - 1)) if match and self.ranges else (0, 1 << 40)
            self.send_response(206 if match and self.ranges else 200)
            part = content[first : last + 1]
            self.send_header("Content-Length", str(len(part)))
            self.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
            if match and self.ranges:
                self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
            self.end_headers()
            self.wfile.write(part)


@pytest.fixture
def web(shards: pathlib.Path) -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="fsspec reads http:// with aiohttp")
    Server.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=str(shards)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server of S3 on loopback, of a process of its own."""
    pytest.importorskip("moto.server", reason="moto[server] serves S3 for this test")
    pytest.importorskip("s3fs", reason="fsspec reads s3:// with s3fs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with open(os.devnull, "w") as nowhere:
        server = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{url}/moto-api/").close()
            break
        except OSError:
            time.sleep(0.1)
    yield url
    server.terminate()
    server.wait()


@pytest.fixture
def bucket(endpoint: str, shards: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The served files as objects."""
    import s3fs

    for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_ENDPOINT_URL", endpoint)):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    if not system.exists("bucket"):
        system.mkdir("bucket")
    system.put(f"{shards}/", "bucket/data/", recursive=True)
    return "s3://bucket/data"


def check_items(source: ImageFiles, numbers: range, labelled: bool = True, workers: int = 0) -> None:
    items = list(read_items(source, workers=workers))
    assert len(items) == len(numbers)
    for item, number in zip(items, numbers, strict=True):
        assert not isinstance(item, Failure), item
        assert item.name.endswith(f"{number:02d}.png")
        assert item.about == ({"label": number} if labelled else {})
        with Image.open(io.BytesIO(draw(number))) as image:
            assert item.original_size == (image.height, image.width)


@pytest.mark.slow
def test_objects_of_s3_are_read_like_files(bucket: str, shards: pathlib.Path) -> None:
    local = ImageFiles(str(shards / "photos"), 16)
    for given in (f"{bucket}/{{0..1}}.tar", f"{bucket}/*.tar", f"{bucket}/shards.txt"):
        source = ImageFiles(given, 16)
        assert list(source.names)[:5] == [*(f"0.tar/{number:02d}.png" for number in range(4)), "1.tar/04.png"]
        check_items(source, range(8), workers=1 if "{" in given else 0)
    assert all(torch.equal(source.load(number).signal, local.load(number).signal) for number in range(8))
    for given in (f"{bucket}/photos/", f"{bucket}/photos/*.png"):
        source = ImageFiles(given, 16)
        assert list(source.names) == list(local.names)
        check_items(source, range(8), labelled=False)
    check_items(ImageFiles(f"{bucket}/photos.txt", 16), range(2), labelled=False)
    check_items(ImageFiles([f"{bucket}/photos/03.png"], 16), range(3, 4), labelled=False)


@pytest.mark.slow
def test_what_s3_refuses_is_one_sentence(
    bucket: str, endpoint: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    with pytest.raises(InputError, match=r"^'s3://bucket/data/2\.tar': there is no such file, folder or bucket$"):
        find_files([f"{bucket}/{{0..2}}.tar"], SUFFIXES, "images")
    with pytest.raises(InputError, match=r"'s3://nowhere/\*\.tar' cannot be listed: there is no "):
        find_files(["s3://nowhere/*.tar"], SUFFIXES, "images")
    with pytest.raises(InputError, match=r"'s3://bucket/data/photos\.md' (holds no images|cannot be listed)"):
        find_files([f"{bucket}/photos.md"], SUFFIXES, "images")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("HOME", str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(InputError, match=r"there are no credentials for s3://; set AWS_ACCESS_KEY_ID and AWS_SECRET_"):
        find_files([f"{bucket}/*.tar"], SUFFIXES, "images")


@pytest.mark.slow
def test_an_object_that_is_replaced_is_another_one(bucket: str, shards: pathlib.Path) -> None:
    import s3fs

    assert len(find_files([f"{bucket}/0.tar"], SUFFIXES, "images").names) == 4
    s3fs.S3FileSystem().put(str(pack(shards / "new.tar", range(2))), "bucket/data/0.tar")
    s3fs.S3FileSystem.clear_instance_cache()
    assert len(find_files([f"{bucket}/0.tar"], SUFFIXES, "images").names) == 2


def test_files_of_the_web_are_fetched_once(web: str) -> None:
    check_items(ImageFiles(f"{web}/{{0..1}}.tar", 16), range(8))
    fetched = [path for path in Server.asked if path.endswith(".tar")]
    check_items(ImageFiles(f"{web}/{{0..1}}.tar", 16), range(8), workers=1)
    assert len(fetched) <= 4
    check_items(ImageFiles(f"{web}/photos.txt", 16), range(2), labelled=False)


def test_what_the_web_refuses_is_one_sentence(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"'http://.*/none\.tar': there is no such file, folder or bucket$"):
        find_files([f"{web}/none.tar"], SUFFIXES, "images")
    with pytest.raises(InputError, match=r"'http://.*/secret\.tar': reading it is not allowed"):
        find_files([f"{web}/secret.tar"], SUFFIXES, "images")
    with pytest.raises(InputError, match=r"1:9/0\.tar': the network or the server failed \(.*; try again"):
        find_files(["http://127.0.0.1:9/0.tar"], SUFFIXES, "images")
    (first,) = read_items(ImageFiles([f"{web}/photos/99.png"], 16), workers=0)
    assert isinstance(first, Failure)
    assert first.reason == "there is no such file, folder or bucket"


def test_an_absent_library_and_an_unknown_scheme_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UsageError, match=r"s3fs is not installed; run: pip install s3fs \(extra: s3\)"):
        find_files(["s3://bucket/0.tar"], SUFFIXES, "images")
    with pytest.raises(UsageError, match=r"'gopher://host/0\.tar': fsspec .* cannot read it .*; expected s3://, gs://"):
        find_files(["gopher://host/0.tar"], SUFFIXES, "images")


def test_here_and_remote_are_not_mixed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=r"'s3://b/a\.png' is remote and '.*/a\.png' is not; files of"):
        find_files([str(tmp_path / "a.png"), "s3://b/a.png"], SUFFIXES, "images")


def test_a_mistake_in_a_program_does_not_read_as_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def fail(*arguments: object, **options: object) -> None:
        raise TypeError("a mistake")

    system = fsspec.filesystem("memory")
    system.pipe("/folder/a.png", b"a")
    place = places.measure("memory://folder/a.png")
    for name, use in (
        ("info", lambda: places.measure("memory://folder/a.png")),
        ("find", lambda: places.find_remote("memory://folder")),
        ("cat_file", lambda: place.read(0, 1)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(system, name, fail)
            with pytest.raises(TypeError, match="a mistake"):
                use()
