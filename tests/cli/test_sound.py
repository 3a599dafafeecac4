"""The whole road through the command line, on generated sound: the same commands as for pictures."""

import math
import pathlib

import numpy
import pytest
import soundfile
from PIL import Image

from tokcli.commands.train import train
from tokcli.tokenizer import Tokenizer
from tokcli.tokens import open_tokens

RECIPE = """# A recipe of sound small enough for a test.
name: tiny-sound
data:
  train: {kind: synthetic-voices, items: 64, size: 1600, sample_rate: 8000}
  eval: {kind: synthetic-voices, items: 3, size: 3000, sample_rate: 8000, seed: 1}
autoencoder:
  {kind: spectral, latent_dim: 3, width: 16, blocks: 1, kernel: 3, sample_rate: 8000, hop: 80, frame: 160, window: 32}
quantizer: {kind: fsp, levels: [4, 3, 3]}
losses:
  - {kind: l1}
training: {steps: 4, batch_size: 4, learning_rate: 1e-3, workers: 0, log_every: 2, checkpoint_every: 4}
evaluation: {batch_size: 4, metrics: [si-sdr, usage]}
"""

LENGTHS = {"one/a.flac": 4000, "one/b.wav": 4000, "two/c.flac": 5555, "d.wav": 79}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A finished run of the tiny recipe."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "sound.yaml").write_text(RECIPE)
    return train(str(folder / "sound.yaml"), out=str(folder / "run")).run


