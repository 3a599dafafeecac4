"""A folder of tokens on object storage is the folder that a disk gets, by any number of workers."""

import contextlib
import importlib
import importlib.util
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator

import fsspec
import pytest
import torch

from tokcli.data.remote_folder import RemoteFolder
from tokcli.shards.leases import Lease, claim

TYPED = ["encode", "photos", "--size", "16", "--shard-items", "2", "-q"]
URL = "memory://bucket/tokens"


@pytest.fixture
def memory() -> Iterator[RemoteFolder]:
    """A store in this process, empty."""
    import fsspec

    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield RemoteFolder(URL)
    system.store.clear()


def contents(folder: RemoteFolder) -> dict[str, bytes]:
    """Every file but the records, which say how long it took, and claims."""
    return {
        name: folder.read(name, 2**20) for name in folder.list() if not name.startswith("shard-0000") or "safe" in name
    }


def local_contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.match("shard-*.json")}


def test_workers_make_elsewhere_what_one_makes_on_the_disk(tok, tiny_run, photos, tmp_path, memory) -> None:
    alone = tok(*TYPED, "-o", "alone", "--json").json
    first = tok(*TYPED, "-o", URL, "--shard", "1/2", "--json")
    assert (first.code, first.json["done"], first.json["output"]) == (0, 1, URL), first.err
    assert tok("encode", "-o", URL, "--status", "--json").json["missing"] == 2
    early = tok("encode", "-o", URL, "--finish")
    assert (early.code, "2 of its 3 shards are missing" in early.err) == (3, True)
    last = tok(*TYPED, "-o", URL, "--json")
    assert last.json | {"output": "", "items_per_second": 0} == alone | {"output": "", "items_per_second": 0}
    assert contents(memory) == local_contents(tmp_path / "alone")
    assert memory.list("claims") == []
    other = tok(*TYPED, "-o", URL, "--size", "24")
    assert (other.code, "was begun with other settings" in other.err) == (4, True)
    assert tok(*TYPED, "-o", URL, "--force").code == 0
    assert contents(memory) == local_contents(tmp_path / "alone")


def test_tokens_elsewhere_are_decoded_and_told_as_those_here(tok, tiny_run, photos, tmp_path, memory) -> None:
    assert tok(*TYPED, "-o", "here").code == 0
    assert tok(*TYPED, "-o", URL, "--shard", "0/2").code == 0
    early = tok("decode", URL, "-o", "early")
    assert (early.code, f"{URL} is not finished: tok encode -o {URL} --status says" in early.err) == (3, True)
    assert tok(*TYPED, "-o", URL).code == 0
    for given, out in (("here", "one"), (URL, "two")):
        outcome = tok("decode", given, "-o", out, "--json")
        assert (outcome.code, outcome.json["items"]) == (0, 5), outcome.err
    pairs = [(path, tmp_path / "two" / path.relative_to(tmp_path / "one")) for path in tmp_path.glob("one/**/*.png")]
    assert len(pairs) == 5
    assert all(one.read_bytes() == two.read_bytes() for one, two in pairs)
    assert tok("info", URL, "--json").json | {"tokens": "", "next": ""} == tok("info", "here", "--json").json | {
        "tokens": "", "next": "",
    }  # fmt: skip
    memory.remove("shard-00001.safetensors")
    for given, code, words in (
        (URL, 3, f"{URL}/shard-00001.safetensors is missing"),
        ("memory://bucket/none", 3, "there are no tokens at memory://bucket/none: it has no manifest.json"),
        ("memory://bucket/none.npy", 3, "there is no file memory://bucket/none.npy"),
    ):
        outcome = tok("decode", given, "-o", "out")
        assert (outcome.code, words in outcome.err) == (code, True), outcome.err
    outcome = tok("decode", "here", "-o", "s3://bucket/out")
    assert (outcome.code, "decoded files go to a disk: -o FOLDER here" in outcome.err) == (2, True)
    assert not list(tmp_path.glob("s3:*"))


def test_tokens_elsewhere_are_decoded_by_a_compiled_network_where_that_is_asked_for(
    tok, tiny_run, photos, memory, monkeypatch
) -> None:
    """The flag was once not handed on; a compiler that fails shows that it is."""
    assert tok(*TYPED, "-o", URL).code == 0

    def fail(function):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", fail)
    outcome = tok("decode", URL, "-o", "out", "--compile")
    assert (outcome.code, "torch.compile does not work here" in outcome.err) == (2, True), outcome.err


def test_what_cannot_be_elsewhere_is_refused(tok, tiny_run, photos, memory) -> None:
    file = tok(*TYPED[:-3], "-o", f"{URL}.npy")
    assert (file.code, "elsewhere than on a disk tokens are a folder" in file.err) == (2, True), file.err
    memory.create("notes.txt", b"mine")
    taken = tok(*TYPED, "-o", URL)
    assert (taken.code, "is a folder with other things in it, as notes.txt" in taken.err) == (2, True)
    assert tok("encode", "-o", "memory://bucket/none", "--status").code == 3


