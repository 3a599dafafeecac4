"""A folder of shards: each a token file of its own, and none of another encode among them."""

import hashlib
import pathlib
import shutil

import numpy
import pytest
import torch
from safetensors.numpy import load_file
from token_samples import NAMES, assert_same, header, made_items, write

from tokcli.errors import MismatchError, UsageError
from tokcli.metrics.tokens import count_tokens
from tokcli.shards.folder import LocalFolder
from tokcli.tokens import open_tokens, open_writer
from tokcli.tokens.manifest import read_tally
from tokcli.tokens.shards import Shards


def test_a_folder_holds_shards_of_the_asked_size_each_a_token_file_of_its_own(tmp_path: pathlib.Path) -> None:
    items = made_items(header(), ragged=True)
    write(tmp_path / "tokens", header(), items, token_format=Shards(shard_items=2))
    names = sorted(file.name for file in (tmp_path / "tokens").iterdir())
    assert names == ["manifest.json", *(f"shard-0000{number}.safetensors" for number in range(3))]
    second = open_tokens(tmp_path / "tokens" / "shard-00001.safetensors")
    assert_same(second[0], items[2])
    assert len(second) == 2


def test_items_of_one_grid_are_one_tensor_and_cost_little_more_than_their_tokens(tmp_path: pathlib.Path) -> None:
    names = [f"folder/{index:08d}.jpg" for index in range(1000)]
    items = made_items(header(codebook_size=16384), names, grid=(16, 16))
    write(tmp_path / "tokens", header(codebook_size=16384), items)
    shard = load_file(tmp_path / "tokens" / "shard-00000.safetensors")
    assert [(name, tensor.shape) for name, tensor in shard.items()] == [("tokens", (1000, 16, 16))]
    assert shard["tokens"].dtype == numpy.uint16
    size = (tmp_path / "tokens" / "shard-00000.safetensors").stat().st_size
    assert size / 1000 < 1.08 * 512  # 16 × 16 tokens of 2 bytes; the name alone is 19


def test_only_the_shard_that_is_asked_is_opened(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "tokens", header(), made_items(header()), token_format=Shards(shard_items=2))
    reader = open_tokens(tmp_path / "tokens")
    path = tmp_path / "tokens" / "shard-00001.safetensors"
    path.write_bytes(bytes(path.stat().st_size))
    assert (reader[0].name, reader[4].name, len(reader), reader.grid) == ("a.png", "e.png", 5, (2, 3))
    with pytest.raises(MismatchError, match=r"shard-00001.safetensors is not a whole safetensors file"):
        reader[2]


def test_a_shard_adds_up_what_reading_would_count(tmp_path: pathlib.Path) -> None:
    items = made_items(header(groups=2), ragged=True)
    write(tmp_path / "tokens", header(groups=2), items, token_format=Shards(shard_items=2))
    _, tally, shards = read_tally(LocalFolder(tmp_path / "tokens"))
    expected = sum(count_tokens(item.tokens, 1000) for item in items)
    assert tally.counts is not None
    assert torch.equal(tally.counts, expected)
    assert (tally.items, tally.grid) == (5, None)
    assert tally.samples == sum(item.signal_size[0] * item.signal_size[1] for item in items)
    digests = [hashlib.sha256((tmp_path / "tokens" / shard.name).read_bytes()).hexdigest() for shard in shards]
    assert [shard.sha256 for shard in shards] == digests


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
    manifest = tmp_path / "tokens" / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text(whole[:-9])
    with pytest.raises(MismatchError, match=r"is damaged: .* is not JSON"):
        open_tokens(tmp_path / "tokens")
    manifest.write_text("{}")
    with pytest.raises(MismatchError, match="was not written by tok encode"):
        open_tokens(tmp_path / "tokens")
    manifest.write_text(whole.replace('"items": 2', '"items": "2"'))
    with pytest.raises(MismatchError, match="damaged list of shards"):
        open_tokens(tmp_path / "tokens")
    manifest.write_text(whole)
    (tmp_path / "tokens" / "shard-00001.safetensors").unlink()
    with pytest.raises(
        MismatchError, match=r"the shard shard-00001.safetensors, which manifest.json lists, is missing"
    ):
        open_tokens(tmp_path / "tokens")


def test_a_shard_of_another_encode_is_refused(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "tokens", header(), made_items(header()), token_format=Shards(shard_items=2))
    write(tmp_path / "others", header(split="vol"), made_items(header()), token_format=Shards(shard_items=2))
    shutil.copy(tmp_path / "others" / "shard-00001.safetensors", tmp_path / "tokens")
    with pytest.raises(MismatchError, match=r"comes from another encode than the manifest.json beside it"):
        list(open_tokens(tmp_path / "tokens"))


def test_shards_are_looked_for_in_the_folder_alone(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "tokens", header(), made_items(header()))
    (tmp_path / "tokens" / "shard-00000.safetensors").rename(tmp_path / "outside.safetensors")
    manifest = tmp_path / "tokens" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("shard-00000", "../outside"))
    with pytest.raises(MismatchError, match=r"the shard ../outside.safetensors, .* is missing"):
        open_tokens(tmp_path / "tokens")


def test_a_folder_of_other_things_is_no_token_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(MismatchError, match=r"photos is not a folder of tokens: it has no manifest.json"):
        open_tokens(tmp_path / "photos")
