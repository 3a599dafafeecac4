"""`tok sweep` as a whole: what is missing is run, what is finished is not, and nothing that dies takes it down."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from tokcli.sweeps.runner import claim_lock, make_environments

TABLE = """# A table for a test.
columns: [psnr, cvu]
seeds: [0, 1]
sizes: [36]
overrides: [training.steps=40, training.checkpoint_every=5, evaluation.items=2]
methods:
  fsp: {recipe: tiny.yaml, by_size: {36: []}}
  vq: {recipe: tiny.yaml, overrides: ["quantizer={kind: vq, dim: 3, codebook_size: 36}"], by_size: {36: []}}
evaluate:
  leaves: {kind: dead-leaves, items: 2, size: 16, seed: 9}
curves: [cvu]
"""
PACKAGE = str(pathlib.Path(__file__).parents[2])


@pytest.fixture
def folder(tiny: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    (tmp_path / "tiny.yaml").write_text(tiny)
    (tmp_path / "table.yaml").write_text(TABLE)
    monkeypatch.setenv("PYTHONPATH", PACKAGE)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def start(folder: pathlib.Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tokcli", "sweep", "table.yaml", *arguments, "--device", "cpu"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def trainings_in(folder: pathlib.Path) -> list[int]:
    """Processes that train or judge a cell under `folder`."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")
            if {"train", "judge-cell"} & set(words) and os.readlink(entry.parent / "cwd") == str(folder):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def table_of(folder: pathlib.Path) -> list:
    return [json.loads((folder / "table.json").read_text())["rows"], (folder / "table.csv").read_text()]


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/cmdline").exists(), reason="finds processes through /proc")
def test_a_sweep_killed_at_random_ends_in_the_same_table(folder: pathlib.Path) -> None:
    assert start(folder, "--jobs", "2", "--out", "once/whole").wait() == 0
    chance = random.Random(0)
    kills = 0
    while kills < 5:
        process = start(folder, "--jobs", "2", "--out", "often/parts")
        try:
            process.wait(timeout=chance.uniform(2, 9))
            break  # a fast machine has come to the end between two kills
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        if kills % 2 == 0:  # and at times what it had started as well; at others that lives on, and is waited for
            for number in trainings_in(folder):
                os.kill(number, signal.SIGKILL)
    assert kills >= 2
    assert start(folder, "--jobs", "2", "--out", "often/parts").wait() == 0
    assert not trainings_in(folder)
    assert table_of(folder / "often/parts") == table_of(folder / "once/whole")
    whole, parts = ((folder / name / "table.md").read_text() for name in ("once/whole", "often/parts"))
    assert parts.replace("often/parts", "once/whole") == whole


@pytest.mark.slow
def test_finished_cells_are_skipped_changed_ones_run_and_failures_told(tok, folder: pathlib.Path) -> None:
    arguments = ["sweep", "table.yaml", "methods=[fsp]", "--device", "cpu", "--json"]
    first = tok(*arguments)
    assert first.code == 0, first.err
    assert "0/2" in first.err or "2 cells, 2 to run" in first.err
    assert [row["n"] for row in first.json["rows"]] == [2]
    assert set(first.json["rows"][0]["figures"]) == {"in domain", "leaves"}
    again = tok(*arguments)
    assert "2 cells, 0 to run" in again.err
    assert again.json["rows"] == first.json["rows"]
    # The same recipe in another table is the same run, by whatever name.
    table = (folder / "table.yaml").read_text()
    (folder / "other.yaml").write_text(table.replace("  fsp:", "  ours:"))
    other = tok("sweep", "other.yaml", "methods=[ours]", "--device", "cpu", "--json")
    assert "2 cells, 0 to run" in other.err
    assert "2 of the cells are finished in sweeps beside this one" in other.err
    assert other.json["rows"] == [first.json["rows"][0] | {"method": "ours"}]
    # Another recipe is another run, never a stale figure; the former is found again.
    (folder / "tiny.yaml").write_text((folder / "tiny.yaml").read_text().replace("1e-3", "2e-3"))
    stale = tok(*arguments, "--render-only")
    assert stale.json["rows"][0]["figures"] == {}
    assert {cell["reason"] for cell in stale.json["cells"]} == {"not run"}
    (folder / "tiny.yaml").write_text((folder / "tiny.yaml").read_text().replace("2e-3", "1e-3"))
    assert tok(*arguments, "--render-only").json["rows"] == first.json["rows"]


