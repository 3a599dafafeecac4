"""A folder of shards: each a token file of its own, and none of another encode among them."""

import pathlib
import shutil

import pytest
from token_samples import NAMES, assert_same, header, made_items, write

from tokcli.errors import MismatchError, UsageError
from tokcli.tokens import open_tokens, open_writer
from tokcli.tokens.shards import Shards


def test_a_folder_holds_shards_of_the_asked_size_each_a_token_file_of_its_own(tmp_path: pathlib.Path) -> None:
    items = made_items(header(), ragged=True)
    write(tmp_path / "tokens", header(), items, token_format=Shards(shard_items=2))
    names = sorted(file.name for file in (tmp_path / "tokens").iterdir())
    assert names == ["manifest.jsonl", *(f"shard-0000{number}.safetensors" for number in range(3))]
    second = open_tokens(tmp_path / "tokens" / "shard-00001.safetensors")
    assert_same(second[0], items[2])
    assert len(second) == 2


def test_a_folder_of_other_things_is_never_replaced_but_an_empty_one_is_filled(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    write(folder, header(), made_items(header()))
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(UsageError, match="is a folder with other things in it; choose another name"):
        open_writer(folder, header(), NAMES, force=True)
    assert (folder / "cat.jpg").read_bytes() == b"cat"


def test_a_manifest_that_was_cut_off_or_lacks_a_shard_is_refused(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "tokens", header(), made_items(header()), token_format=Shards(shard_items=2))
    manifest = tmp_path / "tokens" / "manifest.jsonl"
    whole = manifest.read_text()
    manifest.write_text(whole[: whole.rindex("{")])
    with pytest.raises(MismatchError, match="lists 4 items of 5: it was cut off"):
        open_tokens(tmp_path / "tokens")
    manifest.write_text(whole[:-9])
    with pytest.raises(MismatchError, match=r"is damaged: .* is not JSON"):
        open_tokens(tmp_path / "tokens")
    manifest.write_text("")
    with pytest.raises(MismatchError, match="was not written by tok encode"):
        open_tokens(tmp_path / "tokens")
    manifest.write_text(whole)
    (tmp_path / "tokens" / "shard-00001.safetensors").unlink()
    with pytest.raises(
        MismatchError, match=r"the shard shard-00001.safetensors, which manifest.jsonl lists, is missing"
    ):
        open_tokens(tmp_path / "tokens")


def test_a_shard_of_another_encode_is_refused(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "tokens", header(), made_items(header()), token_format=Shards(shard_items=2))
    write(tmp_path / "others", header(split="train"), made_items(header()), token_format=Shards(shard_items=2))
    shutil.copy(tmp_path / "others" / "shard-00001.safetensors", tmp_path / "tokens")
    with pytest.raises(MismatchError, match=r"comes from another encode than the manifest.jsonl beside it"):
        open_tokens(tmp_path / "tokens")


def test_shards_are_looked_for_in_the_folder_alone(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "tokens", header(), made_items(header()))
    (tmp_path / "tokens" / "shard-00000.safetensors").rename(tmp_path / "outside.safetensors")
    manifest = tmp_path / "tokens" / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace("shard-00000", "../outside"))
    with pytest.raises(MismatchError, match=r"the shard ../outside.safetensors, .* is missing"):
        open_tokens(tmp_path / "tokens")


def test_a_folder_of_other_things_is_no_token_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(MismatchError, match=r"photos is not a folder of tokens: it has no manifest.jsonl"):
        open_tokens(tmp_path / "photos")
