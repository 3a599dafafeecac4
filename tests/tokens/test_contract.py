"""What every format of token files promises, whichever it is: a new line in the table is tested by being there."""

import contextlib
import pathlib
import shutil
import tracemalloc
from collections.abc import Sequence
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies
from token_samples import (
    BROKEN,
    NAMES,
    Killed,
    assert_same,
    contents,
    feed,
    header,
    interrupted,
    made_items,
    name_of,
    write,
)

from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.tokens import FORMATS, TokenFormat, TokenItem, open_tokens, open_writer, spool
from tokcli.tokens.format import all_formats, format_of
from tokcli.tokens.shards import Shards

KEPT = [*all_formats(), Shards(shard_items=2)]
EVERY_FORMAT = pytest.mark.parametrize("kept", KEPT, ids=[*FORMATS, "a folder of several shards"])
RAGGED_FORMATS = pytest.mark.parametrize("kept", [kept for kept in KEPT if kept.ragged], ids=lambda kept: kept.name)


@EVERY_FORMAT
def test_its_paths_are_its_own_and_the_command_line_shows_one(kept: TokenFormat, tok) -> None:
    assert type(format_of(pathlib.Path(name_of(kept)))) is type(kept)
    assert len({each.name for each in all_formats()}) == len(FORMATS)
    assert kept.path_for("tokens") in FORMATS
    assert kept.path_for("tokens") in " ".join(tok("encode", "--help").out.split())  # lines break where they must


@EVERY_FORMAT
def test_it_is_listed_where_a_path_is_of_no_format(tmp_path: pathlib.Path, kept: TokenFormat) -> None:
    with pytest.raises(UsageError, match="tokens are kept as") as refused:
        open_writer(tmp_path / "tokens.unknown", header(), NAMES)
    assert kept.usage in str(refused.value)


