"""`--on slurm`: an array of jobs, each the same command; whatever a job makes of it, the folder is whole."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

TYPED = ["encode", "photos", "-o", "tokens", "--size", "16", "--on", "slurm", "--jobs=3", "--time", "4:00"]


def test_a_dry_run_prints_the_script(tok, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tok", *TYPED, "--dry-run"])
    outcome = tok(*TYPED, "--dry-run")
    assert outcome.code == 0, outcome.err
    *head, last = outcome.out.splitlines()
    assert last == f"exec {sys.executable} -m tokcli encode photos -o tokens --size 16"
    assert {"#SBATCH --array=0-2", "#SBATCH --time=4:00:00", "#SBATCH --requeue"} <= set(head)
    assert not pathlib.Path("tokens-logs").exists()


def test_an_evaluation_is_an_array_of_jobs_too(tok, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["eval", "runs/a", "--data", "photos", "-o", "scores", "--on", "slurm", "--jobs=3"]
    monkeypatch.setattr(sys, "argv", ["tok", *words, "--dry-run"])
    outcome = tok(*words, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-1] == f"exec {sys.executable} -m tokcli eval runs/a --data photos -o scores"
    assert "#SBATCH --job-name=tok-eval" in outcome.out


def test_what_slurm_says_is_told(tok, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tok", *TYPED])
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    outcome = tok(*TYPED)
    assert (outcome.code, "there is no sbatch here" in outcome.err) == (1, True)
    (programs / "sbatch").write_text("#!/bin/sh\n/bin/cat > script; echo Submitted batch job 7\n")
    (programs / "sbatch").chmod(0o755)
    outcome = tok(*TYPED, "--json")
    assert outcome.json == {"slurm": "Submitted batch job 7\nnext: tok encode -o tokens --status\n"}
    (programs / "sbatch").write_text("#!/bin/sh\necho 'Invalid partition' >&2; exit 1\n")
    outcome = tok(*TYPED)
    assert (outcome.code, "sbatch refused: Invalid partition" in outcome.err) == (1, True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--time", "soon"], "--time: expected hours:minutes"),
        (["--force"], "remove the folder instead of --force"),
        (["-o", "tokens.npy"], "--on slurm makes a folder of shards"),
        (["--on", "moon"], "--on: expected slurm or ray"),
    ],
)
def test_what_jobs_cannot_do_is_refused(tok, changes: list[str], words: str) -> None:
    outcome = tok(*TYPED, *changes, "--dry-run")
    assert (outcome.code, words in outcome.err) == (2, True), outcome.err


@pytest.mark.slow
def test_the_jobs_of_the_script_make_the_folder(tok, tiny_run, photos, tmp_path, monkeypatch) -> None:
    """Each task of the array run as Slurm would run it, two of them at once."""
    monkeypatch.setattr(sys, "argv", ["tok", *TYPED])
    (tmp_path / "job.sh").write_text(tok(*TYPED, "--dry-run").out)
    package = str(pathlib.Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": package, "OMP_NUM_THREADS": "1"}
    tasks = [
        subprocess.Popen(["bash", "job.sh"], env=environment | {"SLURM_ARRAY_TASK_ID": str(task)}) for task in range(2)
    ]
    assert [task.wait() for task in tasks] == [0, 0]
    assert json.loads((tmp_path / "tokens" / "manifest.json").read_text())["items"] == 5
