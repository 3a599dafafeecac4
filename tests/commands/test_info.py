"""`tok info` of anything says what it is; of what is none of ours, what it is and what was expected."""

import json
import pathlib

import numpy
import pytest
from PIL import Image

from tokcli.commands.run_facts import describe_age, find_codebook_size


def test_runs_recipes_tokens_and_checkpoints_say_what_they_are(tok, tiny_run, photos) -> None:
    listed = tok("info", "runs", "--json").json["runs"]
    assert [(row["name"], row["method"], row["K"], row["state"]) for row in listed] == [("tiny", "fsp", 36, "finished")]
    assert listed[0]["psnr"] > 0
    run = tok("info", "runs/tiny", "--json").json
    assert (run["state"], run["command"].startswith("tok"), run["data"]) == ("finished", True, "dead-leaves")
    recipe = tok("info", "tiny.yaml", "--json").json
    assert (recipe["codebook_size"], recipe["stride"], recipe["grid"]) == (36, 4, "4×4")
    assert tok("info", "quickstart", "--json").json["needs"] == "nothing"
    checkpoint = sorted(pathlib.Path("runs/tiny/checkpoints").glob("step-*"))[-1]
    assert tok("info", checkpoint, "--json").json["step"] == "6"
    assert tok("encode", photos, "-o", "t.npy", "-q").code == 0
    tokens = tok("info", "t.npy", "--json").json
    assert (tokens["count"], tokens["grid"]) == (5 * 16, "4×4")
    used = len(numpy.unique(numpy.load("t.npy")))
    assert tokens["usage"] == pytest.approx(used / 36)
    numpy.save("gen.npy", numpy.zeros((2, 4, 4), int))
    generated = tok("info", "gen.npy", "--json").json
    assert (generated["shape"], generated["next"]) == ("2×4×4", "tok decode gen.npy -m MODEL -o out/")
    alone = tok("info")
    assert alone.code == 0
    for word in ("runs here", "tiny", "libraries.torch", "devices.cpu", "extras.audio", "weights.rfid"):
        assert word in alone.out
    for path in ("runs", "runs/tiny", "tiny.yaml", checkpoint, "t.npy", "gen.npy", "vaevq-figure7"):
        assert tok("info", path).code == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("one.jpg", "is a picture, whose tokens are made by: tok encode one.jpg"),
        ("photos", "is a folder of 5 pictures"),
        ("notes.txt", "is a text"),
        ("weights.pt", "is a checkpoint of PyTorch, which info does not open; weights of LlamaGen"),
        ("x.npy.json", "is the header of a token file: tok info x.npy"),
        ("metrics.jsonl", "is the figures of a run"),
        ("empty", "is a folder without runs, tokens, pictures or sounds"),
    ],
)
def test_what_is_none_of_ours_is_named(tok, photos, name: str, words: str) -> None:
    pathlib.Path("empty").mkdir()
    Image.new("RGB", (8, 8)).save("one.jpg")
    for other in ("notes.txt", "weights.pt", "x.npy.json", "metrics.jsonl"):
        pathlib.Path(other).write_text("{}")
    outcome = tok("info", name)
    assert (outcome.code, words in outcome.err, "expected a run" in outcome.err) == (4, True, True), outcome.err


def test_a_name_that_is_not_there_gets_the_nearest(tok, tiny_run) -> None:
    assert "did you mean 'quickstart'?" in tok("info", "quickstrt").err
    assert "did you mean 'runs/tiny'?" in tok("info", "runs/tyni").err


def test_a_run_that_diverged_before_its_first_checkpoint_has_a_way_on_that_works(tok, tiny: str) -> None:
    pathlib.Path("r.yaml").write_text(tiny)
    failed = tok("train", "r.yaml", "training.learning_rate=1e30", "training.clip_norm=null", "training.log_every=1")
    assert failed.code == 6, failed.err
    for path in pathlib.Path("runs/tiny/checkpoints").iterdir():
        path.unlink()
    facts = tok("info", "runs/tiny", "--json").json
    assert (facts["state"], facts["finished"]) == ("diverged", False)
    assert "diverged" in facts["ended"]
    words = facts["next"].split("    ")[0].split()[1:]
    assert tok(*[word.replace("3e+29", "1e-3") for word in words]).code == 0


def test_a_stopped_run_says_the_command_that_goes_on_with_it(tok, tiny: str, monkeypatch) -> None:
    from tokcli.training import loop

    pathlib.Path("r.yaml").write_text(tiny)
    take_step = loop.take_step

    def stop(training, *others) -> None:
        take_step(training, *others)
        if training.step == 3:
            raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", stop)
        assert tok("train", "r.yaml").code == 1
    facts = tok("info", "runs/tiny", "--json").json
    assert facts["state"] == "interrupted at step 3 of 6"
    assert tok(*facts["next"].split("    ")[0].split()[1:]).code == 0
    assert json.loads(tok("info", "runs/tiny", "--json").out)["state"] == "finished"


def test_ages_and_sizes_are_told_in_words() -> None:
    assert [describe_age(seconds) for seconds in (5, 200, 8000, 300_000)] == ["now", "3 min", "2 h", "3 days"]
    assert find_codebook_size({"levels": [4, 3, 3]}) == 36
    assert find_codebook_size({"bins": 4, "dim": 5}) == 1024
    assert find_codebook_size({"levels": "many"}) is None


def test_a_recipe_without_a_codebook_yet_is_described(tok, tiny: str) -> None:
    quantizer = "quantizer: {kind: vpvae, dim: 3, codebook_size: 40, neighbours_per_code: 8}"
    pathlib.Path("v.yaml").write_text(tiny.replace("quantizer: {kind: fsp, levels: [4, 3, 3]}", quantizer))
    told = tok("info", "v.yaml", "--json")
    assert told.code == 0, told.err
    assert (told.json["quantizer"], told.json["codebook_size"], told.json["grid"]) == ("vpvae", 40, "4×4")
    assert tok("info", "v.yaml").code == 0
    assert tok("info", "image-small-vpvae", "--json").json["quantizer"] == "vpvae"


def test_a_bench_is_known_by_its_name_and_by_its_file(tok) -> None:
    assert tok("info", "bench-images", "--json").json["next"] == "tok sweep bench-images"
    assert tok("recipes", "copy", "bench-images").code == 0
    told = tok("info", "bench-images.yaml", "--json").json
    assert (told["modality"], told["metrics"], told["data"]) == ("image", "psnr, ssim", "photos")
    listed = tok("sweep", "--list", "--json").json
    assert [entry["name"] for entry in listed["benches"]] == ["bench-images", "bench-speech"]
    assert "bench-speech" in tok("sweep", "--list").out
    assert tok("recipes", "show", "bench-speech").out.startswith("# What speech gives")
    missing = tok("sweep", "bench-images", "-o", "b")
    assert (missing.code, "there is no sweep" in missing.err) == (3, False)
    assert "did you mean 'bench-images'" in tok("sweep", "bench-image").err
