"""What can be done with files of images: read, save and show."""

from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from tokcli.data.files import open_file
from tokcli.data.image.decoding import read_image, to_signal
from tokcli.data.image.view import SHEET_GAP
from tokcli.data.modality import IMAGE
from tokcli.data.view import LABEL
from tokcli.errors import InputError, MismatchError


def read(path: Path) -> Image.Image:
    """The image in a file."""
    with open_file(str(path)) as file:
        return read_image(file)


def plain(red: int, height: int = 4, width: int = 6) -> torch.Tensor:
    """A signal of one colour."""
    return torch.tensor([red / 127.5 - 1, -1.0, 1.0])[:, None, None].expand(3, height, width)


def test_found_files_are_read_square_or_whole(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), "red").save(tmp_path / "a.jpg")
    paths = [str(tmp_path)]
    assert IMAGE.open_source(paths, 8, None).load(0).signal.shape == (3, 8, 8)
    assert IMAGE.open_source(paths, None, None).load(0).signal.shape == (3, 20, 40)


def test_finding_nothing_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no images: .*\.jpg, \.jpeg, \.png, \.webp, \.bmp, \.tif, \.tiff"):
        IMAGE.open_source([str(tmp_path)], None, None)


def test_a_saved_signal_reads_back_rounded(tmp_path: Path) -> None:
    signal = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)) * 2.2 - 1.1
    path = tmp_path / "class" / "photo.v2.png"
    IMAGE.save(path, [signal], None)
    expected = numpy.rint((signal.clamp(-1, 1).double().numpy() + 1) * 127.5)
    assert (numpy.array(read(path)).transpose(2, 0, 1) == expected).all()
    assert torch.allclose(to_signal(read(path)), signal.clamp(-1, 1), atol=0.5 / 127.5 + 1e-6)


def test_saving_replaces_whole_files_and_leaves_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    IMAGE.save(tmp_path / "a.png", [plain(10)], None)
    IMAGE.save(tmp_path / "a.png", [plain(20)], None)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]

    def full(self: Image.Image, file: Path, **options: object) -> None:
        Path(file).write_bytes(b"half a pict")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        IMAGE.save(tmp_path / "a.png", [plain(30)], None)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert read(tmp_path / "a.png").getpixel((0, 0)) == (20, 0, 255)


def test_results_are_named_after_their_items() -> None:
    assert IMAGE.strip_suffixes(["n01/a.JPEG", "n02/a.JPEG", "v1.2", "b.tar.png"]) == [
        "n01/a",
        "n02/a",
        "v1.2",
        "b.tar",
    ]


def test_results_that_would_clash_keep_their_suffixes() -> None:
    assert IMAGE.strip_suffixes(["a.jpg", "a.png", "b.png"]) == ["a.jpg", "a.png", "b.png"]


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "a/../../b.jpg", ""])
def test_names_cannot_leave_their_folder(name: str) -> None:
    with pytest.raises(MismatchError, match="does not stay within a folder; expected a relative path"):
        IMAGE.strip_suffixes(["fine.jpg", name])


@pytest.fixture
def unscaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheets whose pixels are those of the pictures."""
    monkeypatch.setattr("tokcli.data.image.view.LARGEST_PIXEL", 1)


def test_small_pictures_are_enlarged_to_squares_of_four_pixels() -> None:
    sheet = IMAGE.view.sheet([plain(1, 2, 3)], [plain(2, 2, 3)])
    assert sheet.size == (4 * 3, 2 * 4 * 2 + SHEET_GAP)
    assert sheet.getpixel((11, 7)) == (1, 0, 255)


def test_a_sheet_shows_originals_over_reconstructions(unscaled: None) -> None:
    references = [plain(index) for index in range(10)]
    reconstructions = [plain(100 + index) for index in range(10)]
    sheet = IMAGE.view.sheet(references, reconstructions)
    across, down = 6 + SHEET_GAP, 4 + SHEET_GAP
    band = 2 * down + SHEET_GAP
    assert sheet.size == (8 * across - SHEET_GAP, 2 * band - 2 * SHEET_GAP)
    for index in range(10):
        left, top = index % 8 * across, index // 8 * band
        assert sheet.getpixel((left, top)) == (index, 0, 255)
        assert sheet.getpixel((left + 5, top + down + 3)) == (100 + index, 0, 255)
    assert sheet.getpixel((6, 0)) == (255, 255, 255)


def test_a_sheet_holds_pictures_of_any_size(unscaled: None) -> None:
    sheet = IMAGE.view.sheet([plain(1, 2, 9), plain(2, 5, 3)], [plain(3, 2, 9), plain(4, 5, 3)])
    assert sheet.size == (2 * 9 + SHEET_GAP, 2 * 5 + SHEET_GAP)


def test_a_sheet_of_several_reconstructions_labels_every_row_in_every_band(unscaled: None) -> None:
    references, first, second = ([plain(start + index, 30, 40) for index in range(9)] for start in (0, 100, 200))
    sheet = numpy.asarray(IMAGE.view.sheet(references, first, second, labels=["original", "a", "jpeg q7"]))
    down = LABEL + 30 + SHEET_GAP
    band = 3 * down + SHEET_GAP
    assert sheet.shape == (2 * band - 2 * SHEET_GAP, 8 * (40 + SHEET_GAP) - SHEET_GAP, 3)
    for index in range(9):
        left, top = index % 8 * (40 + SHEET_GAP), index // 8 * band
        for row, start in enumerate((0, 100, 200)):
            assert sheet[top + row * down + LABEL, left].tolist() == [start + index, 0, 255]
            label = sheet[top + row * down : top + row * down + LABEL]
            assert label.min() < 100  # letters
            assert (label[-2:] == 255).all() or row == 2  # and only the tail of a q comes near the pictures


def test_a_sheet_is_as_wide_as_its_longest_label() -> None:
    sheet = IMAGE.view.sheet([plain(1)], [plain(2)], labels=["original", "a-name-that-is-wider-than-its-pictures"])
    assert sheet.width > 200
