"""Stand-ins for the shipped tokenizers: tiny artifacts of the ground, under their names, in a folder of the test."""

import pathlib
import shutil

import numpy
import pytest
import soundfile

GROUND = pathlib.Path(__file__).parents[1] / "ground"
STAND_INS = {
    "photo-1": "image-vpvae",
    "photo-2": "image-fsp",
    "speech-1": "audio-vpvae",
}


@pytest.fixture
def stand_ins(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folder that holds photo@1, photo@2 and speech@1."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    for name, case in STAND_INS.items():
        shutil.copy(GROUND / case / "tokenizer.safetensors", folder / f"{name}.safetensors")
    monkeypatch.setattr("tokcli.shipped.FOLDER", folder)
    return folder


@pytest.fixture
def sounds(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of two short sounds."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for index in range(2):
        wave = numpy.random.default_rng(index).normal(size=2000).clip(-1, 1) * 0.1
        soundfile.write(folder / f"sound-{index}.wav", wave, 16000)
    return folder
