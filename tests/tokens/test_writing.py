"""Writing items in order: what no token file can hold is refused, and what was begun is resumed or left alone."""

import os
import pathlib
from typing import Any

import numpy as np
import pytest
import torch
from token_samples import BROKEN, NAMES, contents, header, interrupted, made_items, write

from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.locking import BusyError
from tokcli.tokens import open_tokens, open_writer, spool


def test_numpy_tokens_are_taken_too(tmp_path: pathlib.Path) -> None:
    with open_writer(tmp_path / "tokens.npy", header(), ["a.png"]) as writer:
        writer.append("a.png", np.arange(6).reshape(2, 3, 1), (8, 12), (8, 12))
    assert open_tokens(tmp_path / "tokens.npy")[0].tokens.flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_ragged_items_are_refused_in_npy_with_the_way_out(tmp_path: pathlib.Path) -> None:
    words = (
        r"sub/b.png has 2×4 tokens and a.png has 2×3, but a .npy file holds one grid; "
        r"write to tokens.safetensors or to .*a folder, or give all one --size N"
    )
    with pytest.raises(UsageError, match=words):
        write(tmp_path / "tokens.npy", header(), made_items(header(), ragged=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["tokens.npz", "tokens.pt", "tokens.json"])
def test_another_ending_is_refused_with_the_three_forms(tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"NAME.npy .* NAME.safetensors .* or a folder of shards"):
        open_writer(tmp_path / name, header(), NAMES)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UsageError, match=r"tokens are kept as NAME.npy"):
        open_tokens(tmp_path / name)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (torch.tensor([[[1000]]]), "from 1000 to 1000 are not integers below 1000"),
        (torch.tensor([[[-1]]]), "from -1 to -1 are not integers below 1000"),
        (torch.tensor([[[0.5]]]), "float32 from 0 to 0 are not integers"),
        (torch.zeros(2, 3, dtype=torch.int64), r"tokens of shape \(2, 3\) are not \(\*grid, 1\)"),
    ],
)
def test_tokens_that_no_tokenizer_gives_are_a_bug(tmp_path: pathlib.Path, tokens: torch.Tensor, words: str) -> None:
    writer = open_writer(tmp_path / "tokens.npy", header(), NAMES)
    with pytest.raises(ValueError, match=words):
        writer.append("a.png", tokens, (1, 1), (1, 1))


def test_items_out_of_order_or_missing_are_a_bug(tmp_path: pathlib.Path) -> None:
    writer = open_writer(tmp_path / "tokens.npy", header(), ["a", "b"])
    with pytest.raises(ValueError, match="items are written in order: expected a, got b"):
        writer.append("b", torch.zeros(1, 1, 1, dtype=torch.int64), (1, 1), (1, 1))
    writer.fail("a", "unreadable")
    with pytest.raises(ValueError, match="1 items were never appended"):
        writer.close()
    with pytest.raises(ValueError, match="names of the items are not unique"):
        open_writer(tmp_path / "other.npy", header(), ["a", "a"])


def test_names_that_are_not_text_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match=r"file name '\\udcff.png' is not valid UTF-8; rename the file"):
        open_writer(tmp_path / "tokens.npy", header(), ["\udcff.png"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codebook_size": 0}, "codebook_size must be from 1 to 2147483648, got 0"),
        ({"codebook_size": 2**31 + 1}, "codebook_size must be from 1 to 2147483648, got 2147483649"),
        ({"groups": 0}, "groups must be at least 1, got 0"),
    ],
)
def test_numbers_that_make_no_sense_make_no_header(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        header(**changes)


def test_a_full_disk_leaves_a_file_to_resume(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = made_items(header())
    write(tmp_path / "whole" / "tokens.npy", header(), items, BROKEN)
    expected = contents(tmp_path / "whole" / "tokens.npy")
    path = tmp_path / "cut" / "tokens.npy"

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"), open_writer(path, header(), NAMES) as writer:  # noqa: PT012
        writer.append("a.png", items[0].tokens, (100, 90), (7, 11))
        monkeypatch.setattr(spool.os, "fsync", full)
        monkeypatch.setattr(spool, "SECONDS_BETWEEN_COMMITS", 0.0)
        writer.append("sub/b.png", items[1].tokens, (101, 90), (7, 11))
    monkeypatch.undo()
    write(path, header(), items, BROKEN, resume=True)
    assert contents(path) == expected


def test_resuming_where_nothing_began_simply_begins(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "tokens.npy", header(), made_items(header()), resume=True)
    assert len(open_tokens(tmp_path / "tokens.npy")) == 5


def test_an_interrupted_file_is_not_overwritten_without_a_word(tmp_path: pathlib.Path) -> None:
    items = made_items(header())
    interrupted(tmp_path / "tokens.npy", items, 2)
    words = r"an earlier encode of 5 items was interrupted; go on with --resume, or start over with --force"
    with pytest.raises(UsageError, match=words):
        open_writer(tmp_path / "tokens.npy", header(), NAMES)
    write(tmp_path / "tokens.npy", header(weights="raw"), items, force=True)
    assert open_tokens(tmp_path / "tokens.npy").header.weights == "raw"


@pytest.mark.parametrize(
    ("changes", "names", "words"),
    [
        ({"network_fingerprint": "ef" * 32}, NAMES, "was begun with another tokenizer; resume it as it was begun"),
        ({"codebook_fingerprint": "ef" * 32}, NAMES, "was begun with another tokenizer"),
        ({"split": "train"}, NAMES, "with other settings: split was 'val' and is 'train'"),
        (
            {"preprocessing": {"resize": 128}},
            NAMES,
            "with other settings: preprocessing was .* or start over with --force",
        ),
        ({}, NAMES[:4], r"of other items \(5 then, 4 now, or other names\)"),
        ({}, NAMES[::-1], r"of other items \(5 then, 5 now, or other names\)"),
    ],
)
def test_resuming_something_else_is_refused(
    tmp_path: pathlib.Path, changes: dict[str, Any], names: list[str], words: str
) -> None:
    interrupted(tmp_path / "tokens.npy", made_items(header()), 2)
    with pytest.raises(MismatchError, match=words):
        open_writer(tmp_path / "tokens.npy", header(**changes), names, resume=True)


@pytest.mark.parametrize("how", [{}, {"resume": True}, {"force": True}])
def test_a_file_that_is_being_written_is_left_alone(tmp_path: pathlib.Path, how: dict[str, bool]) -> None:
    path = tmp_path / "tokens.npy"
    with open_writer(path, header(), NAMES) as writer:
        for item in made_items(header()):
            with pytest.raises(BusyError, match=f"{path} is being written by process {os.getpid()} on "):
                open_writer(path, header(), NAMES, **how)
            writer.append(item.name, item.tokens, item.original_size, item.signal_size)
    assert path.exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["tokens.npy", "tokens.npy.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_damaged_identity_is_named_and_force_starts_over(tmp_path: pathlib.Path, content: bytes) -> None:
    partial = tmp_path / ".tokens.npy.partial"
    partial.mkdir()
    (partial / "identity.json").write_bytes(content)
    for how in ({}, {"resume": True}):
        with pytest.raises(MismatchError, match=r"identity\.json is damaged; start over with --force"):
            open_writer(tmp_path / "tokens.npy", header(), NAMES, **how)
    with pytest.raises(InputError), open_writer(tmp_path / "tokens.npy", header(), ["a"], force=True) as writer:
        writer.fail("a", "no reason")
