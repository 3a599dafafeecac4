"""A table of models that are judged and not trained: kept row by row, gone on with, and compared with another run."""

import json
import pathlib
import shutil

GROUND = pathlib.Path(__file__).parents[1] / "ground"


def test_rows_are_kept_and_changes_have_intervals(tok, photos: pathlib.Path, monkeypatch) -> None:
    shutil.copytree(GROUND / "image-fsp", "mine")
    text = "bench: image\ncolumns: [psnr]\nmodels: {mine: {model: mine}, other: {model: OTHER}}\nagainst: [jpeg]\n"
    pathlib.Path("bench.yaml").write_text(
        text.replace("OTHER", str(GROUND / "image-vq")) + f"evaluate: {{leaves: {{path: {photos}, size: 16}}}}\n"
    )
    first = tok("sweep", "bench.yaml", "-o", "one", "--json")
    assert first.code == 0, first.err
    labels = [row["row"] for row in first.json["rows"]]
    assert (labels[0], labels[-1], len(labels) > 2) == ("mine", "other", True)
    assert {path.name for path in pathlib.Path("one").iterdir()} == {"rows", "rows.json", "table.md", "table.html"}

    def forbidden(*arguments: object, **options: object) -> None:
        raise AssertionError("what is there is not judged again")

    with monkeypatch.context() as patch:
        patch.setattr("tokcli.commands.pinned_bench.evaluate", forbidden)
        assert tok("sweep", "bench.yaml", "-o", "one", "--json").json == first.json
    shutil.copy(GROUND / "image-vq" / "tokenizer.safetensors", "mine/tokenizer.safetensors")
    second = tok("sweep", "bench.yaml", "-o", "two", "--earlier", "one", "--json")
    assert second.code == 0, second.err
    changes = {each["row"]: each["differences"]["psnr"] for each in second.json["changes"]}
    assert changes["other"]["mean"] == 0
    figures = [
        next(row["metrics"]["psnr"] for row in each.json["rows"] if row["row"] == "mine") for each in (second, first)
    ]
    assert abs(changes["mine"]["mean"] - (figures[0] - figures[1])) < 1e-5
    assert changes["mine"]["margin"] > 0
    assert "## Since one" in pathlib.Path("two/table.md").read_text()
    json.loads(pathlib.Path("two/rows.json").read_text())


def test_what_is_wrong_is_all_said(tok) -> None:
    pathlib.Path("bench.yaml").write_text("bench: image\ncolumns: [stoi]\nmodels: {a: {modle: x}}\nevaluate: {b: 3}\n")
    told = tok("sweep", "bench.yaml")
    assert told.code == 2
    for words in ("no metric of image is called 'stoi'", "models.a", "evaluate.b: expected keys and values"):
        assert words in told.err, words
