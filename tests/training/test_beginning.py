"""What a training begins with: a finished run of fewer steps, another run's weights, and what is refused."""

import json
import pathlib

import pytest
import torch

from tokcli.artifacts import load_artifact
from tokcli.commands.train import train
from tokcli.errors import InterruptedRunError, MismatchError, UsageError
from tokcli.training.beginning import describe_differences, find_differences
from tokcli.training.run_folder import RunFolder


def steps_in(run: pathlib.Path) -> list[int]:
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [entry["step"] for entry in entries if "evaluation" not in entry]


def test_a_finished_run_goes_on_to_more_steps(recipe: str, tmp_path: pathlib.Path, notes) -> None:
    out = str(tmp_path / "run")
    train(recipe, ["training.decay=constant"], out=out)
    longer = train(recipe, ["training.decay=constant", "training.steps=8"], out=out, reporter=notes)
    assert any("is finished: it goes on from 6 to 8 steps" in note for note in notes.said)
    assert (longer.steps, steps_in(longer.run)) == (8, [2, 4, 6, 8])
    former = longer.run / "checkpoints" / "tokenizer-00000006.safetensors"
    assert load_artifact(former).training["steps"] == 6
    assert former in RunFolder(longer.run).made
    assert load_artifact(longer.artifact).training["steps"] == 8
    with pytest.raises(UsageError, match=r"a finished run; .*training.steps=N goes on to N steps, more than its 8"):
        train(recipe, ["training.decay=constant", "training.steps=8"], out=out)
    with pytest.raises(UsageError, match=r"a finished run of another recipe \(training.steps 8 -> 6\)"):
        train(recipe, ["training.decay=constant"], out=out)


def test_a_prolonged_run_that_is_interrupted_goes_on(recipe: str, tmp_path: pathlib.Path, after_step) -> None:
    """Before its first new checkpoint too: the one that it goes on from belongs to the shorter recipe."""
    out = str(tmp_path / "run")
    train(recipe, out=out)
    with after_step(8, lambda training: (_ for _ in ()).throw(KeyError("killed"))), pytest.raises(KeyError):
        train(recipe, ["training.steps=10"], out=out)
    result = train(recipe, ["training.steps=10"], out=out)
    assert (result.steps, load_artifact(result.artifact).training["steps"]) == (10, 10)


def test_another_recipe_is_told_by_the_keys_that_differ(recipe: str, tmp_path: pathlib.Path, after_step) -> None:
    out = str(tmp_path / "run")

    def stop(training) -> None:
        raise InterruptedRunError("stopped")

    with after_step(4, stop), pytest.raises(InterruptedRunError):
        train(recipe, out=out)
    with pytest.raises(UsageError, match=r"another recipe \(autoencoder.width 8 -> 16, training.batch_size 4 -> 2\)"):
        train(recipe, ["autoencoder.width=16", "training.batch_size=2"], out=out)
    assert train(recipe, ["training.steps=7"], out=out).steps == 7


def test_differences_are_named_by_their_paths() -> None:
    old = {"a": 1, "losses": [{"kind": "l1", "weight": 1.0}], "levels": [4, 3]}
    new = {"a": 1, "losses": [{"kind": "l1", "weight": 2.0}, {"kind": "mse"}], "levels": [4, 4]}
    assert find_differences(old, new) == {
        "losses.0.weight": (1.0, 2.0),
        "levels": ([4, 3], [4, 4]),
        "losses.1.kind": (None, "mse"),
    }
    assert describe_differences({f"k{n}": (0, 1) for n in range(8)}).endswith("k5 0 -> 1 and 2 more")


def test_a_run_begins_with_the_weights_of_another(recipe: str, tmp_path: pathlib.Path, notes) -> None:
    first = train(recipe, out=str(tmp_path / "first"))
    changes = ["training.steps=1", "training.learning_rate=1e-12", "training.ema_decay=null", "seed=3"]
    second = train(recipe, changes, out=str(tmp_path / "second"), init_from=str(first.run), reporter=notes)
    before, after = (load_artifact(run.artifact).tokenizer.state_dict() for run in (first, second))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert load_artifact(second.artifact).training["init_from"]["steps"] == 6
    assert any("beginning with the weights of" in note for note in notes.said)
    assert "init_from" not in load_artifact(train(recipe, changes, out=str(tmp_path / "third")).artifact).training