@pytest.mark.slow
def test_diverged_and_failed_cells_are_shown_with_their_reasons(tok, folder: pathlib.Path) -> None:
    wild = "quantizer={kind: vq, dim: 3, codebook_size: 36}', training.learning_rate=1e30, 'training.clip_norm=null"
    (folder / "table.yaml").write_text(
        "columns: [psnr]\nmethods:\n"
        "  good: {recipe: tiny.yaml}\n"
        f"  wild: {{recipe: tiny.yaml, overrides: ['{wild}']}}\n"
        "  narrow: {recipe: tiny.yaml, overrides: ['autoencoder.latent_dim=5']}\n"
    )
    outcome = tok("sweep", "table.yaml", "--jobs", "2", "--device", "cpu", "--json")
    assert outcome.code == 5
    cells = {cell["cell"]: (cell["state"], cell["reason"]) for cell in outcome.json["cells"]}
    assert cells["good, seed 0"] == ("finished", None)
    assert cells["wild, seed 0"][0] == "diverged"
    assert "training diverged: the loss is not finite" in cells["wild, seed 0"][1]
    assert cells["narrow, seed 0"][0] == "failed"
    assert "the encoder gives 5 channels, but the quantizer reads 3" in cells["narrow, seed 0"][1]
    table = pathlib.Path("runs/table/table.md").read_text()
    assert "| wild   | 0 of 1 | –" in table
    assert "3 cells, 1 to run" in tok("sweep", "table.yaml", "--device", "cpu").err  # the failed one, not the diverged


@pytest.mark.slow
def test_ctrl_c_leaves_a_sweep_that_goes_on(folder: pathlib.Path) -> None:
    process = start(folder, "--jobs", "2")
    deadline = time.monotonic() + 120
    while len(list(folder.glob("runs/table/*/metrics.jsonl"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert not trainings_in(folder)
    assert list(folder.glob("runs/table/*/checkpoints/step-*.safetensors"))
    assert start(folder, "--jobs", "2").wait() == 0


def test_missing_data_is_told_once_before_anything_runs(tok, folder: pathlib.Path) -> None:
    outcome = tok("sweep", "table.yaml", "data.train={kind: images, path: nowhere}", "--device", "cpu")
    assert outcome.code == 3
    assert outcome.err.count("data.train.path=FOLDER") == 1
    assert not pathlib.Path("runs").exists()


def test_a_sweep_is_rendered_before_it_is_run(tok, folder: pathlib.Path) -> None:
    outcome = tok("sweep", "table.yaml", "--render-only")
    assert outcome.code == 0
    assert "| fsp    | 36  | –     | 0 of 2 |" in outcome.out
    assert "| vq, K = 36, seed 1  | missing | not run |" in outcome.out
    made = ["report.html", "table.csv", "table.json", "table.md"]
    assert sorted(path.name for path in pathlib.Path("runs/table").iterdir()) == made


def test_a_folder_with_a_run_is_no_place_for_a_sweep(tok, folder: pathlib.Path, tiny_run: pathlib.Path) -> None:
    outcome = tok("sweep", "table.yaml", "--out", str(tiny_run))
    assert outcome.code == 2
    assert "holds a run, not a sweep" in outcome.err


def test_a_cell_has_one_worker_even_where_its_sweep_is_gone(folder: pathlib.Path, monkeypatch) -> None:
    from tokcli.sweeps.cells import make_cells
    from tokcli.sweeps.plan import read_sweep

    monkeypatch.chdir(folder)
    cell = make_cells(read_sweep(TABLE, "table"), folder)[0]
    lock = claim_lock(cell)
    child = subprocess.Popen(["sleep", "30"], pass_fds=[lock.fileno()])
    lock.close()
    assert claim_lock(cell) is None
    child.kill()
    child.wait()
    assert claim_lock(cell) is not None


def test_slots_share_the_cores_and_each_gets_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    found = make_environments(3, 2)
    assert [place["OMP_NUM_THREADS"] for place in found] == ["2", "2", "2"]
    assert [place["CUDA_VISIBLE_DEVICES"] for place in found] == ["4", "6", "4"]
    assert "OMP_NUM_THREADS" not in make_environments(1, 2)[0]
    assert [len(make_environments(None, devices)) for devices in (2, 1, 0)] == [2, 1, 2]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert len(make_environments(None, 0)) == 1
