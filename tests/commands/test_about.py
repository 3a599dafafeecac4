"""Labels, captions and views: kept by `tok encode`, in every form of token file, and handed on by `tok export`."""

import json
import pathlib

import numpy
import pytest
from PIL import Image

from tokcli import load_tokens

FORMS = ["t.npy", "t.safetensors", "t"]


@pytest.fixture
def classes(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two pictures of cats and two of dogs, each in its folder."""
    generator = numpy.random.default_rng(0)
    for number in range(4):
        path = tmp_path / "classes" / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (24, 24, 3), dtype=numpy.uint8)).save(path)
    return tmp_path / "classes"


@pytest.mark.parametrize("form", FORMS)
def test_labels_of_folders_are_kept_and_exported(form: str, tok, tiny_run, classes: pathlib.Path) -> None:
    assert tok("encode", classes, "-o", form, "--about", "folder").code == 0
    assert [dict(item.about) for item in load_tokens(form)] == [{"label": "cat"}] * 2 + [{"label": "dog"}] * 2
    assert tok("export", form, "--to", "jsonl", "--labels", "about", "-o", "x.jsonl").code == 0
    lines = [json.loads(line) for line in pathlib.Path("x.jsonl").read_text().splitlines()]
    assert [line["class_id"] for line in lines] == [0, 0, 1, 1]


def test_captions_of_a_file_travel_through_a_token_file_and_back(tok, tiny_run, classes: pathlib.Path) -> None:
    pathlib.Path("about.jsonl").write_text(json.dumps({"name": "cat/1", "label": "cat", "caption": "a cat"}))
    assert tok("encode", classes, "-o", "t.npy", "--about", "about.jsonl").code == 0
    assert dict(load_tokens("t.npy")[0].about) == {"label": "cat", "caption": "a cat"}
    assert dict(load_tokens("t.npy")[1].about) == {}
    outcome = tok("export", "t.npy", "--to", "webdataset", "-o", "tars")
    assert (outcome.code, outcome.out.count("it has no label")) == (5, 3)
    assert tok("import", "tars", "-o", "back.npy").code == 0
    assert dict(load_tokens("back.npy")[0].about) == {"label": "cat", "caption": "a cat"}


def test_an_encode_is_resumed_with_what_it_was_begun_with(tok, tiny_run, classes: pathlib.Path, monkeypatch) -> None:
    import tokcli.commands.encode_items as command

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "encode_group", stop)
        assert tok("encode", classes, "-o", "t.npy", "--about", "folder").code == 130
    assert tok("encode", classes, "-o", "t.npy", "--resume").code == 4
    assert tok("encode", classes, "-o", "t.npy", "--resume", "--about", "folder").code == 0
    assert "nothing to do" in tok("encode", classes, "-o", "t.npy", "--resume", "--about", "folder").err
    pathlib.Path("about.csv").write_text("name,label\n1.png,lion\n")
    outcome = tok("encode", classes, "-o", "t.npy", "--resume", "--about", "about.csv")
    assert (outcome.code, "of other labels" in outcome.err) == (2, True), outcome.err


def test_a_flip_is_the_tokens_of_the_mirror_image(tok, tiny_run, classes: pathlib.Path) -> None:
    from PIL import ImageOps

    assert tok("encode", classes, "-o", "two.npy", "--views", "flip", "--about", "folder", "--size", "16").code == 0
    items = list(load_tokens("two.npy"))
    assert [item.name for item in items[:3]] == ["cat/1.png#view-0", "cat/1.png#view-1", "cat/3.png#view-0"]
    for path in classes.rglob("*.png"):
        # A centre crop of the mirror image is the mirror image of the crop.
        ImageOps.mirror(Image.open(path)).save(path)
    assert tok("encode", classes, "-o", "mirrored.npy", "--size", "16").code == 0
    for number, item in enumerate(load_tokens("mirrored.npy")):
        assert (item.tokens == items[2 * number + 1].tokens).float().mean() > 0.9


def test_llamagen_gets_its_views_and_says_how_where_there_are_none(tok, tiny_run, classes: pathlib.Path) -> None:
    assert tok("encode", classes, "-o", "t.npy", "--size", "16").code == 0
    llamagen = ["--to", "npy-tree", "--preset", "llamagen"]
    outcome = tok("export", "t.npy", *llamagen, "--views", "flip", "-o", "x")
    assert (outcome.code, "encode the pictures again: tok encode ... --views flip" in outcome.err) == (2, True)
    for views, count in (("flip", 2), ("ten-crop", 10)):
        assert tok("encode", classes, "-o", f"{views}.npy", "--views", views, "--size", "16").code == 0
        assert tok("export", f"{views}.npy", *llamagen, "--views", views, "-o", views).code == 0
        codes = [numpy.load(path) for path in pathlib.Path(views, "imagenet256_codes").iterdir()]
        assert [(each.shape, each.dtype) for each in codes] == [((1, count, 16), numpy.int64)] * 4
        labels = sorted(int(numpy.load(path)[0]) for path in pathlib.Path(views, "imagenet256_labels").iterdir())
        assert labels == [0, 0, 1, 1]


def test_ten_crops_are_corners_and_centre_and_their_mirror_images(classes: pathlib.Path) -> None:
    from tokcli.data.image.files import ImageFiles
    from tokcli.data.image.views import ImageViews

    whole = ImageFiles([str(classes)], 22).load(0).signal
    views = [ImageViews([str(classes)], 20, "ten-crop").load(view).signal for view in range(10)]
    assert (views[0] == whole[:, :20, :20]).all()
    assert (views[3] == whole[:, 2:, 2:]).all()
    assert (views[4] == whole[:, 1:21, 1:21]).all()
    assert all((views[5 + view] == views[view].flip(-1)).all() for view in range(5))


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--about", "none.csv"], 3, "there is no file none.csv"),
        (["--views", "flop"], 2, "--views: expected flip or ten-crop, got 'flop'"),
        (["--views", "ten-crop", "--size", "native"], 2, "say it with --size N"),
    ],
)
def test_a_wrong_flag_is_one_sentence(flags, code, words, tok, tiny_run, classes: pathlib.Path) -> None:
    outcome = tok("encode", classes, "-o", "t.npy", *flags)
    assert (outcome.code, words in outcome.err) == (code, True), outcome.err
    assert not pathlib.Path("t.npy").exists()