def test_weights_that_do_not_fit_are_refused_with_the_keys_that_differ(recipe: str, tmp_path: pathlib.Path) -> None:
    first = train(recipe, out=str(tmp_path / "first"))
    with pytest.raises(MismatchError, match=r"another autoencoder than the recipe \(autoencoder.width 8 -> 16\)"):
        train(recipe, ["autoencoder.width=16"], out=str(tmp_path / "second"), init_from=str(first.run))


def test_another_quantizer_begins_anew_on_the_weights_of_the_autoencoder(recipe: str, tmp_path, notes) -> None:
    first = train(recipe, out=str(tmp_path / "first"))
    changes = ["training.steps=1", "quantizer={kind: vq, dim: 3, codebook_size: 16}"]
    train(recipe, changes, out=str(tmp_path / "second"), init_from=str(first.run), reporter=notes)
    assert any("the quantizer of" in note and "begins anew" in note for note in notes.said)


def test_a_training_without_a_codebook_says_so_first_and_last(tok, tiny: str) -> None:
    pathlib.Path("vp.yaml").write_text(
        tiny.replace("{kind: fsp, levels: [4, 3, 3]}", "{kind: vpvae, dim: 3, codebook_size: 16}")
    )
    outcome = tok("train", "vp.yaml")
    assert outcome.code == 0, outcome.err
    assert "figures are provisional until then; after the training run: tok build-codebook runs/tiny" in outcome.err
    assert "figures:   provisional" in outcome.out
    assert "next:      tok build-codebook runs/tiny" in outcome.out
    built = tok("build-codebook", "runs/tiny")
    assert (built.code, "next: tok eval runs/tiny" in built.out) == (0, True), built.err


def test_a_finished_encode_with_resume_is_done(tok, tiny_run, photos, tmp_path) -> None:
    assert tok("encode", photos, "-o", "t.npy").code == 0
    before = pathlib.Path("t.npy").stat()
    again = tok("encode", photos, "-o", "t.npy", "--resume")
    assert (again.code, "t.npy is complete, there is nothing to do" in again.err) == (0, True), again.err
    assert pathlib.Path("t.npy").stat() == before
    other = tok("encode", photos / "inner", "-o", "t.npy", "--resume")
    assert (other.code, "is complete, and of other items" in other.err) == (2, True), other.err


def test_the_next_step_of_an_encode_names_its_model(tok, tiny_run, tiny: str, photos) -> None:
    """The last run may be another one by then."""
    pathlib.Path("other.yaml").write_text(tiny.replace("name: tiny", "name: other\nseed: 7"))
    assert tok("train", "other.yaml", "-q").code == 0
    outcome = tok("encode", photos, "-o", "t.npy", "-m", "runs/tiny")
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("next: tok ")]
    assert line == "next: tok decode t.npy -o out/ -m runs/tiny"
    assert tok(*line.split()[2:]).code == 0


@pytest.mark.parametrize("kind", ["vpvae", "nsvq"])
def test_a_run_begins_with_weights_whose_codebooks_were_built_and_leaves_those(tok, tiny: str, kind: str) -> None:
    recipe = tiny.replace("{kind: fsp, levels: [4, 3, 3]}", f"{{kind: {kind}, dim: 3, codebook_size: 16}}")
    pathlib.Path("built.yaml").write_text(recipe + "codebook: {sizes: [16, 32], samples: 400}\n")
    pathlib.Path("tuned.yaml").write_text(recipe.replace("name: tiny", "name: tuned"))
    assert tok("train", "built.yaml", "-q").code == 0
    tuned = tok("train", "tuned.yaml", "--init-from", "runs/tiny")
    assert tuned.code == 0, tuned.err
    assert "the quantizer of" not in tuned.err
    assert tok("info", "runs/tuned", "--json").json["codebook_size"] is None
    assert tok("build-codebook", "runs/tuned", "--size", 24).code == 0
