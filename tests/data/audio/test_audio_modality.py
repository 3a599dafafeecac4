"""What can be done with files of audio: read, save and show."""

from pathlib import Path

import numpy
import pytest
import soundfile
import torch

from tokcli.data.audio.synthetic_voices import SyntheticVoices
from tokcli.data.audio.view import COLUMNS, SHEET_GAP, WINDOW, helix
from tokcli.data.modality import AUDIO, IMAGE, MODALITIES
from tokcli.data.view import LABEL
from tokcli.errors import InputError, UsageError


def test_found_files_are_read_at_the_rate_of_the_model(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.ogg", numpy.zeros(8000), 8000)
    paths = [str(tmp_path)]
    assert AUDIO.open_source(paths, None, 16000).load(0).signal.shape == (1, 16000)
    assert AUDIO.open_source(paths, 24, 24000).load(0).signal.shape == (1, 24)


def test_finding_nothing_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no audio files: .*\.wav, \.flac, \.mp3, \.ogg, \.oga, \.opus, \.aif"):
        AUDIO.open_source([str(tmp_path)], None, 16000)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_saved_pieces_read_back_rounded_to_sixteen_bits(tmp_path: Path, suffix: str) -> None:
    signal = torch.rand(1, 5001, generator=torch.Generator().manual_seed(0)) * 2.2 - 1.1
    path = tmp_path / "speaker" / f"a.v2{suffix}"
    AUDIO.save(path, signal.split(1000, dim=1), 22050)
    about = soundfile.info(path)
    assert (about.samplerate, about.channels, about.subtype, about.frames) == (22050, 1, "PCM_16", 5001)
    again = AUDIO.open_source([str(path)], None, 22050).load(0).signal
    assert torch.equal(again, (signal * 32768).round().clamp(-32768, 32767) / 32768)
    AUDIO.save(path, [again], 22050)
    assert torch.equal(AUDIO.open_source([str(path)], None, 22050).load(0).signal, again)


def test_an_interrupted_save_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    AUDIO.save(tmp_path / "a.wav", [torch.zeros(1, 10)], 16000)

    def stopped():
        yield torch.ones(1, 10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        AUDIO.save(tmp_path / "a.wav", stopped(), 16000)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert not soundfile.read(tmp_path / "a.wav")[0].any()


@pytest.mark.parametrize(
    ("modality", "wanted", "suffix"),
    [("audio", None, ".wav"), ("audio", "FLAC", ".flac"), ("image", None, ".png"), ("image", "png", ".png")],
)
def test_a_format_is_chosen_by_its_name(modality: str, wanted: str | None, suffix: str) -> None:
    assert MODALITIES[modality].choose_suffix(wanted) == suffix


def test_a_format_of_another_modality_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^audio files are written as wav or flac, not as 'mp3'$"):
        AUDIO.choose_suffix("mp3")
    with pytest.raises(UsageError, match=r"^images are written as png, jpg or webp, not as 'flac'$"):
        IMAGE.choose_suffix("flac")


def test_who_names_sounds_means_them_whole() -> None:
    assert AUDIO.default_size(9600) is None
    assert IMAGE.default_size(64) == 64


def test_results_mirror_the_names_of_their_items() -> None:
    assert AUDIO.strip_suffixes(["84/121123/84-121123-0000.flac", "b.MP3"]) == ["84/121123/84-121123-0000", "b"]
    assert AUDIO.strip_suffixes(["a.wav", "a.flac"]) == ["a.wav", "a.flac"]


def test_a_sheet_shows_spectrograms_of_originals_over_reconstructions() -> None:
    source = SyntheticVoices(items=6, size=60_000)
    references = [source.load(index).signal for index in range(6)]
    sheet = AUDIO.view.sheet(references, [torch.zeros_like(reference) for reference in references])
    across, down = COLUMNS + SHEET_GAP, WINDOW // 2 + SHEET_GAP
    band = 2 * down + SHEET_GAP
    assert sheet.size == (4 * across - SHEET_GAP, 2 * band - 2 * SHEET_GAP)
    pixels = numpy.asarray(sheet).astype(int) @ [65536, 256, 1]
    for index in range(6):
        left, top = index % 4 * across, index // 4 * band
        original = pixels[top : top + WINDOW // 2, left : left + COLUMNS]
        silence = pixels[top + down : top + down + WINDOW // 2, left : left + COLUMNS]
        assert len(numpy.unique(original)) > 100
        assert not silence.any()


def test_a_tone_is_a_bright_line_at_its_frequency() -> None:
    tone = torch.sin(2 * torch.pi * 2000 * torch.arange(16_000) / 16_000)[None]
    picture = numpy.asarray(AUDIO.view.sheet([tone], [0.01 * tone])).astype(int).sum(axis=2)
    rows = WINDOW // 2
    assert picture[:rows, 100].argmax() == rows - 2000 * WINDOW // 16_000
    under = picture[rows + SHEET_GAP :, 100]
    assert under.argmax() == picture[:rows, 100].argmax()
    assert 0 < under.max() < picture[:rows, 100].max()  # 40 dB less on the same scale


def test_a_sheet_of_several_reconstructions_has_a_row_for_each_on_one_scale() -> None:
    tone = torch.sin(2 * torch.pi * 2000 * torch.arange(16_000) / 16_000)[None]
    sheet = AUDIO.view.sheet([tone], [tone], [0.01 * tone], labels=["original", "a", "b"])
    rows = numpy.asarray(sheet).astype(int).sum(axis=2).reshape(-1, sheet.width)
    down = LABEL + WINDOW // 2 + SHEET_GAP
    original, same, quiet = (rows[place * down + LABEL :][: WINDOW // 2] for place in range(3))
    assert (original == same).all()
    assert 0 < quiet[:, 100].max() < original[:, 100].max()


def test_at_most_eight_short_sounds_are_shown() -> None:
    sounds = [torch.rand(1, 3)] * 10
    band = 2 * (WINDOW // 2 + SHEET_GAP) + SHEET_GAP
    assert AUDIO.view.sheet(sounds, sounds).size == (4 * (3 + SHEET_GAP) - SHEET_GAP, 2 * band - 2 * SHEET_GAP)


def test_colours_grow_brighter_evenly() -> None:
    brightness = helix() @ [0.30, 0.59, 0.11]
    assert brightness[0] == 0
    assert brightness[-1] == pytest.approx(255)
    assert numpy.diff(brightness).min() > 0
    assert numpy.abs(brightness - numpy.arange(256)).max() < 4
