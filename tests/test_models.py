"""Which models a command means, what it says where it cannot know, and what they are called beside each other."""

import pathlib

import pytest

from tokcli.models import shorten_labels


def labels(*artifacts: str) -> list[str]:
    return shorten_labels([pathlib.Path(each) for each in artifacts])


def test_labels_lose_the_folders_that_all_share_and_no_more() -> None:
    runs = [f"/x/runs/{name}/tokenizer.safetensors" for name in ("a", "b")]
    assert labels(*runs) == ["a", "b"]
    assert labels("runs/a/tokenizer.safetensors", "runs/deep/b/tokenizer.safetensors") == ["a", "deep/b"]
    assert labels("one/a/tokenizer.safetensors", "two/a/tokenizer.safetensors") == ["one/a", "two/a"]
    assert labels("runs/a/tokenizer.safetensors", "runs/a/checkpoints/best.safetensors") == [
        "a",
        "a/checkpoints/best.safetensors",
    ]
    assert labels("a.safetensors", "runs/b/tokenizer.safetensors") == ["a.safetensors", "runs/b"]
    assert labels("/x/a.safetensors", "runs/b/tokenizer.safetensors") == ["/x/a.safetensors", "runs/b"]
    assert labels("tokenizer.safetensors") == ["tokenizer.safetensors"]


@pytest.fixture
def sweep(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder of seven finished runs, one that has not finished, and a table."""
    monkeypatch.chdir(tmp_path)
    folder = pathlib.Path("runs/mine")
    for place in range(8):
        (folder / f"cell-{place}").mkdir(parents=True)
        (folder / f"cell-{place}" / ("tokenizer.safetensors" if place else "recipe.yaml")).touch()
    (folder / "table.csv").touch()
    return folder


@pytest.mark.parametrize("command", [["eval"], ["encode", "photos", "-o", "t.npy", "-m"]])
def test_a_folder_of_runs_names_them_and_how_to_compare_them(tok, sweep: pathlib.Path, command: list[str]) -> None:
    outcome = tok(*command, sweep)
    assert outcome.code == 3
    named = ", ".join(f"cell-{place}" for place in range(1, 6))
    assert f"runs/mine is no run but a folder of finished runs: {named} and 2 more" in outcome.err
    assert "compare all with: tok eval runs/mine/*/" in outcome.err
    assert "has that run finished?" in tok(*command, sweep / "cell-0").err


def test_all_models_are_looked_for_before_one_is_loaded(tok, tiny_run: pathlib.Path) -> None:
    pathlib.Path("table.csv").touch()
    outcome = tok("eval", "runs/tiny", "table.csv", "runs/other", "runs/tiny")
    assert outcome.code == 4
    assert "2 problems" in outcome.err
    assert "table.csv is no tokenizer; expected a .safetensors file or a run folder" in outcome.err
    assert "there is no tokenizer at runs/other" in outcome.err
    assert "model runs/tiny" not in outcome.err


def test_a_model_whose_pictures_are_gone_is_judged_on_others(tok, tiny: str, photos: pathlib.Path) -> None:
    pathlib.Path("tiny.yaml").write_text(tiny)
    data = f"data.eval={{kind: images, path: {photos}, size: 16}}"
    assert tok("train", "tiny.yaml", data, "--quiet", "--json").code == 0
    photos.rename(photos.with_name("elsewhere"))
    outcome = tok("eval")
    assert outcome.code == 3
    assert outcome.err.strip().endswith("; judge on other data with --data FOLDER")
