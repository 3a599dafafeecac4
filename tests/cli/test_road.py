"""The whole road through the command line, on generated pictures."""

import json
import pathlib

import numpy
import pytest
from PIL import Image


def test_from_a_folder_to_tokens_and_back(tok, tiny_run: pathlib.Path, photos: pathlib.Path) -> None:
    encoded = tok("encode", "photos", "-o", "tokens.npy", "--json")
    assert encoded.code == 0, encoded.err
    report = encoded.json
    assert report["items"] == 5
    assert report["grid"] == [4, 4]
    assert report["codebook_size"] == 36
    assert report["dtype"] == "uint8"
    assert report["tokens"] == 5 * 16
    assert report["bits_per_pixel"] == pytest.approx(numpy.log2(36) * 16 / 256)
    assert 0 < report["entropy_bits_per_token"] <= numpy.log2(36)
    assert numpy.load("tokens.npy").shape == (5, 4, 4)
    decoded = tok("decode", "tokens.npy", "-o", "out", "--json")
    assert decoded.code == 0, decoded.err
    assert decoded.json == {"output": "out", "items": 5, "failed": [], "model": "runs/tiny"}
    written = sorted(str(path.relative_to("out")) for path in pathlib.Path("out").rglob("*.png"))
    assert written == sorted(str(path.relative_to(photos)) for path in photos.rglob("*.png"))
    assert Image.open("out/photo-0.png").size == (16, 16)


def test_the_figures_of_decoded_files_are_those_of_eval(tok, tiny_run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    generator = numpy.random.default_rng(0)
    (tmp_path / "small").mkdir()
    for index in range(5):
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=numpy.uint8)).save(f"small/{index}.png")
    tok("encode", "small", "-o", "tokens.npy", "-q")
    tok("decode", "tokens.npy", "-o", "out", "-q")
    figures = []
    for index in range(5):
        reference, decoded = (
            numpy.asarray(Image.open(f"{folder}/{index}.png"), dtype=float) for folder in ("small", "out")
        )
        figures.append(10 * numpy.log10(255**2 / ((reference - decoded) ** 2).mean()))
    judged = tok("eval", "--data", "small", "--metrics", "psnr", "--json").json
    assert judged["metrics"]["psnr"] == pytest.approx(numpy.mean(figures), abs=1e-9)
    assert judged["items"] == 5
    assert judged["split"] == "given"


@pytest.mark.parametrize("output", ["tokens.safetensors", "shards"])
def test_native_size_gives_every_picture_its_own_size_back(
    tok, tiny_run: pathlib.Path, photos: pathlib.Path, output: str
) -> None:
    assert tok("encode", "photos", "-o", output, "--size", "native").code == 0
    assert tok("decode", output, "-o", "out").code == 0
    for path in photos.rglob("*.png"):
        assert Image.open(pathlib.Path("out") / path.relative_to(photos)).size == Image.open(path).size


def test_native_sizes_are_evaluated_as_they_are(tok, tiny_run: pathlib.Path, photos: pathlib.Path) -> None:
    whole = tok("eval", "--data", "photos", "--size", "native", "--metrics", "psnr", "--json").json
    assert tok("encode", "photos", "-o", "t.safetensors", "--size", "native").code == 0
    assert tok("decode", "t.safetensors", "-o", "out").code == 0
    others = tok("eval", "--reference", "photos", "--reconstruction", "out", "--size", "native", "--json")
    assert whole["metrics"]["psnr"] == pytest.approx(others.json["metrics"]["psnr"], abs=1e-6)


def test_native_sizes_do_not_fit_one_array(tok, tiny_run: pathlib.Path, photos: pathlib.Path) -> None:
    outcome = tok("encode", "photos", "-o", "tokens.npy", "--size", "native")
    assert outcome.code == 2
    assert ".safetensors" in outcome.err
    assert not list(pathlib.Path().glob("*tokens.npy*"))


def test_a_broken_picture_is_listed_and_the_rest_is_encoded(tok, tiny_run: pathlib.Path, photos: pathlib.Path) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    outcome = tok("encode", "photos", "-o", "tokens.npy", "--json")
    assert outcome.code == 5
    assert outcome.json["items"] == 5
    assert [failure["item"] for failure in outcome.json["failed"]] == ["broken.jpg"]
    decoded = tok("decode", "tokens.npy", "-o", "out", "--json")
    assert decoded.code == 5
    assert decoded.json["items"] == 5


def test_eval_is_evaluate_and_repeats_the_figures_of_training(tok, tiny_run: pathlib.Path) -> None:
    trained = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()][-1]["evaluation"]
    for command in ("eval", "evaluate"):
        report = tok(command, "--json").json
        assert report["metrics"] == trained
        assert report["split"] == "evaluation data of the recipe"
        assert report["protocol"]["metrics"]["psnr"]["rounding"] == "8-bit, to nearest"
        assert len(report["protocol"]["dataset_sha256"]) == 64


def test_several_models_make_a_list_and_one_table(tok, tiny_run: pathlib.Path) -> None:
    assert tok("train", "tiny.yaml", "seed=1", "--out", "runs/other", "-q").code == 0
    reports = tok("eval", "runs/tiny", "runs/other", "--metrics", "psnr", "--json").json
    assert [report["model"] for report in reports] == [
        f"runs/{name}/tokenizer.safetensors" for name in ("tiny", "other")
    ]
    table = tok("eval", "runs/tiny", "runs/other", "--sheet", "sheet.png").out
    assert "│ tiny " in table
    assert "│ other " in table
    assert "runs/" not in table
    rows, label, side = 3, 20, 4 * 16  # small pictures are enlarged
    assert Image.open("sheet.png").size == (6 * (side + 2) - 2, rows * (side + 2 + label) - 2)