@pytest.fixture
def sound_run(tok, trained: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The finished run, which commands use without being told."""
    monkeypatch.setenv("TOK_MODEL", str(trained))
    return trained


@pytest.fixture
def sounds(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder tree of LENGTHS, in samples at 8 kHz; `two/c.flac` has two channels at 16 kHz."""
    generator = numpy.random.default_rng(0)
    for name, length in LENGTHS.items():
        path = tmp_path / "sounds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shape, rate = ((2 * length, 2), 16000) if name.startswith("two") else (length, 8000)
        soundfile.write(path, generator.uniform(-0.5, 0.5, shape), rate)
    return tmp_path / "sounds"


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second is long already, and is read a tenth of a second at a time."""
    monkeypatch.setattr("tokcli.data.audio.files.LONG_SECONDS", 0.49)
    monkeypatch.setattr("tokcli.data.audio.decoding.VALUES_AT_ONCE", 801)
    monkeypatch.setattr("tokcli.commands.decode.POSITIONS_AT_ONCE", 40)


@pytest.mark.parametrize("output", ["tokens.safetensors", "shards"])
def test_from_sounds_to_tokens_and_back(tok, sound_run: pathlib.Path, sounds: pathlib.Path, output: str) -> None:
    encoded = tok("encode", "sounds", "-o", output, "--json")
    assert encoded.code == 0, encoded.err
    report = encoded.json
    positions = sum(math.ceil(length / 80) for length in LENGTHS.values())
    assert (report["items"], report["tokens"], report["grid"]) == (4, positions, None)
    assert report["kbps"] == pytest.approx(positions * math.log2(36) / sum(LENGTHS.values()) * 8)
    assert 0 < report["kbps_empirical"] <= report["kbps"]
    decoded = tok("decode", output, "-o", "out", "--json")
    assert decoded.code == 0, decoded.err
    written = sorted(path.relative_to("out").as_posix() for path in pathlib.Path("out").rglob("*.*"))
    assert written == sorted(str(pathlib.PurePosixPath(name).with_suffix(".wav")) for name in LENGTHS)
    for name, length in LENGTHS.items():
        about = soundfile.info(pathlib.Path("out", name).with_suffix(".wav"))
        assert (about.frames, about.samplerate, about.channels, about.subtype) == (length, 8000, 1, "PCM_16")


def test_sounds_of_one_length_make_one_array(tok, sound_run: pathlib.Path, sounds: pathlib.Path) -> None:
    assert tok("encode", "sounds", "-o", "tokens.npy").code == 2
    assert tok("encode", "sounds", "-o", "tokens.npy", "--size", "800", "--json").json["grid"] == [10]
    assert numpy.load("tokens.npy").shape == (4, 10)
    assert tok("decode", "tokens.npy", "-o", "out").code == 0
    assert soundfile.info("out/d.wav").frames == 800


def test_a_token_file_knows_rate_and_lengths(tok, sound_run: pathlib.Path, sounds: pathlib.Path) -> None:
    tok("encode", "sounds", "-o", "tokens.safetensors", "-q")
    reader = open_tokens("tokens.safetensors")
    assert (reader.header.modality, reader.header.sample_rate) == ("audio", 8000)
    assert reader.header.preprocessing["sample_rate"] == 8000
    for record in reader.records:
        assert record.original_size == record.signal_size == (LENGTHS[record.item],)
        assert record.grid == (math.ceil(LENGTHS[record.item] / 80),)


def test_long_sounds_give_the_same_tokens_and_files_piece_by_piece(
    tok, sound_run: pathlib.Path, sounds: pathlib.Path, request: pytest.FixtureRequest
) -> None:
    assert tok("encode", "sounds", "-o", "whole.safetensors", "-q").code == 0
    assert tok("decode", "whole.safetensors", "-o", "whole", "-q").code == 0
    request.getfixturevalue("little_memory")
    monkeypatch = request.getfixturevalue("monkeypatch")
    pieces = {"encoded": 0, "decoded": 0}
    encode_stream, decode_stream = Tokenizer.encode_stream, Tokenizer.decode_stream

    def encoding(self, blocks):
        pieces["encoded"] += 1
        return encode_stream(self, blocks)

    def decoding(self, tokens, size):
        for piece in decode_stream(self, tokens, size):
            pieces["decoded"] += 1
            yield piece

    monkeypatch.setattr(Tokenizer, "encode_stream", encoding)
    monkeypatch.setattr(Tokenizer, "decode_stream", decoding)
    assert tok("encode", "sounds", "-o", "parts.safetensors", "-q").code == 0
    assert tok("decode", "parts.safetensors", "-o", "parts", "-q").code == 0
    assert pathlib.Path("parts.safetensors").read_bytes() == pathlib.Path("whole.safetensors").read_bytes()
    assert pieces == {"encoded": 3, "decoded": 2 + 2 + 3}
    for path in pathlib.Path("whole").rglob("*.wav"):
        assert path.read_bytes() == (pathlib.Path("parts") / path.relative_to("whole")).read_bytes()


@pytest.mark.usefixtures("little_memory")
def test_a_long_sound_that_breaks_is_listed_and_the_rest_is_encoded(
    tok, sound_run: pathlib.Path, sounds: pathlib.Path
) -> None:
    broken = numpy.zeros(6000)
    broken[5000] = numpy.nan
    soundfile.write(sounds / "broken.wav", broken, 8000, subtype="FLOAT")
    (sounds / "empty.flac").touch()
    Image.new("RGB", (8, 8)).save(sounds / "cover.jpg")
    outcome = tok("encode", "sounds", "-o", "tokens.safetensors", "--json")
    assert outcome.code == 5
    assert outcome.json["items"] == 4
    assert outcome.json["failed"] == [
        {
            "item": "broken.wav",
            "reason": "the sound holds values that are not finite (NaN or infinity), the first at frame 5000 (0.62 s)",
        },
        {"item": "empty.flac", "reason": "the file is empty (0 bytes)"},
    ]


def test_decoded_files_can_be_flac_and_nothing_that_loses(tok, sound_run: pathlib.Path, sounds: pathlib.Path) -> None:
    tok("encode", "sounds", "-o", "tokens.safetensors", "-q")
    assert tok("decode", "tokens.safetensors", "-o", "out", "--format", "flac").code == 0
    assert soundfile.info("out/one/a.flac").format == "FLAC"
    outcome = tok("decode", "tokens.safetensors", "-o", "lossy", "--format", "mp3")
    assert outcome.code == 2
    assert "audio files are written as wav or flac, not as 'mp3'" in outcome.err
    assert not pathlib.Path("lossy").exists()


def test_eval_judges_a_folder_of_sounds_and_draws_them(tok, sound_run: pathlib.Path, sounds: pathlib.Path) -> None:
    outcome = tok("eval", "--data", "sounds", "--sheet", "sheet.png", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["items"] == 4
    assert outcome.json["protocol"]["data"]["sample_rate"] == 8000
    assert len(numpy.unique(numpy.asarray(Image.open("sheet.png")))) > 50


def test_pictures_have_no_sound_formats(tok, tiny_run: pathlib.Path, photos: pathlib.Path) -> None:
    tok("encode", "photos", "-o", "tokens.npy", "-q")
    outcome = tok("decode", "tokens.npy", "-o", "out", "--format", "flac")
    assert outcome.code == 2
    assert "images are written as png, jpg or webp, not as 'flac'" in outcome.err