@EVERY_FORMAT
@hypothesis.settings(
    max_examples=25, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(
    codebook_size=strategies.sampled_from([1, 2, 256, 257, 1000, 65536, 65537, 2**31]),
    groups=strategies.integers(1, 3),
    grid=strategies.lists(strategies.integers(1, 5), min_size=1, max_size=3).map(tuple),
    count=strategies.integers(1, 4),
    ragged=strategies.booleans(),
)
def test_what_is_written_is_read(
    tmp_path: pathlib.Path,
    kept: TokenFormat,
    codebook_size: int,
    groups: int,
    grid: tuple[int, ...],
    count: int,
    ragged: bool,
) -> None:
    about = header(codebook_size=codebook_size, groups=groups)
    items = made_items(about, NAMES[:count], grid, ragged and kept.ragged)
    write(tmp_path / name_of(kept), about, items, force=True, token_format=kept)
    reader = open_tokens(tmp_path / name_of(kept))
    assert reader.header == about
    assert len(reader) == count
    for found, expected in zip(reader, items, strict=True):
        assert_same(found, expected)


@EVERY_FORMAT
def test_failed_items_are_listed_and_left_out(tmp_path: pathlib.Path, kept: TokenFormat) -> None:
    items = made_items(header())
    write(tmp_path / name_of(kept), header(), items, BROKEN, token_format=kept)
    reader = open_tokens(tmp_path / name_of(kept))
    assert [record.item for record in reader.records] == ["a.png", "sub/b.png", "ü c.png", "e.png"]
    assert [(failure.item, failure.reason) for failure in reader.failed] == [("d.png", "not an image")]
    assert_same(reader[3], items[4])


@EVERY_FORMAT
@pytest.mark.parametrize("groups", [1, 2])
def test_tokens_of_one_grid_make_an_array(tmp_path: pathlib.Path, kept: TokenFormat, groups: int) -> None:
    about = header(groups=groups)
    items = made_items(about)
    write(tmp_path / name_of(kept), about, items)
    reader = open_tokens(tmp_path / name_of(kept))
    array = reader.array()
    assert reader.grid == (2, 3)
    assert array.dtype == np.uint16
    assert np.array_equal(array, torch.stack([item.tokens for item in items]).numpy())


@RAGGED_FORMATS
def test_ragged_items_make_no_array(tmp_path: pathlib.Path, kept: TokenFormat) -> None:
    write(tmp_path / name_of(kept), header(), made_items(header(), ragged=True))
    reader = open_tokens(tmp_path / name_of(kept))
    assert reader.grid is None
    with pytest.raises(UsageError, match="its items differ in grid"):
        reader.array()


@EVERY_FORMAT
def test_a_format_of_one_grid_refuses_others_with_the_way_out(tmp_path: pathlib.Path, kept: TokenFormat) -> None:
    if kept.ragged:
        return
    words = r"sub/b.png has 2×4 tokens and a.png has 2×3, but a .* file holds one grid; write to tokens.safetensors or"
    with pytest.raises(UsageError, match=words):
        write(tmp_path / name_of(kept), header(), made_items(header(), ragged=True), token_format=kept)
    assert list(tmp_path.iterdir()) == []


@EVERY_FORMAT
@pytest.mark.parametrize("name", ["a b.png", "ünï/çödé.png", "__metadata.png", 'quote".png', "n" * 250 + ".png"])
def test_items_of_any_name_come_back(tmp_path: pathlib.Path, kept: TokenFormat, name: str) -> None:
    items = made_items(header(), [name, "other.png"])
    write(tmp_path / name_of(kept), header(), items, token_format=kept)
    reader = open_tokens(tmp_path / name_of(kept))
    assert [item.name for item in reader] == [name, "other.png"]
    assert_same(reader[0], items[0])


@EVERY_FORMAT
def test_tokens_are_read_when_they_are_asked_for(tmp_path: pathlib.Path, kept: TokenFormat) -> None:
    """16 MB of tokens are opened without them, and one item of 64 is read in much less memory than all of them take.

    An item is 256 KB, and text that becomes a list of integers is some ten times that for a moment.
    """
    about = header(codebook_size=2**31)
    items = made_items(about, [f"{number}.png" for number in range(64)], grid=(256, 256))
    write(tmp_path / name_of(kept), about, items, token_format=kept)
    tracemalloc.start()
    try:
        reader = open_tokens(tmp_path / name_of(kept))
        assert tracemalloc.get_traced_memory()[1] < 2**20
        assert_same(reader[2], items[2])
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


@EVERY_FORMAT
def test_a_missing_file_is_missing_input(tmp_path: pathlib.Path, kept: TokenFormat) -> None:
    with pytest.raises(InputError, match=r"there is no token file .*tokens"):
        open_tokens(tmp_path / name_of(kept))


@EVERY_FORMAT
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_that_was_cut_off_is_refused(tmp_path: pathlib.Path, kept: TokenFormat, share: float) -> None:
    """Each of the files that the format makes, in turn: none of them can lose its end unnoticed."""
    path = tmp_path / name_of(kept)
    write(path, header(), made_items(header()), token_format=kept)
    for file in [each for each in tmp_path.rglob("*") if each.is_file()]:
        whole = file.read_bytes()
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(MismatchError, match="tokens"):
            list(open_tokens(path))
        file.write_bytes(whole)
    assert len(list(open_tokens(path))) == 5


@EVERY_FORMAT
def test_a_changed_bit_is_read_or_refused(tmp_path: pathlib.Path, kept: TokenFormat) -> None:
    """A bit in every fifth byte of each of its files: whatever a damaged file holds, no other error comes of it."""
    path = tmp_path / name_of(kept)
    write(path, header(), made_items(header()), token_format=kept)
    for file in [each for each in tmp_path.rglob("*") if each.is_file()]:
        whole = file.read_bytes()
        for position in range(0, len(whole), 5):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << position % 8
            file.write_bytes(damaged)
            with contextlib.suppress(MismatchError):
                list(open_tokens(path))
        file.write_bytes(whole)
    assert len(list(open_tokens(path))) == 5


@EVERY_FORMAT
def test_an_existing_file_is_kept_unless_forced(tmp_path: pathlib.Path, kept: TokenFormat) -> None:
    write(tmp_path / name_of(kept), header(), made_items(header()))
    before = contents(tmp_path / name_of(kept))
    for resume in (False, True):
        with pytest.raises(UsageError, match="exists already; overwrite it with --force, or choose another name"):
            open_writer(tmp_path / name_of(kept), header(), NAMES, resume=resume)
    assert contents(tmp_path / name_of(kept)) == before
    write(tmp_path / name_of(kept), header(), made_items(header(), grid=(1, 4)), force=True)
    assert open_tokens(tmp_path / name_of(kept)).grid == (1, 4)


@EVERY_FORMAT
def test_a_file_of_failures_alone_is_not_written(tmp_path: pathlib.Path, kept: TokenFormat) -> None:
    with pytest.raises(InputError, match=r"none of the 5 items could be encoded; the first, a.png: unreadable"):
        write(tmp_path / name_of(kept), header(), made_items(header()), dict.fromkeys(NAMES, "unreadable"))
    assert list(tmp_path.iterdir()) == []


@EVERY_FORMAT
def test_a_file_of_no_items_is_not_written(tmp_path: pathlib.Path, kept: TokenFormat) -> None:
    with pytest.raises(InputError, match="there is nothing to encode"):
        write(tmp_path / name_of(kept), header(), [], token_format=kept)
    assert list(tmp_path.iterdir()) == []


def uninterrupted(folder: pathlib.Path, kept: TokenFormat, items: Sequence[TokenItem]) -> dict[str, bytes]:
    write(folder / name_of(kept), header(), items, BROKEN, token_format=kept)
    return contents(folder / name_of(kept))


@EVERY_FORMAT
@pytest.mark.parametrize("after", range(6))
def test_a_resumed_file_equals_an_uninterrupted_one(tmp_path: pathlib.Path, kept: TokenFormat, after: int) -> None:
    items = made_items(header())
    expected = uninterrupted(tmp_path / "whole", kept, items)
    interrupted(tmp_path / "cut" / name_of(kept), items, after, kept)
    with pytest.raises(InputError, match="an encode of it was interrupted, finish it with --resume"):
        open_tokens(tmp_path / "cut" / name_of(kept))
    write(tmp_path / "cut" / name_of(kept), header(), items, BROKEN, resume=True, token_format=kept)
    assert contents(tmp_path / "cut" / name_of(kept)) == expected


@EVERY_FORMAT
def test_any_cut_of_the_journal_and_the_tokens_can_be_resumed(
    tmp_path: pathlib.Path, kept: TokenFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut at every byte of one file while the other is whole, and at pairs of both."""
    monkeypatch.setattr(spool.os, "fsync", lambda descriptor: None)  # hundreds of resumes; no power fails here
    items = made_items(header())
    expected = uninterrupted(tmp_path / "whole", kept, items)
    partial = interrupted(tmp_path / "cut" / name_of(kept), items, 5, kept)
    tokens, journal = ((partial / name).read_bytes() for name in (spool.TOKENS, spool.JOURNAL))
    cuts = [(end, len(journal)) for end in range(0, len(tokens) + 1, 3)]
    cuts += [(len(tokens), end) for end in range(0, len(journal) + 1, 7)]
    cuts += [(end, len(journal) * end // len(tokens)) for end in range(0, len(tokens), 11)]
    identity = (partial / "identity.json").read_bytes()
    shutil.rmtree(tmp_path / "cut")
    for tokens_end, journal_end in cuts:
        partial.mkdir(parents=True)
        (partial / "identity.json").write_bytes(identity)
        (partial / spool.TOKENS).write_bytes(tokens[:tokens_end])
        (partial / spool.JOURNAL).write_bytes(journal[:journal_end])
        write(tmp_path / "cut" / name_of(kept), header(), items, BROKEN, resume=True, token_format=kept)
        assert contents(tmp_path / "cut" / name_of(kept)) == expected, (tokens_end, journal_end)
        shutil.rmtree(tmp_path / "cut")


@pytest.fixture
def _every_item_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SECONDS_BETWEEN_COMMITS", 0.0)


@EVERY_FORMAT
@pytest.mark.usefixtures("_every_item_committed")
def test_the_disk_as_a_kill_leaves_it_after_every_item_can_be_resumed(
    tmp_path: pathlib.Path, kept: TokenFormat
) -> None:
    """Copies of the folder taken while the writer is at work: nothing is told that the end has come."""
    items = made_items(header())
    expected = uninterrupted(tmp_path / "whole", kept, items)
    with open_writer(tmp_path / "live" / name_of(kept), header(), NAMES, token_format=kept) as writer:
        for index, item in enumerate(items):
            feed(writer, item, BROKEN)
            shutil.copytree(tmp_path / "live", tmp_path / f"copy-{index}")
    for index in range(len(items)):
        copy = tmp_path / f"copy-{index}" / name_of(kept)
        assert not copy.exists()
        with open_writer(copy, header(), NAMES, resume=True, token_format=kept) as writer:
            assert list(writer.done) == NAMES[: index + 1]
            for item in items[index + 1 :]:
                feed(writer, item, BROKEN)
        assert contents(copy) == expected


@EVERY_FORMAT
@pytest.mark.parametrize("overwriting", [False, True])
def test_a_kill_while_publishing_leaves_the_old_file_the_new_one_or_one_to_resume(
    tmp_path: pathlib.Path, kept: TokenFormat, overwriting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop before each call that changes the disk on the way from the spool to the file."""
    items = made_items(header())
    older = made_items(header(), grid=(3, 3))
    expected = uninterrupted(tmp_path / "whole", kept, items)
    for stop in range(1, 20):
        path = tmp_path / f"cut-{stop}" / name_of(kept)
        if overwriting:
            write(path, header(), older, token_format=kept)
        calls = iter(range(stop))
        with monkeypatch.context() as patch:
            for owner, name in [
                (spool.os, "replace"),
                (spool.os, "rename"),
                (pathlib.Path, "unlink"),
                (shutil, "rmtree"),
            ]:
                patch.setattr(owner, name, stopping(getattr(owner, name), calls))
            try:
                write(path, header(), items, BROKEN, force=overwriting, token_format=kept)
                finished = True
            except Killed:
                finished = False
        if path.exists():
            assert open_tokens(path).grid in {(2, 3), (3, 3)}
        if finished:
            assert contents(path) == expected
            return
        write(path, header(), items, BROKEN, resume=True, force=True, token_format=kept)
        assert contents(path) == expected
    pytest.fail("publishing never came to its end")


def stopping(function: Any, calls: Any) -> Any:
    def stops(*arguments: Any, **options: Any) -> Any:
        if next(calls, None) is None:
            raise Killed
        return function(*arguments, **options)

    return stops
