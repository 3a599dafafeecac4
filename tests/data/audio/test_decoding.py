"""Reading sound files: every format, every damage."""

from pathlib import Path

import numpy
import pytest
import soundfile
from PIL import Image

from tokcli.data.audio import decoding
from tokcli.data.audio.decoding import AudioReader
from tokcli.data.files import open_file
from tokcli.errors import InputError

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "aiff": ("AIFF", "PCM_24"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
}


def noise(frames: int, channels: int = 1) -> numpy.ndarray:
    """Quiet noise over a tone, (frames, channels)."""
    tone = 0.3 * numpy.sin(numpy.arange(frames) / 10)[:, None]
    return tone + 0.05 * numpy.random.default_rng(0).standard_normal((frames, channels))


def save(path: Path, sound: numpy.ndarray, sample_rate: int = 16000) -> Path:
    container, coding = FORMATS[path.suffix[1:]]
    soundfile.write(path, sound, sample_rate, format=container, subtype=coding)
    return path


def read(path: Path, start: int = 0, frames: int | None = None) -> numpy.ndarray:
    with AudioReader(open_file(str(path))) as reader:
        return numpy.concatenate(list(reader.blocks(start, frames)))


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_read_whole_and_in_part(tmp_path: Path, suffix: str) -> None:
    sound = noise(20_000)
    path = save(tmp_path / f"a.{suffix}", sound)
    whole = read(path)
    assert whole.dtype == numpy.float32
    assert numpy.corrcoef(whole, sound[:, 0])[0, 1] > 0.98
    assert numpy.abs(read(path, 7001, 3000) - whole[7001:10001]).max() < 1e-6


def test_channels_are_averaged_whatever_their_number_and_rate(tmp_path: Path) -> None:
    sound = numpy.random.default_rng(0).integers(-(2**15), 2**15, (3000, 8), dtype=numpy.int16)
    with AudioReader(open_file(str(save(tmp_path / "a.wav", sound, 192_000)))) as reader:
        assert (reader.channels, reader.sample_rate, reader.frames) == (8, 192_000, 3000)
        samples = numpy.concatenate(list(reader.blocks()))
    assert numpy.allclose(samples, sound.astype(float).mean(axis=1) / 2**15, atol=1e-7)


def test_a_piece_is_found_without_decoding_what_lies_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.flac", noise(400_000))
    asked = []
    original = soundfile.SoundFile.read

    def counting(self: soundfile.SoundFile, frames: int = -1, *others: object, **named: object) -> numpy.ndarray:
        asked.append(frames)
        return original(self, frames, *others, **named)

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    assert len(read(path, 390_000, 500)) == 500
    assert asked == [500]


def test_blocks_are_short_and_make_up_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.wav", noise(1000, 2))
    whole = read(path)
    monkeypatch.setattr(decoding, "VALUES_AT_ONCE", 150)
    with AudioReader(open_file(str(path))) as reader:
        blocks = list(reader.blocks())
    assert {len(block) for block in blocks} == {75, 1000 % 75}
    assert numpy.array_equal(numpy.concatenate(blocks), whole)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").touch()
    with pytest.raises(InputError, match=r"^the file is empty \(0 bytes\)$"):
        read(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "aiff"])
def test_a_picture_under_the_name_of_a_sound_is_refused(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.jpg")
    path = (tmp_path / "a.jpg").rename(tmp_path / f"a.{suffix}")
    with pytest.raises(InputError, match=r"^the content is not sound that this can read \(WAV, FLAC, MP3, Ogg, Opus,"):
        read(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the file cannot be opened: No such file"):
        read(tmp_path / "gone.wav")
    with pytest.raises(InputError, match="the file cannot be opened: Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("suffix", "words"),
    [
        ("wav", r"^the sound is cut short: the file holds \d+ of the 80000 bytes that it announces$"),
        ("aiff", r"^the sound is cut short: the file holds \d+ of the 12000\d bytes that it announces$"),
        ("flac", r"^the sound is damaged or cut short: .*flac"),
        ("mp3", r"^the sound is damaged or cut short: \d+ of 40000 frames can be read$"),
    ],
)
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, words: str) -> None:
    path = save(tmp_path / f"a.{suffix}", noise(40_000))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=words):
        read(path)


def test_a_flac_file_damaged_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.flac", noise(40_000))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 500] = bytes(500)
    path.write_bytes(content)
    with pytest.raises(InputError, match="the sound is damaged or cut short"):
        read(path)


def test_a_wav_file_from_a_pipe_which_cannot_know_its_length_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", noise(1000))
    whole = read(path)
    content = path.read_bytes()
    place = content.index(b"data") + 4
    path.write_bytes(content[:place] + b"\xff\xff\xff\xff" + content[place + 4 :])
    assert numpy.array_equal(read(path), whole)


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^the file holds no samples$"):
        read(save(tmp_path / "a.wav", numpy.zeros((0, 1))))


@pytest.mark.parametrize("value", [numpy.nan, numpy.inf, -numpy.inf])
def test_values_that_are_not_finite_are_refused_and_placed(tmp_path: Path, value: float) -> None:
    sound = noise(8000, 2)
    sound[4000, 1] = value
    soundfile.write(tmp_path / "a.wav", sound, 16000, subtype="FLOAT")
    with pytest.raises(InputError, match=r"not finite \(NaN or infinity\), the first at frame 4000 \(0\.25 s\)$"):
        read(tmp_path / "a.wav")
