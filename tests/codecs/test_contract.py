"""What every codec owes, and that its files are what others read, with headers counted byte by byte."""

import io

import pytest
import soundfile
import torch
from PIL import Image

from tokcli.codecs import CODECS, build_codecs
from tokcli.data.image.dead_leaves import DeadLeaves
from tokcli.errors import UsageError

IMAGES = [DeadLeaves(items=3, size=48).load(index).signal for index in range(3)]
TIMES = torch.arange(16_000) / 16_000
SOUND = (0.3 * torch.sin(1400 * TIMES) * torch.sin(20 * TIMES))[None]


SAMPLE = {"image": (IMAGES[0], None), "audio": (SOUND, 16_000)}
"""Of each modality a signal and its sample rate."""


@pytest.mark.parametrize("name", list(CODECS))
def test_a_better_setting_costs_more_and_loses_less(name: str) -> None:
    codec = CODECS[name]()
    signal, sample_rate = SAMPLE[codec.modality]
    first, last = codec.settings[0], codec.settings[-1]
    spent, lost = [], []
    for setting in (first, (first + last) // 2, last):
        data = codec.compress(signal, setting, sample_rate)
        reconstruction = codec.decompress(data)[(..., *(slice(length) for length in signal.shape[1:]))]
        spent.append(len(data))
        lost.append((reconstruction - signal).square().mean().item())
    assert spent == sorted(spent)
    assert lost == sorted(lost, reverse=True)


@pytest.mark.parametrize("name", list(CODECS))
def test_files_come_back_whole_and_the_same_every_time(name: str) -> None:
    codec = CODECS[name]()
    signal, sample_rate = SAMPLE[codec.modality]
    setting = codec.settings[len(codec.settings) // 2]
    data = codec.compress(signal, setting, sample_rate)
    assert len(codec.compress(signal, setting, sample_rate)) == len(data)
    reconstruction = codec.decompress(data)
    assert reconstruction.dtype == torch.float32
    assert reconstruction.shape[0] == signal.shape[0]
    assert all(got >= asked for got, asked in zip(reconstruction.shape[1:], signal.shape[1:], strict=True))
    assert -1.1 < reconstruction.min() < reconstruction.max() < 1.1
    assert 0 < codec.header_bytes(data) < len(data)


@pytest.mark.parametrize("name", list(CODECS))
def test_every_codec_says_what_it_is(name: str) -> None:
    codec = CODECS[name]()
    assert codec.modality in ("image", "audio")
    assert list(codec.settings) == sorted(codec.settings)
    assert len({codec.setting_name(setting) for setting in codec.settings}) == len(codec.settings)
    assert "library" in codec.protocol()
    assert build_codecs([name], codec.modality)[name].protocol() == codec.protocol()


def test_headers_are_what_does_not_grow_with_the_picture() -> None:
    jpeg, webp = build_codecs(["jpeg", "webp"], "image").values()
    data = jpeg.compress(IMAGES[0], 50, None)
    # Behind the headers come coded pixels alone, in which a byte 255 is always followed by a zero; then the end mark.
    scan = data[jpeg.header_bytes(data) - 2 : -2]
    assert data[-2:] == b"\xff\xd9"
    assert all(scan[place + 1] == 0 for place in range(len(scan) - 1) if scan[place] == 255)
    assert 300 < jpeg.header_bytes(data) < 623
    packed = webp.compress(IMAGES[0], 50, None)
    size = int.from_bytes(packed[16:20], "little")
    assert packed[:4] == b"RIFF"
    assert webp.header_bytes(packed) + size + size % 2 == len(packed)
    assert Image.open(io.BytesIO(data)).size == Image.open(io.BytesIO(packed)).size == (48, 48)


def test_opus_files_hold_the_whole_sound_and_their_headers_are_counted() -> None:
    opus = build_codecs(["opus"], "audio")["opus"]
    data = opus.compress(SOUND, 10, 16_000)
    assert soundfile.info(io.BytesIO(data)).subtype == "OPUS"
    assert opus.decompress(data).shape == SOUND.shape
    assert data.count(b"OpusHead") == data.count(b"OpusTags") == 1
    headers = opus.header_bytes(data)
    assert data.index(b"OpusTags") < headers < len(data)
    with pytest.raises(UsageError, match=r"24000, 48000 Hz, this model's is at 44100 Hz"):
        opus.compress(SOUND, 10, 44_100)


def test_unknown_codecs_and_those_of_another_modality_are_reported_together() -> None:
    with pytest.raises(UsageError) as caught:
        build_codecs(["jpg", "opus", "webp"], "image")
    assert "there is no codec 'jpg'; did you mean 'jpeg'?" in str(caught.value)
    assert "the codec 'opus' is for audio, not image; expected one of: jpeg, webp" in str(caught.value)
