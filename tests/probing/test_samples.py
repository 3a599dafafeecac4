"""What is laid beside samples: a sheet, sounds, and a distance where there are weights to measure it."""

import dataclasses
import pathlib
from typing import Any

import pytest
import torch
from probe_samples import HEADER, write_counting_tokens

from tokcli.probing import samples
from tokcli.probing.loading import ProbeInput, open_inputs
from tokcli.progress import SILENT


@pytest.fixture
def given(tmp_path: pathlib.Path) -> ProbeInput:
    (opened,) = open_inputs([str(write_counting_tokens(tmp_path / "train.npy"))], [])
    return opened


def test_sounds_are_saved_beside_real_ones(tmp_path: pathlib.Path) -> None:
    header = dataclasses.replace(HEADER, modality="audio", sample_rate=8000)
    (given,) = open_inputs([str(write_counting_tokens(tmp_path / "train.npy", header=header, grid=(16,)))], [])
    sounds = torch.sin(torch.arange(4000) / 9).expand(2, 1, 4000)
    shown = samples._show(tmp_path, given, sounds, 0.5 * sounds)
    assert pathlib.Path(shown["sheet"]).is_file()
    names = sorted(path.name for path in pathlib.Path(shown["sounds"]).iterdir())
    assert names == ["000-real.wav", "000-sampled.wav", "001-real.wav", "001-sampled.wav"]
    assert samples._compute_fid(given, sounds, sounds, "train", SILENT) is None


def test_the_distance_is_that_of_as_many_real_ones(
    given: ProbeInput, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    seen: list[Any] = []

    class Distance:
        undersampled = False

        def update(self, round_trip: Any) -> None:
            seen.append((len(round_trip.reference), len(round_trip.reconstruction)))

        def compute(self) -> float:
            return 12.5

    monkeypatch.setattr(samples, "Rfid", Distance)
    monkeypatch.setattr(samples, "find_weight_file", lambda name: tmp_path / name)
    assert samples._compute_fid(given, torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8), "train", SILENT) is None
    (tmp_path / samples.WEIGHT_FILE).touch()
    reals, drawn = torch.zeros(40, 3, 8, 8), torch.zeros(35, 3, 8, 8)
    assert samples._compute_fid(given, reals, drawn, "train", SILENT) == 12.5
    assert seen == [(32, 32), (3, 3)]


def test_real_ones_are_of_the_held_out_items_and_of_one_shape(given: ProbeInput) -> None:
    shape, tokens = samples.read_reals(given, context=8, count=100)
    held = [record.item for record in given.train.records if samples.choose_split(record.item, 0.9) == "val"]
    assert shape == (2, 4)
    assert len(tokens) == 2 * len(held)
