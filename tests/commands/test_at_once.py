"""Two commands at the same place at once: both are right, or one is refused and touches nothing."""

import contextlib
import pathlib
import shutil
import threading

import pytest

from tokcli.artifacts import load_artifact
from tokcli.artifacts.artifact import lock_of
from tokcli.commands import build_codebook as module
from tokcli.commands.build_codebook import build_codebook
from tokcli.locking import hold
from tokcli.progress import Task
from tokcli.training.run_folder import RunFolder

VPVAE = "quantizer={kind: vpvae, dim: 3, codebook_size: 8}"


class Notes:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)

    def task(self, label: str, total: int | None, unit: str, done: int = 0) -> Task:
        from tokcli.progress import SILENT

        return SILENT.task(label, total, unit, done)


@pytest.fixture
def artifact(tok, tiny: str, tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "tiny.yaml").write_text(tiny)
    outcome = tok("train", "tiny.yaml", VPVAE, "-q")
    assert outcome.code == 0, outcome.err
    return tmp_path / "runs" / "tiny" / "tokenizer.safetensors"


def test_two_that_build_codebooks_both_land(artifact: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both_read = threading.Barrier(2)
    read = module.open_data

    def read_together(*arguments):
        with contextlib.suppress(threading.BrokenBarrierError):
            both_read.wait(timeout=5)  # as without a lock, where both have read before one writes
        return read(*arguments)

    monkeypatch.setattr(module, "open_data", read_together)
    notes = Notes()
    threads = [
        threading.Thread(
            target=build_codebook, args=[str(artifact)], kwargs={"sizes": [size], "device": "cpu", "reporter": notes}
        )
        for size in (8, 16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.size for report in load_artifact(artifact).codebooks] == [8, 16]
    # Who holds it is named as soon as it has written its name, a moment after it took the lock.
    assert any(line.startswith(f"waiting: {artifact} is being written by ") for line in notes.lines)


def test_a_run_and_its_artifact_have_one_lock(tmp_path: pathlib.Path) -> None:
    run = RunFolder(tmp_path)
    assert lock_of(run.artifact) == run.lock
    assert lock_of(tmp_path / "moved.safetensors") == tmp_path / ".moved.safetensors.lock"


def test_an_encode_beside_another_is_refused_and_destroys_nothing(
    tok, tiny_run: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    arguments = ["encode", "photos", "-m", "runs/tiny", "-o", "tokens.npy", "-q"]
    assert tok(*arguments).code == 0
    before = (tmp_path / "tokens.npy").read_bytes()
    partial = tmp_path / ".tokens.npy.partial"
    partial.mkdir()
    (partial / "journal.jsonl").write_text("of the other")
    with hold(tmp_path / ".tokens.npy.lock", "tokens.npy"):
        for flags in ([], ["--force"], ["--resume"]):
            outcome = tok(*arguments, *flags)
            assert outcome.code == 1
            assert "tokens.npy is being written by process" in outcome.err
    assert (partial / "journal.jsonl").read_text() == "of the other"
    assert (tmp_path / "tokens.npy").read_bytes() == before
    shutil.rmtree(partial)
    assert tok(*arguments, "--force").code == 0
