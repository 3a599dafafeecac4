"""A disk that fills up in the middle of an export: the files of a part are links to /dev/full, whose writes fail."""

import pathlib
import shutil

import pytest
from token_sets import write_tokens

from tokcli.exchange import EXCHANGE_FORMATS

FULL = pathlib.Path("/dev/full")
KINDS = list(EXCHANGE_FORMATS)


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_said_in_a_sentence_and_the_export_goes_on(
    kind: str, tok, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tokens(tmp_path / "tokens.npy", items=10)
    arguments = ["export", "tokens.npy", "--to", kind, "--part-items", 4]
    write_part = EXCHANGE_FORMATS[kind].write_part

    def write_to_full(self, items, tokens, folder, part):
        if part == 1:
            rehearsal = tmp_path / "rehearsal"
            rehearsal.mkdir()
            write_part(self, items, tokens, rehearsal, part)
            for file in [path for path in rehearsal.rglob("*") if path.is_file()]:
                link = folder / file.relative_to(rehearsal)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(FULL)
        write_part(self, items, tokens, folder, part)

    with monkeypatch.context() as patch:
        patch.setattr(EXCHANGE_FORMATS[kind], "write_part", write_to_full)
        outcome = tok(*arguments, "-o", "out")
    assert (outcome.code, "the disk is full" in outcome.err) == (1, True), outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "out").exists()

    for link in [path for path in (tmp_path / ".out.partial").rglob("*") if path.is_symlink()]:
        link.unlink()
    resumed = tok(*arguments, "-o", "out", "--resume")
    assert (resumed.code, "going on behind 4 items" in resumed.err) == (0, True), resumed.err
    shutil.rmtree(tmp_path / "rehearsal")
    assert tok(*arguments, "-o", "whole").code == 0
    assert content_of(tmp_path / "out") == content_of(tmp_path / "whole")


def content_of(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
