"""A folder of tokens: any number of workers make the same bytes, whoever is interrupted, and say how far they are."""

import json
import os
import pathlib
import shutil
import tarfile
import time

import pytest
import torch

import tokcli.commands.encode_items as command
from tokcli.shards.folder import LocalFolder
from tokcli.tokens import open_tokens

ENCODE = ["encode", "photos", "--size", "16", "--shard-items", "2", "-q"]


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file but the records, which say how long it took."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("shard-0000")]
    return {path.name: path.read_bytes() for path in [*files, *folder.glob("shard-*.safetensors")]}


@pytest.fixture
def whole(tok, tiny_run: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """The tokens of five pictures in three shards, made without a disturbance."""
    outcome = tok(*ENCODE, "-o", "whole")
    assert outcome.code == 0, outcome.err
    return tmp_path / "whole"


def test_workers_that_share_a_folder_out_make_the_bytes_of_one(tok, whole: pathlib.Path, tmp_path) -> None:
    expected = contents(whole)
    assert sorted(expected) == ["manifest.json", "plan.json", *(f"shard-0000{n}.safetensors" for n in range(3))]
    first = tok(*ENCODE, "-o", "parts", "--shard", "1/2", "--json")
    assert first.code == 0, first.err
    assert {name: first.json[name] for name in ("shards", "done", "missing", "finished")} == {
        "shards": 3, "done": 1, "missing": 2, "finished": False,
    }  # fmt: skip
    asked = tok("encode", "-o", "parts", "--status")
    assert (asked.code, "next: tok encode -o parts --status" in asked.out) == (0, True)
    early = tok("encode", "-o", "parts", "--finish")
    assert (early.code, "2 of its 3 shards are missing" in early.err) == (3, True)
    unfinished = tok("decode", "parts", "-o", "out")
    assert (unfinished.code, "1 of its 3 shards are done" in unfinished.err) == (3, True)
    last = tok(*ENCODE, "-o", "parts", "--shard", "0/2", "--json")
    assert last.code == 0, last.err
    alone = tok("encode", "-o", "whole", "--finish", "--json").json
    unknown = {"output": "", "items_per_second": 0, "model": ""}  # a folder does not say which run made it
    assert alone["model"] is None
    assert last.json | unknown == alone | unknown
    assert contents(tmp_path / "parts") == expected


@pytest.mark.parametrize("again", [[*ENCODE, "-o", "whole"], ["encode", "-o", "whole", "--finish"]])
def test_who_is_killed_right_behind_the_manifest_leaves_nothing(tok, whole: pathlib.Path, again: list[str]) -> None:
    expected = contents(whole)
    holder = {"pid": 2**22 + 1, "host": "here", "started": "then", "command": "tok encode"}
    (whole / "claims").mkdir()
    (whole / "claims" / "finish").write_text(json.dumps(holder))
    assert tok(*again).code == 0
    assert contents(whole) == expected
    assert not (whole / "claims").exists()


def test_a_folder_reads_like_a_file(tok, whole: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert tok("encode", "photos", "--size", "16", "-q", "-o", "one.npy").code == 0
    one, folder = open_tokens("one.npy"), open_tokens(whole)
    assert (one.header, one.grid, list(one.records)) == (folder.header, folder.grid, list(folder.records))
    assert all(torch.equal(first.tokens, second.tokens) for first, second in zip(one, folder, strict=True))
    told, counted = (tok("info", path, "--json").json for path in ("whole", "one.npy"))
    assert {**told, "tokens": ""} == {**counted, "tokens": ""}
    assert tok("encode", "photos", "--size", "16", "-q", "-o", "again.npy").code == 0


def test_workers_that_begin_in_the_same_moment_join_each_other(tok, whole: pathlib.Path, tmp_path, monkeypatch) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / f".{'0' * 16}.tmp").write_bytes(b"half a plan")
    assert tok(*ENCODE, "-o", "parts", "--shard", "1/2").code == 0
    original, asked = LocalFolder.exists, []

    def exists(self, name: str) -> bool:
        asked.append(name)
        return (name != "plan.json" or asked.count(name) > 1) and original(self, name)  # as it was a moment ago

    monkeypatch.setattr(LocalFolder, "exists", exists)
    outcome = tok(*ENCODE, "-o", "parts")
    assert outcome.code == 0, outcome.err
    assert contents(tmp_path / "parts") == contents(whole)


def test_an_interrupted_encode_goes_on_with_the_same_command(tok, whole, tmp_path, monkeypatch) -> None:
    original, seen = command.encode_group, []

    def interrupted(model, group, batch_size, batch=None):
        seen.append(group)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return original(model, group, batch_size, batch)

    with monkeypatch.context() as patch:
        patch.setattr(command, "encode_group", interrupted)
        outcome = tok(*ENCODE, "-o", "parts")
    assert (outcome.code, "stopped after 1 of 3 shards; the same command goes on" in outcome.err) == (130, True)
    assert tok(*ENCODE[:-1], "-o", "parts").err.count("1 of 3 shards are done") == 1
    assert contents(tmp_path / "parts") == contents(whole)
    again = tok(*ENCODE[:-1], "-o", "parts", "--resume")
    assert (again.code, "complete, there is nothing to do" in again.err) == (0, True)


def test_a_changed_input_or_setting_is_refused_and_nothing_is_lost(tok, whole: pathlib.Path, tmp_path) -> None:
    before = contents(whole)
    other = tok(*ENCODE, "-o", "whole", "--size", "24")
    assert (other.code, "was begun with other settings: preprocessing" in other.err) == (4, True)
    photo = tmp_path / "photos" / "photo-4.png"
    os.utime(photo, (0, 0))
    changed = tok(*ENCODE, "-o", "whole")
    assert changed.code == 4
    assert "the inputs have changed since its plan was made, those of 1 of 3 shards" in changed.err
    photo.unlink()
    fewer = tok(*ENCODE, "-o", "whole")
    assert (fewer.code, "of other items (5 then, 4 now)" in fewer.err) == (4, True)
    assert contents(whole) == before
    assert tok(*ENCODE, "-o", "whole", "--force").code == 0
    assert len(open_tokens(whole)) == 4


def test_a_shard_that_was_damaged_is_made_again(tok, whole: pathlib.Path) -> None:
    before = contents(whole)
    (whole / "manifest.json").unlink()
    (whole / "shard-00001.safetensors").write_bytes(b"")
    (whole / "shard-00002.json").write_text("{")
    outcome = tok(*ENCODE[:-1], "-o", "whole")
    assert outcome.code == 0, outcome.err
    assert "shard 1 of whole is damaged, and is made again" in outcome.err
    assert contents(whole) == before


def test_an_item_that_cannot_be_read_is_listed_and_its_shard_is_done(tok, tiny_run, photos, tmp_path) -> None:
    (photos / "photo-0.png").write_bytes(b"none")
    for share in ("0/2", "1/2"):
        outcome = tok(*ENCODE, "-o", "tokens", "--shard", share, "--json")
    assert outcome.code == 5
    assert [failure["item"] for failure in outcome.json["failed"]] == ["photo-0.png"]
    assert [failure.item for failure in open_tokens("tokens").failed] == ["photo-0.png"]
    assert len(open_tokens("tokens")) == 4


def test_a_folder_of_failures_alone_is_not_written(tok, tiny_run, photos, tmp_path) -> None:
    for path in photos.rglob("*.png"):
        path.write_bytes(b"none")
    outcome = tok(*ENCODE, "-o", "tokens")
    assert (outcome.code, "none of the 5 items could be encoded" in outcome.err) == (3, True)
    assert not (tmp_path / "tokens").exists()


def test_a_folder_that_somebody_works_on_is_not_started_over(tok, whole: pathlib.Path) -> None:
    (whole / "claims").mkdir()
    holder = {"pid": 7, "host": "elsewhere", "started": "now", "command": "tok encode"}
    (whole / "claims" / "00001").write_text(json.dumps(holder))
    outcome = tok(*ENCODE, "-o", "whole", "--force")
    assert (outcome.code, "is being written by process 7 on elsewhere" in outcome.err) == (1, True)


def test_a_claim_of_a_worker_elsewhere_that_fell_silent_is_taken_over(tok, whole: pathlib.Path, tmp_path) -> None:
    assert tok(*ENCODE, "-o", "parts", "--shard", "0/2").code == 0
    claim = tmp_path / "parts" / "claims" / "00001"
    claim.parent.mkdir(exist_ok=True)
    claim.write_text(json.dumps({"pid": 7, "host": "elsewhere", "started": "then", "command": "tok encode"}))
    os.utime(claim, (time.time() - 61,) * 2)
    told = tok("encode", "-o", "parts", "--status", "--json").json
    assert (told["done"], told["claimed"], told["expired"]) == (2, 0, 1)
    outcome = tok(*ENCODE[:-1], "-o", "parts")
    assert outcome.code == 0, outcome.err
    assert "shard 1 is taken over from process 7 on elsewhere" in outcome.err
    assert contents(tmp_path / "parts") == contents(whole)


def test_what_is_not_of_one_file_is_refused_there(tok, tiny_run, photos, tmp_path) -> None:
    for flags in (["--shard", "0/2"], ["--status"], ["--finish"], ["--shard-items", "3"]):
        outcome = tok("encode", "photos", "-o", "t.npy", *flags)
        assert (outcome.code, "is one file" in outcome.err) == (2, True)
    assert tok("encode", "-o", "nothing", "--status").code == 3
    assert tok("encode", "photos", "-o", "t", "--shard", "2/2").code == 2


def test_a_folder_of_an_older_version_is_kept_unless_forced(tok, tiny_run, photos, tmp_path) -> None:
    stored = pathlib.Path(__file__).parents[1] / "ground" / "image-fsq" / "tokens"
    shutil.copytree(stored, tmp_path / "old")
    outcome = tok(*ENCODE, "-o", "old")
    assert (outcome.code, "exists already; overwrite it with --force" in outcome.err) == (2, True)
    assert tok(*ENCODE, "-o", "old", "--force").code == 0
    assert not (tmp_path / "old" / "manifest.jsonl").exists()
    assert len(open_tokens("old")) == 5


@pytest.fixture
def tars(photos: pathlib.Path, tmp_path: pathlib.Path) -> list[pathlib.Path]:
    """Three tars of two pictures each."""
    names = sorted(path for path in photos.rglob("*.png"))
    for shard in range(3):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for number in (2 * shard, 2 * shard + 1):
                tar.add(names[number % len(names)], f"{number}.png")
    return [tmp_path / f"{shard}.tar" for shard in range(3)]


@pytest.mark.parametrize("harm", ["gone", "other bytes"])
def test_a_tar_that_cannot_be_read_for_a_while_leaves_its_shard_to_be_made(
    tok, tiny_run, tars, tmp_path, monkeypatch, harm: str
) -> None:
    typed = ["encode", "{0..2}.tar", *ENCODE[2:]]
    assert tok(*typed, "-o", "whole").code == 0
    original, aside = command.encode_group, tmp_path / "aside"

    def harmed(*arguments):
        if not aside.exists():
            tars[1].rename(aside)
            if harm == "other bytes":
                tars[1].write_bytes(bytes(aside.stat().st_size))
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(command, "encode_group", harmed)
        outcome = tok(*typed[:-1], "-o", "parts")
    assert outcome.code == 3, outcome.err
    assert "parts: 1 of its 3 shards cannot be made now, for their inputs cannot be read (shard 1: " in outcome.err
    assert "what is done stays, and the same command goes on" in outcome.err
    assert [(tmp_path / f"parts/shard-0000{number}.json").exists() for number in range(3)] == [True, False, True]
    refused = tok(*typed, "-o", "parts")
    assert refused.code == 3, refused.err
    aside.replace(tars[1])
    assert tok(*typed, "-o", "parts").code == 0
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert not list(tmp_path.glob("parts/.*"))
