"""Sounds from files: what is cut, what is resampled, what chance decides, and streams that equal the whole."""

import pickle
import tracemalloc
from pathlib import Path

import numpy
import pytest
import soundfile
import torch
from PIL import Image

from tokcli.contracts import Item, Stream
from tokcli.data import SOURCES
from tokcli.data.audio import files as audio_files
from tokcli.data.audio.files import AudioFiles
from tokcli.data.items import Failure, group_items, read_items
from tokcli.errors import InputError, RecipeError


def save(path: Path, frames: int, sample_rate: int = 16000, channels: int = 1) -> numpy.ndarray:
    """A file whose 16-bit values count up from -16000, in every channel."""
    counted = (numpy.arange(frames) % 32000 - 16000).astype(numpy.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, numpy.stack([counted] * channels, axis=1), sample_rate)
    return counted


def values(signal: torch.Tensor) -> list[int]:
    return signal[0].mul(32768).round().int().tolist()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole files of more than a second are long, as if memory were small."""
    monkeypatch.setattr(audio_files, "LONG_SECONDS", 1)


def test_without_a_size_sounds_stay_whole(tmp_path: Path) -> None:
    counted = save(tmp_path / "speaker" / "chapter" / "a.flac", 1000)
    item = AudioFiles(str(tmp_path)).load(0)
    assert item.name == "speaker/chapter/a.flac"
    assert item.original_size == (1000,)
    assert item.signal.dtype == torch.float32
    assert values(item.signal) == counted.tolist()


def test_the_original_size_is_counted_at_the_new_rate(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", 44_100 * 2 + 441, 44_100)
    item = AudioFiles(str(tmp_path)).load(0)
    assert item.original_size == (32_160,)
    assert item.signal.shape == (1, 32_160)
    assert AudioFiles(str(tmp_path), size=500).load(0).original_size == (32_160,)


@pytest.mark.parametrize(("crop", "first"), [("start", 0), ("center", 450)])
def test_a_size_takes_the_beginning_or_the_middle(tmp_path: Path, crop: str, first: int) -> None:
    counted = save(tmp_path / "a.wav", 1001)
    item = AudioFiles(str(tmp_path), size=100, crop=crop).load(0)
    assert values(item.signal) == counted[first : first + 100].tolist()


@pytest.mark.parametrize("crop", ["start", "center", "random"])
def test_a_short_sound_is_followed_by_silence(tmp_path: Path, crop: str) -> None:
    counted = save(tmp_path / "a.wav", 160)  # ten milliseconds
    item = AudioFiles(str(tmp_path), size=1000, crop=crop).load(0, 3)
    assert values(item.signal) == [*counted.tolist(), *[0] * 840]
    assert item.original_size == (160,)


def test_random_crops_depend_on_item_and_draw_alone(tmp_path: Path) -> None:
    counted = save(tmp_path / "a.wav", 5000)
    source, again = (AudioFiles(str(tmp_path), size=100, crop="random") for _ in range(2))
    starts = []
    for draw in range(200):
        signal = source.load(0, draw).signal
        starts.append(values(signal)[0] + 16000)
        assert values(signal) == counted[starts[-1] : starts[-1] + 100].tolist()
        assert torch.equal(signal, again.load(0, draw).signal)
    assert min(starts) < 100
    assert 4700 < max(starts) <= 4900


@pytest.mark.parametrize("sample_rate", [8000, 44_100, 48_000])
def test_a_random_crop_is_a_part_of_the_whole_at_any_rate(tmp_path: Path, sample_rate: int) -> None:
    sound = numpy.random.default_rng(0).uniform(-0.5, 0.5, 2 * sample_rate)
    soundfile.write(tmp_path / "a.wav", sound, sample_rate)
    whole = AudioFiles(str(tmp_path)).load(0).signal[0]
    for draw in range(5):
        part = AudioFiles(str(tmp_path), size=3000, crop="random").load(0, draw).signal[0]
        start = int((whole.unfold(0, 3000, 1)[:, :50] - part[:50]).abs().sum(dim=1).argmin())
        assert (whole[start : start + 3000] - part).abs().max() < 1e-5


def test_eight_channels_at_192_kilohertz_become_one_at_sixteen(tmp_path: Path) -> None:
    sine = 0.5 * numpy.sin(2 * numpy.pi * 440 * numpy.arange(192_000) / 192_000)
    soundfile.write(tmp_path / "a.wav", numpy.outer(sine, numpy.linspace(0, 2, 8)), 192_000, subtype="FLOAT")
    signal = AudioFiles(str(tmp_path)).load(0).signal[0].numpy()
    exact = 0.5 * numpy.sin(2 * numpy.pi * 440 * numpy.arange(16_000) / 16_000)
    assert numpy.abs(signal - exact)[500:-500].max() < 2e-5


def test_silence_stays_silent_and_loud_values_are_clamped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", numpy.zeros(44_100), 44_100)
    soundfile.write(tmp_path / "b.wav", numpy.array([0.0, 3.0, -7.0, 0.5]), 16000, subtype="FLOAT")
    source = AudioFiles(str(tmp_path))
    assert not source.load(0).signal.any()
    assert source.load(1).signal.tolist() == [[0.0, 1.0, -1.0, 0.5]]


def test_a_folder_that_mixes_images_and_audio_gives_the_audio(tmp_path: Path) -> None:
    save(tmp_path / "one" / "a.flac", 10)
    save(tmp_path / "b.WAV", 10)
    Image.new("RGB", (4, 4)).save(tmp_path / "one" / "cover.jpg")
    (tmp_path / "one" / "a.trans.txt").write_text("what is said")
    assert list(AudioFiles(str(tmp_path)).names) == ["b.WAV", "one/a.flac"]


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.flac").touch()
    source = AudioFiles(str(tmp_path))
    for load in (source.load, source.load_or_stream):
        with pytest.raises(InputError, match=r"^a/b\.flac: the file is empty \(0 bytes\)$"):
            load(0)


def test_less_than_one_sample_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", 1, 48_000)
    with pytest.raises(InputError, match=r"a\.wav: the file holds 1 frames at 48000 Hz, which is less than one sample"):
        AudioFiles(str(tmp_path)).load(0)


@pytest.mark.parametrize("sample_rate", [16000, 44_100])
@pytest.mark.usefixtures("short")
def test_a_stream_makes_up_the_whole(tmp_path: Path, sample_rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = numpy.random.default_rng(0).uniform(-1.2, 1.2, (3 * sample_rate + 5, 2))
    soundfile.write(tmp_path / "a.wav", sound, sample_rate, subtype="FLOAT")
    source = AudioFiles(str(tmp_path))
    whole = source.load(0)
    monkeypatch.setattr("tokcli.data.audio.decoding.VALUES_AT_ONCE", 10_001)
    stream = pickle.loads(pickle.dumps(source.load_or_stream(0)))
    assert isinstance(stream, Stream)
    assert stream.name == whole.name
    for _ in range(2):
        blocks = list(stream.blocks())
        assert len(blocks) > 5
        assert torch.equal(torch.cat(blocks, dim=1), whole.signal)


@pytest.mark.usefixtures("short")
def test_short_and_cropped_sounds_are_no_streams(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", 16_000)
    save(tmp_path / "b.wav", 16_001)
    whole = AudioFiles(str(tmp_path))
    assert [type(whole.load_or_stream(index)) for index in (0, 1)] == [Item, Stream]
    assert isinstance(AudioFiles(str(tmp_path), size=10).load_or_stream(1), Item)


@pytest.mark.usefixtures("short")
def test_a_stream_that_breaks_names_its_item(tmp_path: Path) -> None:
    sound = numpy.zeros(20_000)
    sound[19_000] = numpy.nan
    soundfile.write(tmp_path / "a.wav", sound, 16000, subtype="FLOAT")
    stream = AudioFiles(str(tmp_path)).load_or_stream(0)
    with pytest.raises(InputError, match=r"^a\.wav: the sound holds values that are not finite"):
        list(stream.blocks())


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.usefixtures("short")
def test_streams_are_read_in_their_place(tmp_path: Path, workers: int) -> None:
    for index, frames in enumerate([100, 20_000, 100, 100]):
        save(tmp_path / f"{index}.wav", frames)
    (tmp_path / "4.wav").touch()
    source = AudioFiles(str(tmp_path))
    groups = list(group_items(read_items(source, workers, streams=True), 8))
    assert [type(group) for group in groups] == [list, Stream, list, Failure]
    assert sum(block.shape[1] for block in groups[1].blocks()) == 20_000
    assert [type(group) for group in group_items(read_items(source, workers), 8)] == [list, list, list, Failure]


def test_memory_does_not_grow_with_the_length_of_a_stream(tmp_path: Path) -> None:
    peaks = []
    for minutes in (2, 8):
        path = tmp_path / f"{minutes}.wav"
        soundfile.write(path, numpy.zeros(minutes * 60 * 24_000, numpy.int16), 24_000)
        stream = AudioFiles(str(path)).load_or_stream(0)
        tracemalloc.start()
        assert sum(block.shape[1] for block in stream.blocks()) == minutes * 60 * 16_000
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] < 20e6


def test_the_protocol_says_what_was_done(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", 10)
    protocol = AudioFiles(str(tmp_path), size=9600, sample_rate=24_000, crop="random").protocol()
    assert protocol == {
        "size": 9600,
        "sample_rate": 24_000,
        "resampler": "soxr HQ",
        "crop": "random",
        "channels": "averaged",
        "beyond_full_scale": "clamped",
    }
    assert AudioFiles(str(tmp_path)).protocol()["crop"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 0}, "size: expected 1 or more, got 0"),
        ({"sample_rate": 0}, "sample_rate: expected 1 or more, got 0"),
        ({"crop": "middle"}, "crop: input should be 'center', 'random' or 'start'"),
    ],
)
def test_a_recipe_is_told_what_does_not_fit(tmp_path: Path, arguments: dict[str, object], words: str) -> None:
    save(tmp_path / "a.wav", 10)
    with pytest.raises(RecipeError, match=words):
        SOURCES.build({"kind": "audio", "path": str(tmp_path), **arguments}, "data.train")
