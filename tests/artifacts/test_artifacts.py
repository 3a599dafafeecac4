"""Artifacts: strict, whole or absent, and the same tokens after a reload."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from tokcli.artifacts import Artifact, load_artifact, read_recipe, save_artifact
from tokcli.artifacts.fingerprint import compute_fingerprints
from tokcli.artifacts.tensors import read_metadata
from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.recipe.build import build_tokenizer
from tokcli.recipe.recipe import from_text

KINDS = [
    "quantizer={kind: fsp, levels: [4, 3, 3]}",
    "quantizer={kind: fsq, levels: [4, 3, 3]}",
    "quantizer={kind: vq, dim: 3, codebook_size: 36}",
    "quantizer={kind: vq, dim: 3, codebook_size: 36, ema: true}",
]


def artifact_of(tiny: str, *overrides: str) -> Artifact:
    torch.manual_seed(0)
    recipe = from_text(tiny, "tiny", overrides)
    return Artifact(build_tokenizer(recipe).eval(), recipe, "raw", training={"steps": 0})


@pytest.fixture
def saved(tiny: str, tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "a.safetensors"
    save_artifact(path, artifact_of(tiny))
    return path


def rewrite(path: pathlib.Path, change) -> None:
    tensors, metadata = load_file(path), read_metadata(path)
    metadata.pop("digest", None)  # as versions before it wrote files; what is changed is then not found by the sum
    change(tensors, metadata)
    save_file(tensors, path, metadata)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reloaded_artifact_gives_the_same_tokens_and_fingerprints(
    tiny: str, tmp_path: pathlib.Path, kind: str
) -> None:
    artifact = artifact_of(tiny, kind)
    save_artifact(tmp_path / "a.safetensors", artifact)
    again = load_artifact(tmp_path / "a.safetensors")
    signals = torch.rand(3, 3, 20, 16) * 2 - 1
    tokens = artifact.tokenizer.encode(signals)
    assert torch.equal(again.tokenizer.encode(signals), tokens)
    assert torch.equal(again.tokenizer.decode(tokens, (20, 16)), artifact.tokenizer.decode(tokens, (20, 16)))
    assert compute_fingerprints(again.tokenizer, again.recipe) == compute_fingerprints(
        artifact.tokenizer, artifact.recipe
    )
    assert again.recipe == artifact.recipe
    assert again.training == {"steps": 0}


@pytest.mark.parametrize(
    "change",
    [
        lambda recipe: recipe["losses"].append({"kind": "loss-of-somebody-else", "weight": 2.0}),
        lambda recipe: recipe["losses"].append({"kind": "their_package.losses:Loss", "sharpness": 3}),
        lambda recipe: recipe["evaluation"].update(metrics=["metric-of-somebody-else"]),
        lambda recipe: recipe["data"].update(train={"kind": "their_package:Tar", "path": "a.tar"}),
    ],
    ids=["loss", "loss of a package", "metric", "source"],
)
def test_what_only_training_needs_may_be_unknown(saved: pathlib.Path, change) -> None:
    """Trained elsewhere, with parts that are not installed here: it gives the tokens it gave there."""
    signals = torch.rand(2, 3, 16, 16) * 2 - 1
    before = load_artifact(saved)
    words = json.loads(read_metadata(saved)["recipe"])
    change(words)
    rewrite(saved, lambda _, metadata: metadata.update(recipe=json.dumps(words)))
    after = load_artifact(saved)
    assert torch.equal(after.tokenizer.encode(signals), before.tokenizer.encode(signals))
    assert compute_fingerprints(after.tokenizer, after.recipe) == compute_fingerprints(before.tokenizer, before.recipe)
    assert after.recipe.to_dict() == words
    save_artifact(saved, after)  # as building a codebook does
    assert json.loads(read_metadata(saved)["recipe"]) == words
    assert read_recipe(saved).to_dict() == words


def test_an_unknown_part_of_the_tokenizer_itself_is_refused(saved: pathlib.Path) -> None:
    words = json.loads(read_metadata(saved)["recipe"])
    words["quantizer"] = {"kind": "quantizer-of-somebody-else"}
    rewrite(saved, lambda _, metadata: metadata.update(recipe=json.dumps(words)))
    with pytest.raises(MismatchError, match=r"cannot build: quantizer\.kind: there is no quantizer"):
        load_artifact(saved)


def test_words_paths_and_run_folders_name_an_artifact(tiny: str, tmp_path: pathlib.Path) -> None:
    run = tmp_path / "runs" / "a"
    save_artifact(run / "tokenizer.safetensors", artifact_of(tiny))
    for named in (run, str(run), run / "tokenizer.safetensors", str(run / "tokenizer.safetensors")):
        assert load_artifact(named).recipe.name == "tiny"
        assert read_recipe(named).name == "tiny"
    with pytest.raises(InputError, match=r"there is no file .*runs.tokenizer\.safetensors"):
        load_artifact(run.parent)


def test_training_state_stays_out_of_the_artifact(tiny: str, tmp_path: pathlib.Path) -> None:
    artifact = artifact_of(tiny, KINDS[3])
    save_artifact(tmp_path / "a.safetensors", artifact)
    names = set(load_file(tmp_path / "a.safetensors"))
    dropped = set(artifact.tokenizer.state_dict()) - names
    assert dropped == {f"quantizer.{name}" for name in artifact.tokenizer.quantizer.training_only}
    assert dropped


def test_the_network_and_the_codebook_have_fingerprints_of_their_own(tiny: str) -> None:
    artifact = artifact_of(tiny, KINDS[2])
    before = compute_fingerprints(artifact.tokenizer, artifact.recipe)
    with torch.no_grad():
        next(iter(artifact.tokenizer.quantizer.codebook_tensors().values())).add_(1)
    after = compute_fingerprints(artifact.tokenizer, artifact.recipe)
    assert after.network == before.network
    assert after.codebook != before.codebook
    with torch.no_grad():
        next(artifact.tokenizer.autoencoder.parameters()).add_(1)
    assert compute_fingerprints(artifact.tokenizer, artifact.recipe).network != before.network


def test_other_words_of_the_recipe_are_another_network(tiny: str) -> None:
    artifact = artifact_of(tiny)
    other = from_text(tiny, "tiny", ["quantizer.activation=sigmoid"])
    first = compute_fingerprints(artifact.tokenizer, artifact.recipe)
    assert compute_fingerprints(artifact.tokenizer, other).network != first.network


def test_a_missing_tensor_is_named(saved: pathlib.Path) -> None:
    rewrite(saved, lambda tensors, _: tensors.pop("autoencoder.encoder.stem.weight"))
    with pytest.raises(MismatchError, match=r"is damaged: it lacks 1 tensors.*encoder\.stem\.weight"):
        load_artifact(saved)


def test_an_extra_tensor_is_named(saved: pathlib.Path) -> None:
    rewrite(saved, lambda tensors, _: tensors.update(smuggled=torch.zeros(1)))
    with pytest.raises(MismatchError, match="tensors its recipe does not name: smuggled"):
        load_artifact(saved)


def test_a_tensor_of_another_shape_is_refused(saved: pathlib.Path) -> None:
    rewrite(saved, lambda tensors, _: tensors.update({"autoencoder.encoder.stem.weight": torch.zeros(2, 2)}))
    with pytest.raises(MismatchError, match="does not have the shape"):
        load_artifact(saved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _, metadata: metadata.clear(), "is not a tok artifact"),
        (lambda _, metadata: metadata.update(format='"tok-artifact/9"'), "expected the format tok-artifact/1"),
        (lambda _, metadata: metadata.update(recipe="not json"), "metadata is not JSON"),
        (lambda _, metadata: metadata.pop("weights"), "lacks weights"),
        (lambda _, metadata: metadata.update(recipe='{"name": "x"}'), "a recipe that this version cannot build"),
    ],
)
def test_a_foreign_or_damaged_file_is_refused(saved: pathlib.Path, change, words: str) -> None:
    rewrite(saved, change)
    with pytest.raises(MismatchError, match=words):
        load_artifact(saved)


def test_a_truncated_file_and_a_text_file_are_refused(saved: pathlib.Path, tmp_path: pathlib.Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(MismatchError, match="not a whole safetensors file"):
        load_artifact(saved)
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(MismatchError, match="not a whole safetensors file"):
        load_artifact(tmp_path / "text.safetensors")
    with pytest.raises(InputError, match="there is no file"):
        load_artifact(tmp_path / "absent.safetensors")


def test_a_codebook_that_is_not_there_is_refused_with_those_that_are(saved: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=r"no codebook of 64 codes \(it has: 36\)"):
        load_artifact(saved, codebook=64)
    assert load_artifact(saved, codebook=36).tokenizer.quantizer.codebook_size == 36


def test_the_recipe_in_an_artifact_is_plain_json(saved: pathlib.Path) -> None:
    quantizer = json.loads(read_metadata(saved)["recipe"])["quantizer"]
    assert (quantizer["kind"], quantizer["levels"]) == ("fsp", [4, 3, 3])
    assert quantizer["activation"] == "tanh"  # what the recipe left to its default, which another version may change


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(
    saved: pathlib.Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_artifact(saved, artifact_of(tiny, "seed=3"))
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.mark.slow
def test_a_kill_in_the_middle_of_saving_leaves_a_whole_file(saved: pathlib.Path) -> None:
    script = (
        "import sys, pathlib, torch\n"
        "from tokcli.artifacts.tensors import write_tensors\n"
        "print('ready', flush=True)\n"
        "turn = 0\n"
        "while True:\n"
        "    turn += 1\n"
        "    tensors = {'a': torch.full((500_000,), float(turn))}\n"
        "    write_tensors(pathlib.Path(sys.argv[1]), tensors, {'turn': str(turn)})\n"
    )
    for delay in (0.02, 0.05, 0.11, 0.2):
        process = subprocess.Popen([sys.executable, "-c", script, str(saved)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(delay)
        process.kill()
        process.wait()
        if "turn" in (metadata := read_metadata(saved)):
            assert bool((load_file(saved)["a"] == float(metadata["turn"])).all())


@pytest.mark.parametrize("error", [RuntimeError("size overflowed"), OverflowError("too big"), TypeError("Overflow of")])
def test_a_recipe_of_impossible_sizes_is_a_mismatch(saved: pathlib.Path, monkeypatch, error: Exception) -> None:
    def fail(recipe: object) -> None:
        raise error

    monkeypatch.setattr("tokcli.artifacts.promises.build_tokenizer", fail)
    with pytest.raises(MismatchError, match=str(error)):
        load_artifact(saved)


@pytest.mark.parametrize("error", [KeyError("width"), TypeError("missing argument"), AttributeError("x"), NameError()])
def test_a_bug_in_a_constructor_is_not_blamed_on_the_file(saved: pathlib.Path, monkeypatch, error: Exception) -> None:
    def fail(recipe: object) -> None:
        raise error

    monkeypatch.setattr("tokcli.artifacts.promises.build_tokenizer", fail)
    with pytest.raises(type(error)):
        load_artifact(saved)


def test_opening_an_artifact_imports_no_compiler() -> None:
    """Checking a recipe on the meta device did: 1.6 seconds and 70 MB in every command."""
    folder = pathlib.Path(__file__).parents[1] / "ground"
    paths = [str(path) for path in sorted(folder.rglob("tokenizer.safetensors"))]
    assert len(paths) > 10
    program = (
        "import sys\n"
        "from tokcli.artifacts import load_artifact\n"
        "for path in sys.argv[1:]:\n"
        "    load_artifact(path)\n"
        "    assert not {'torch._dynamo', 'sympy'} & set(sys.modules), path\n"
    )
    environment = os.environ | {"PYTHONPATH": str(folder.parents[1])}
    subprocess.run([sys.executable, "-c", program, *paths], check=True, env=environment, timeout=120)