def test_an_item_that_fails_elsewhere_is_listed(tok, tiny_run, photos, memory) -> None:
    (photos / "photo-0.png").write_bytes(b"none")
    outcome = tok(*TYPED, "-o", URL, "--json")
    assert (outcome.code, [each["item"] for each in outcome.json["failed"]]) == (5, ["photo-0.png"])


def test_a_claim_elsewhere_is_one_workers(memory: RemoteFolder) -> None:
    lease = claim(memory, "claims/00000")
    assert isinstance(lease, Lease)
    holder = claim(memory, "claims/00000")
    assert holder is not None
    assert not isinstance(holder, Lease)
    age = memory.age("claims/00000")
    assert age is not None
    assert age < 5
    memory.touch("claims/00000")
    lease.release()
    assert memory.list("claims") == []
    memory.touch("claims/00000")
    assert memory.age("claims/00000") is None


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a server of S3 on loopback, of a process of its own."""
    pytest.importorskip("moto.server", reason="moto[server] serves S3 for this test")
    s3fs = pytest.importorskip("s3fs", reason="fsspec reads s3:// with s3fs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(900):
        try:
            urllib.request.urlopen(f"{url}/moto-api/").close()
            break
        except OSError:
            time.sleep(0.1)
    for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_ENDPOINT_URL", url)):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("bucket")
    yield "s3://bucket"
    server.terminate()
    server.wait()


@pytest.mark.slow
def test_objects_become_tokens_in_objects_whoever_is_killed(tok, tiny_run, photos, tmp_path, bucket) -> None:
    import s3fs

    flat = tmp_path / "flat"
    flat.mkdir()
    for path in sorted(photos.rglob("*.png")):
        path.rename(flat / path.name)
    s3fs.S3FileSystem().put(f"{flat}/", "bucket/photos/", recursive=True)
    typed = ["encode", f"{bucket}/photos/", "--size", "16", "--shard-items", "1", "--device", "cpu", "-q"]
    assert tok(*typed, "-o", "alone").code == 0
    package = str(pathlib.Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": package, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tokcli", *typed, "-o", f"{bucket}/tokens"]
    victim = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    folder, deadline = RemoteFolder(f"{bucket}/tokens"), time.monotonic() + 200
    while victim.poll() is None and not folder.list("claims") and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    outcome = tok(*typed, "-o", f"{bucket}/tokens", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["items"] == 5
    assert contents(folder) == local_contents(tmp_path / "alone")
    assert folder.list("claims") == []
    lost = tok(*typed, "-o", "s3://nowhere/tokens")
    assert (lost.code, "s3://nowhere/tokens: there is no bucket 'nowhere'" in lost.err) == (3, True), lost.err
    assert json.loads(folder.read("plan.json", 2**20))["items"] == 5


GOOGLE = """
import sys
from gcp_storage_emulator.server import create_server
create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket="bucket").run()
"""


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a server of Google's storage on loopback, of a process of its own."""
    for package in ("gcsfs", "gcp_storage_emulator"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; run: pip install gcsfs gcp-storage-emulator")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", GOOGLE, str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            break
        time.sleep(0.1)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    # Both are read when gcsfs is imported; without the second it asks by gRPC what kind of bucket this is.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    gcsfs = importlib.import_module("gcsfs")
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})  # as FSSPEC_GS_TOKEN does
    gcsfs.GCSFileSystem.clear_instance_cache()
    yield "gs://bucket"
    server.terminate()
    server.wait()


@pytest.mark.slow
def test_tars_of_googles_storage_become_tokens_there(tok, tiny_run, photos, tmp_path, google) -> None:
    names = sorted(photos.rglob("*.png"))
    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for path in names[shard::2]:
                tar.add(path, path.name)
        content = (tmp_path / f"{shard}.tar").read_bytes()
        assert RemoteFolder(f"{google}/data").create(f"{shard}.tar", content)
    typed = ["--size", "16", "--shard-items", "2", "-q"]
    assert tok("encode", "{0..1}.tar", *typed, "-o", "alone").code == 0
    outcome = tok("encode", f"{google}/data/{{0..1}}.tar", *typed, "-o", f"{google}/tokens", "--json")
    assert (outcome.code, outcome.json["items"]) == (0, 5), outcome.err
    there, here = contents(RemoteFolder(f"{google}/tokens")), local_contents(tmp_path / "alone")
    assert {name: there[name] for name in here if name != "plan.json"} == {
        name: here[name] for name in here if name != "plan.json"
    }  # a plan has the marks of its inputs, which are others elsewhere
    assert tok("encode", "-o", f"{google}/tokens", "--status", "--json").json["finished"]
    assert tok("decode", f"{google}/tokens", "-o", "out").code == 0
    assert len(list((tmp_path / "out").rglob("*.png"))) == 5
    lost = tok("encode", f"{google}/data/2.tar", *typed, "-o", "none")
    assert (lost.code, "there is no such file, folder or bucket" in lost.err) == (3, True), lost.err
