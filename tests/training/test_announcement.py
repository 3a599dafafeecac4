"""A run says what it trains and is judged on, and warns where these are the same files."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from tokcli.commands.train import train
from tokcli.contracts import Source
from tokcli.data.audio.files import AudioFiles
from tokcli.data.audio.synthetic_voices import SyntheticVoices
from tokcli.data.image.dead_leaves import DeadLeaves
from tokcli.data.image.files import ImageFiles
from tokcli.training.announcement import describe_evaluation, describe_training, find_shared_files

MakeSource = Callable[[pathlib.Path], Source]


def images(count: int, *arguments: Any, **named: Any) -> MakeSource:
    """A source of so many images, listed in a given folder; they need not exist, as nothing is read."""
    return lambda folder: ImageFiles(listed(folder, count), *arguments, **named)


def recordings(count: int, *arguments: Any, **named: Any) -> MakeSource:
    """The same of audio."""
    return lambda folder: AudioFiles(listed(folder, count), *arguments, **named)


def listed(folder: pathlib.Path, count: int) -> str:
    """A list of so many files."""
    path = folder / "list.txt"
    path.write_text("".join(f"{index}.png\n" for index in range(count)))
    return str(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (images(684, 64, crop="random"), "684 pictures, crops of 64²"),
        (images(1, 256), "1 picture of 256²"),
        (recordings(215, 9600, crop="random"), "215 sounds, clips of 0.6 s"),
        (lambda _: DeadLeaves(items=1), "endless pictures (dead leaves) of 64², none of them twice"),
        (lambda _: SyntheticVoices(), "endless sounds (synthetic voices), clips of 0.6 s, none of them twice"),
    ],
)
def test_training_data_is_told_in_words(make: MakeSource, words: str, tmp_path: pathlib.Path) -> None:
    assert describe_training(make(tmp_path)) == words


@pytest.mark.parametrize(
    ("make", "items", "words"),
    [
        (images(100, 256), None, "100 pictures of 256²"),
        (images(100, 256), 400, "100 pictures of 256²"),
        (images(100), 8, "the first 8 of 100 pictures, whole"),
        (recordings(36), None, "36 sounds, whole"),
        (lambda _: DeadLeaves(items=200, size=32), None, "200 pictures (dead leaves) of 32²"),
    ],
)
def test_evaluation_data_is_told_in_words(
    make: MakeSource, items: int | None, words: str, tmp_path: pathlib.Path
) -> None:
    assert describe_evaluation(make(tmp_path), items) == words


@pytest.fixture
def pictures(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with four pictures, two lists of them that overlap in one, and a folder of links to two of them."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(4):
        Image.new("RGB", (16, 16), (60 * index, 0, 0)).save(folder / f"{index}.png")
    (tmp_path / "train.txt").write_text("pictures/0.png\npictures/1.png\npictures/2.png\n")
    (tmp_path / "val.txt").write_text("pictures/2.png\npictures/3.png\n")
    (tmp_path / "rest.txt").write_text("pictures/3.png\n")
    (tmp_path / "links").mkdir()
    for index in (1, 3):
        os.symlink(folder / f"{index}.png", tmp_path / "links" / f"another-{index}.png")
    os.symlink(folder, tmp_path / "same")
    return tmp_path


@pytest.mark.parametrize(
    ("trained", "judged", "items", "shared"),
    [
        ("pictures", "pictures", None, 4),
        ("pictures", "pictures", 3, 3),
        ("pictures", "same", None, 4),
        ("train.txt", "val.txt", None, 1),
        ("train.txt", "rest.txt", None, 0),
        ("train.txt", "links", None, 1),
        ("links", "pictures", None, 2),
        ("links", "links", None, 2),
    ],
)
def test_files_in_both_halves_are_counted(
    pictures: pathlib.Path, trained: str, judged: str, items: int | None, shared: int
) -> None:
    first, second = (ImageFiles(str(pictures / name), 16) for name in (trained, judged))
    assert find_shared_files(first, second, items) == shared


def test_what_is_made_shares_no_files(pictures: pathlib.Path) -> None:
    assert find_shared_files(DeadLeaves(), DeadLeaves()) == 0
    assert find_shared_files(DeadLeaves(), ImageFiles(str(pictures / "links"), 16)) == 0


class Notes:
    """A reporter that remembers its notes, and what it was told before the first step."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def task(self, label: str, *_: object, **__: object):
        raise StopBefore(label)


class StopBefore(Exception):
    """Where the first task would begin."""


def notes_before_the_first_step(tiny: str, folder: pathlib.Path, trained: str, judged: str) -> list[str]:
    (folder / "tiny.yaml").write_text(tiny)
    nodes = [
        f"data.{part}={{kind: images, path: {folder / name}, size: 16}}"
        for part, name in (("train", trained), ("eval", judged))
    ]
    reporter = Notes()
    with pytest.raises(StopBefore, match="training"):
        train(str(folder / "tiny.yaml"), nodes, out=str(folder / "run"), reporter=reporter)
    return reporter.notes


def test_a_run_tells_its_data_before_the_first_step(tiny: str, pictures: pathlib.Path) -> None:
    notes = notes_before_the_first_step(tiny, pictures, "train.txt", "rest.txt")
    assert len(notes) == 1
    assert notes[0].endswith("; training on 3 pictures of 16²; judged on 1 picture of 16²")


def test_judging_on_training_files_is_told_with_the_way_out(tiny: str, pictures: pathlib.Path) -> None:
    told, warned = notes_before_the_first_step(tiny, pictures, "train.txt", "val.txt")
    assert told.partition("cpu; ")[2] == "training on 3 pictures of 16²; judged on 2 pictures of 16²"
    assert warned.startswith("1 of the 2 files to judge on is also trained on")
    assert "two lists (train.txt, val.txt, a path a line)" in warned
