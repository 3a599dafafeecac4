"""What a run may overwrite and remove, and what damage in its folder it survives."""

import json
import pathlib
import shutil

import pytest

from tokcli.locking import hold
from tokcli.training.run_folder import RunFolder


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("flag", [[], ["--force"]])
def test_a_projects_own_files_are_not_taken_for_a_run(tok, tiny: str, tmp_path: pathlib.Path, flag: list[str]) -> None:
    (tmp_path / "recipe.yaml").write_text(tiny)
    for name in ("samples/holiday.jpg", "checkpoints/other-model.bin"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    outcome = tok("train", "recipe.yaml", "--out", ".", *flag)
    assert outcome.code == 2
    assert "recipe.yaml is there, and no run of tok made it" in outcome.err
    assert contents(tmp_path) == before


def test_force_removes_what_a_run_made_and_nothing_else(tiny_run: pathlib.Path) -> None:
    own = {
        "notes.md",
        "samples/holiday.jpg",
        "checkpoints/other-model.bin",
        "tensorboard/notes.md",
        "samples/sub/a.png",
    }
    for name in own:
        (tiny_run / name).parent.mkdir(exist_ok=True)
        (tiny_run / name).write_text("mine")
    (tiny_run / "samples" / "linked").symlink_to(tiny_run.parent)
    RunFolder(tiny_run).clear()
    assert set(contents(tiny_run)) == {*own, ".tok-run"}
    assert tiny_run.is_dir()


@pytest.mark.parametrize("name", [".", "..", ""])
def test_a_name_does_not_leave_the_folder_of_runs(tok, tiny: str, tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / "recipe.yaml").write_text(tiny)
    outcome = tok("train", "recipe.yaml", f"name='{name}'")
    assert outcome.code == 2
    assert "name: it names the run's folder" in outcome.err
    assert list(tmp_path.iterdir()) == [tmp_path / "recipe.yaml"]


@pytest.mark.parametrize("flag", [[], ["--force"]])
def test_a_run_that_another_process_writes_is_left_alone(tok, tiny_run: pathlib.Path, flag: list[str]) -> None:
    before = contents(tiny_run)
    with hold(RunFolder(tiny_run).lock, tiny_run):
        outcome = tok("train", "tiny.yaml", *flag)
        assert outcome.code == 1
        assert "runs/tiny is being written by process" in outcome.err
        now = contents(tiny_run)
        assert now.pop(".tok-lock")
        assert now == before


def test_damaged_files_of_an_interrupted_run_are_named_and_survived(tok, tiny: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    assert tok("train", "tiny.yaml", "-q").code == 0
    run = tmp_path / "runs" / "tiny"
    whole = tmp_path / "whole"
    shutil.copytree(run, whole)
    (run / "tokenizer.safetensors").unlink()
    (run / "recipe.yaml").write_bytes(b"\0\xff")
    (run / "checkpoints" / "step-00000006.safetensors").write_bytes(b"half")
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(b"".join([lines[0], b"[]\n", b"\xff\n", b'{"step": "x"}\n', *lines[1:]]))
    outcome = tok("train", "tiny.yaml")
    assert outcome.code == 0, outcome.err
    for name in ("recipe.yaml", "metrics.jsonl", "step-00000006.safetensors"):
        assert f"{name}.damaged" in outcome.err
    resumed = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in resumed] == [json.loads(line)["step"] for line in lines]
    assert (run / "recipe.yaml").read_bytes() == (whole / "recipe.yaml").read_bytes()


@pytest.mark.parametrize(
    ("step", "tensors"),
    [
        ("-1", {}),
        ("x", {}),
        ("9" * 30, {}),
        ("3", {"tokenizer.optimizer/99999/exp_avg": 1}),
        ("3", {"tokenizer/no": 1}),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_no_way_on(
    tok, tiny: str, tmp_path: pathlib.Path, step: str, tensors
) -> None:
    import torch

    from tokcli.artifacts.tensors import read_tensors, write_tensors

    (tmp_path / "tiny.yaml").write_text(tiny)
    assert tok("train", "tiny.yaml", "-q").code == 0
    run = RunFolder(tmp_path / "runs" / "tiny")
    run.artifact.unlink()
    for path in run.checkpoints.glob("step-*.safetensors"):
        file = read_tensors(path)
        added = {name: torch.zeros(size) for name, size in tensors.items()}
        write_tensors(path, file.tensors | added, file.metadata | {"step": step})
    outcome = tok("train", "tiny.yaml")
    assert outcome.code == 0, outcome.err
    assert "is a damaged checkpoint" in outcome.err
