"""Images from files: what is resized, what is cropped, and what chance decides."""

from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from tokcli.data import SOURCES
from tokcli.data.image.decoding import to_pixels, to_signal
from tokcli.data.image.files import ImageFiles
from tokcli.errors import InputError, RecipeError


def save(path: Path, width: int, height: int) -> Image.Image:
    """A picture whose red is the column, green the row, and blue random."""
    blue = numpy.random.default_rng(0).integers(0, 256, (height, width))
    row, column = numpy.indices((height, width))
    image = Image.fromarray(numpy.stack([column, row, blue], axis=2).astype(numpy.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return image


def corner(source: ImageFiles, draw: int = 0) -> tuple[int, int]:
    """Column and row of the top left pixel of an image that was cropped but not resized."""
    red, green, _ = to_pixels(source.load(0, draw).signal)[:, 0, 0].tolist()
    return red, green


def test_without_a_size_images_stay_whole(tmp_path: Path) -> None:
    image = save(tmp_path / "class" / "a.png", 20, 11)
    item = ImageFiles(str(tmp_path)).load(0)
    assert item.name == "class/a.png"
    assert item.original_size == (11, 20)
    assert torch.equal(item.signal, to_signal(image))


def test_a_size_alone_resizes_the_shorter_side_and_takes_the_centre(tmp_path: Path) -> None:
    image = save(tmp_path / "a.png", 90, 60)
    item = ImageFiles(str(tmp_path), size=32).load(0)
    whole = image.resize((48, 32), Image.Resampling.BICUBIC)
    assert item.original_size == (60, 90)
    assert torch.equal(item.signal, to_signal(whole.crop((8, 0, 40, 32))))


@pytest.mark.parametrize(("width", "height"), [(97, 61), (61, 97), (40, 40), (200, 33)])
def test_resizing_only_the_crop_equals_cropping_the_resized_image(tmp_path: Path, width: int, height: int) -> None:
    image = save(tmp_path / "a.png", width, height)
    item = ImageFiles(str(tmp_path), size=24, resize=30).load(0)
    whole = image.resize(
        (max(30, round(width * 30 / min(width, height))), max(30, round(height * 30 / min(width, height)))), 3
    )
    left, top = (whole.width - 24) // 2, (whole.height - 24) // 2
    expected = to_pixels(to_signal(whole.crop((left, top, left + 24, top + 24)))).int()
    assert (to_pixels(item.signal).int() - expected).abs().max() <= 1


def test_resize_false_crops_the_image_as_it_is(tmp_path: Path) -> None:
    image = save(tmp_path / "a.png", 41, 30)
    item = ImageFiles(str(tmp_path), size=10, resize=False).load(0)
    assert torch.equal(item.signal, to_signal(image.crop((15, 10, 25, 20))))


def test_a_number_resizes_whole_images_too(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 40, 20)
    assert ImageFiles(str(tmp_path), resize=10).load(0).signal.shape == (3, 10, 20)


@pytest.mark.parametrize("resize", [True, False, 20])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 30), (1, 500)])
def test_images_smaller_than_the_crop_are_enlarged(tmp_path: Path, resize: int | bool, width: int, height: int) -> None:
    save(tmp_path / "a.png", width, height)
    signal = ImageFiles(str(tmp_path), size=16, resize=resize, crop="random").load(0, 3).signal
    assert signal.shape == (3, 16, 16)
    assert signal.abs().max() <= 1


def test_random_crops_depend_on_item_and_draw_alone(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 100, 90)
    source = ImageFiles(str(tmp_path), size=8, resize=False, crop="random")
    again = ImageFiles(str(tmp_path), size=8, resize=False, crop="random")
    corners = [corner(source, draw) for draw in range(300)]
    assert corners == [corner(again, draw) for draw in range(300)]
    columns, rows = zip(*corners, strict=True)
    assert min(columns) < 5
    assert max(columns) > 87
    assert max(columns) <= 92
    assert min(rows) < 5
    assert 77 < max(rows) <= 82


def test_half_of_the_draws_are_mirrored(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 16, 16)
    source = ImageFiles(str(tmp_path), size=16, flip=True)
    plain = ImageFiles(str(tmp_path), size=16).load(0).signal
    mirrored = 0
    for draw in range(200):
        signal = source.load(0, draw).signal
        mirrored += torch.equal(signal, plain.flip(-1))
        assert torch.equal(signal, plain) or torch.equal(signal, plain.flip(-1))
    assert 70 < mirrored < 130


def test_several_paths_make_one_source(tmp_path: Path) -> None:
    save(tmp_path / "one" / "a.png", 4, 4)
    save(tmp_path / "two" / "a.png", 5, 5)
    source = ImageFiles([str(tmp_path / "two"), str(tmp_path / "one" / "a.png")])
    assert list(source.names) == ["two/a.png", "one/a.png"]
    assert [source.load(index).original_size for index in range(len(source))] == [(5, 5), (4, 4)]


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "n01").mkdir()
    (tmp_path / "n01" / "a.jpg").touch()
    with pytest.raises(InputError, match=r"^n01/a\.jpg: the file is empty \(0 bytes\)$"):
        ImageFiles(str(tmp_path), size=8).load(0)


def test_a_listed_file_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("gone.jpg\n")
    with pytest.raises(InputError, match=r"^gone\.jpg: the file cannot be opened: No such file"):
        ImageFiles(str(tmp_path / "list.txt")).load(0)


def test_an_enlargement_beyond_all_memory_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1, 3000)
    with pytest.raises(InputError, match=r"a\.png: resized to 256x768000 it would exceed 25000000 pixels"):
        ImageFiles(str(tmp_path), resize=256).load(0)


def test_the_protocol_says_what_was_done(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 4, 4)
    protocol = ImageFiles(str(tmp_path), size=256).protocol()
    assert (protocol["size"], protocol["resize"], protocol["crop"]) == (256, 256, "center")
    protocol = ImageFiles(str(tmp_path)).protocol()
    assert (protocol["size"], protocol["resize"], protocol["crop"]) == (None, None, None)
    protocol = ImageFiles(str(tmp_path), size=64, resize=False, crop="random").protocol()
    assert (protocol["size"], protocol["resize"], protocol["crop"]) == (64, False, "random")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 0}, "size: expected 1 or more, got 0"),
        ({"size": 64, "resize": 32}, r"resize must be true, false or at least the crop's size \(64\), got 32"),
        ({"resize": 0}, r"resize must be true, false or at least the crop's size \(1\), got 0"),
        ({"crop": "middle"}, "crop: input should be 'center' or 'random'"),
        ({"sise": 64}, "sise: 'images' takes no such argument; did you mean 'size'"),
    ],
)
def test_a_recipe_is_told_what_does_not_fit(tmp_path: Path, arguments: dict[str, object], words: str) -> None:
    save(tmp_path / "a.png", 4, 4)
    with pytest.raises(RecipeError, match=words):
        SOURCES.build({"kind": "images", "path": str(tmp_path), **arguments}, "data.train")


def test_a_recipe_is_told_where_the_missing_path_stands() -> None:
    with pytest.raises(InputError, match=r"^data\.train: there is no file or folder 'nowhere/photos'"):
        SOURCES.build({"kind": "images", "path": "nowhere/photos"}, "data.train")