def test_the_last_finished_run_is_found_and_named(tok, tiny_run: pathlib.Path) -> None:
    outcome = tok("eval")
    assert "model runs/tiny/tokenizer.safetensors: fsp, 36 codes, averaged weights" in outcome.err
    facts = tok("info", "runs/tiny").out.split()
    assert facts[facts.index("weights") + 2] == "averaged"


def test_a_resumed_encode_equals_an_uninterrupted_one(
    tok, tiny_run: pathlib.Path, photos: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokcli.commands import encode_items as workflow

    assert tok("encode", "photos", "-o", "whole.npy", "-q").code == 0
    original = workflow.encode_group
    seen = []

    def interrupted(model, group, batch_size, batch=None):
        seen.append(group)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return original(model, group, batch_size, batch)

    with monkeypatch.context() as patch:
        patch.setattr(workflow, "encode_group", interrupted)
        stopped = tok("encode", "photos", "-o", "parts.npy", "-q", "--batch-size", "2")
    assert stopped.code == 130
    assert "stopped after 2 of 5 items; the same command with --resume goes on" in stopped.err
    assert not pathlib.Path("parts.npy").exists()
    assert "--resume" in tok("encode", "photos", "-o", "parts.npy", "-q").err
    assert tok("encode", "photos", "-o", "parts.npy", "--resume").code == 0
    assert pathlib.Path("parts.npy").read_bytes() == pathlib.Path("whole.npy").read_bytes()
    assert pathlib.Path("parts.npy.json").read_bytes() == pathlib.Path("whole.npy.json").read_bytes()


def test_building_levels_into_a_scalar_tokenizer_needs_force_the_second_time(tok, tiny_run: pathlib.Path) -> None:
    first = tok("build-codebook", "--samples", "500", "--json")
    assert first.code == 0, first.err
    assert first.json["codebooks"]["36"]["samples"] == 500
    again = tok("build-codebook", "--samples", "500")
    assert again.code == 2
    assert "--force replaces it" in again.err
    assert tok("build-codebook", "--samples", "500", "--force", "-q").code == 0
    listed = tok("info", "runs/tiny", "--json").json["codebooks"]
    assert [report["size"] for report in listed] == [36]


def test_tokens_of_a_rebuilt_codebook_are_disowned(tok, tiny_run: pathlib.Path, photos: pathlib.Path) -> None:
    tok("encode", "photos", "-o", "tokens.npy", "-q")
    assert tok("build-codebook", "--samples", "500", "-q").code == 0
    outcome = tok("decode", "tokens.npy", "-o", "out")
    assert outcome.code == 4
    assert "its codebook has the fingerprint" in outcome.err
    assert not pathlib.Path("out").exists()


def test_info_describes_runs_artifacts_and_tokens(tok, tiny_run: pathlib.Path, photos: pathlib.Path) -> None:
    tok("encode", "photos", "-o", "tokens.npy", "-q")
    assert tok("info", "runs/tiny", "--json").json["quantizer"] == "fsp"
    assert tok("info", "runs/tiny/tokenizer.safetensors", "--json").json["weights"] == "ema"
    tokens = tok("info", "tokens.npy", "--json").json
    assert (tokens["items"], tokens["codebook_size"]) == (5, 36)
    assert "36" in tok("info", "tokens.npy").out


def test_recipes_are_listed_shown_and_copied(tok) -> None:
    names = [recipe["name"] for recipe in tok("recipes", "--json").json["recipes"]]
    assert "quickstart" in names
    assert tok("recipes", "show", "quickstart").out.startswith("#")
    assert tok("recipes", "copy", "quickstart").code == 0
    assert pathlib.Path("quickstart.yaml").read_text() == tok("recipes", "show", "quickstart").out
    assert tok("recipes", "copy", "quickstart").code == 2
    assert tok("recipes", "copy", "quickstart", "--force").code == 0


def test_a_run_is_described_by_its_json(tok, tiny: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    report = tok("train", "tiny.yaml", "--json").json
    assert report["run"] == "runs/tiny"
    assert report["artifact"] == "runs/tiny/tokenizer.safetensors"
    assert report["steps"] == 6
    assert report["seconds"] > 0
    assert set(report["metrics"]) == {"psnr", "usage", "cvu"}


def test_a_dry_run_says_that_its_figures_mean_nothing(tok, tiny: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    outcome = tok("train", "tiny.yaml", "--dry-run")
    assert outcome.code == 0
    assert "dry run: 2 steps, deleted" in outcome.out
    assert "these figures mean nothing" in outcome.out
    assert "tok-dry-run" not in outcome.out
    assert "training on endless pictures (dead leaves) of 16²" in outcome.err


@pytest.mark.parametrize("ways", [["--seed", "3"], ["seed=3"], ["seed=3", "--seed", "3"]])
def test_the_seed_can_be_a_flag_or_an_override(tok, tiny: str, tmp_path: pathlib.Path, ways: list[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    assert tok("train", "tiny.yaml", "training.steps=1", *ways, "-q").code == 0
    assert "\nseed: 3\n" in (tmp_path / "runs/tiny/recipe.yaml").read_text()
