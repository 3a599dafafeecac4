"""A folder is decoded whole or gone on with, by one command at a time."""

import pathlib

import pytest

from tokcli.commands import decode as module
from tokcli.data.modality import MODALITIES
from tokcli.locking import hold


@pytest.fixture
def encoded(tok, tiny_run: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """Tokens of five pictures of different sizes."""
    outcome = tok("encode", "photos", "-o", "tokens.safetensors", "--size", "native", "-q")
    assert outcome.code == 0, outcome.err
    return tmp_path / "tokens.safetensors"


class Saving:
    """Counts the pictures that are saved, and is interrupted before one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_before: int | None = None) -> None:
        self.saved: list[str] = []
        self.stop_before = stop_before
        self.save = MODALITIES["image"].save
        entry = MODALITIES["image"]
        monkeypatch.setitem(module.MODALITIES, "image", type(entry)(**{**vars(entry), "save": self}))

    def __call__(self, path: pathlib.Path, pieces, sample_rate) -> None:
        if len(self.saved) == self.stop_before:
            raise KeyboardInterrupt
        self.save(path, pieces, sample_rate)
        self.saved.append(path.name)


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


DECODE = ["decode", "tokens.safetensors", "--batch-size", "1", "-q", "-o"]


def test_an_interrupted_decode_goes_on_behind_what_it_has_written(
    tok, encoded: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tok(*DECODE, "whole").code == 0
    saving = Saving(monkeypatch, stop_before=2)
    stopped = tok(*DECODE, "parts")
    assert stopped.code == 130
    assert "stopped after 2 of 5 files; the same command with --resume goes on" in stopped.err
    refused = tok(*DECODE, "parts")
    assert refused.code == 2
    assert "an earlier decode was interrupted after 2 files; go on with --resume, or start over with" in refused.err
    saving.stop_before, first = None, list(saving.saved)
    assert tok(*DECODE, "parts", "--resume").code == 0
    assert len(saving.saved) == 5
    assert not set(saving.saved[2:]) & set(first)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_decode_killed_between_a_file_and_its_line_decodes_that_file_again(
    tok, encoded: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving = Saving(monkeypatch, stop_before=3)
    assert tok(*DECODE, "parts").code == 130
    ledger = tmp_path / "parts" / ".decode.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 3
    ledger.write_bytes(b"".join(lines[:-1]) + lines[-1][:5])
    saving.stop_before = None
    assert tok(*DECODE, "parts", "--resume").code == 0
    assert len(saving.saved) == 3 + 3
    assert len(contents(tmp_path / "parts")) == 5


def test_a_file_that_was_removed_meanwhile_is_decoded_again(
    tok, encoded: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving = Saving(monkeypatch, stop_before=3)
    assert tok(*DECODE, "parts").code == 130
    next((tmp_path / "parts").rglob(saving.saved[0])).unlink()
    saving.stop_before = None
    assert tok(*DECODE, "parts", "--resume").code == 0
    assert len(contents(tmp_path / "parts")) == 5


def test_another_decode_is_not_gone_on_with(
    tok, encoded: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving = Saving(monkeypatch, stop_before=2)
    assert tok(*DECODE, "parts").code == 130
    saving.stop_before = None
    assert tok("encode", "photos", "-o", "tokens.safetensors", "--size", "16", "-q", "--force").code == 0
    outcome = tok(*DECODE, "parts", "--resume")
    assert outcome.code == 4
    assert "the interrupted decode was of other tokens" in outcome.err
    assert tok(*DECODE, "parts", "--force").code == 0
    assert not (tmp_path / "parts" / ".decode.jsonl").exists()


@pytest.mark.parametrize("damage", [b"", b"\x00", b"[]\n", b'{"identity"', b'{"identity": 3}\n5\n'])
def test_a_damaged_list_is_no_list(tok, encoded: pathlib.Path, tmp_path: pathlib.Path, damage: bytes) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / ".decode.jsonl").write_bytes(damage)
    assert tok(*DECODE, "parts").code == 0
    assert len(contents(tmp_path / "parts")) == 5


def test_two_decodes_do_not_fill_one_folder(tok, encoded: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert tok(*DECODE, "out").code == 0
    before = contents(tmp_path / "out")
    with hold(tmp_path / "out" / ".decode.lock", "out"):
        for flags in ([], ["--force"], ["--resume"]):
            outcome = tok(*DECODE, "out", *flags)
            assert outcome.code == 1
            assert "out is being written by process" in outcome.err
    assert contents(tmp_path / "out") == before


def test_resume_without_anything_to_go_on_from_starts_and_overwrites_nothing(
    tok, encoded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert tok(*DECODE, "out", "--resume").code == 0
    outcome = tok(*DECODE, "out", "--resume")
    assert outcome.code == 2
    assert "would be overwritten" in outcome.err
