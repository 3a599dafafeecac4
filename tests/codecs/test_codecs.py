"""Classical codecs: files that others can read, headers counted byte by byte, and rates that match a target."""

import io

import pytest
import soundfile
import torch
from PIL import Image

from tokcli.codecs import build_codecs
from tokcli.codecs.base import Codec, CodedTrip
from tokcli.codecs.matching import matching_setting
from tokcli.data.image.dead_leaves import DeadLeaves
from tokcli.errors import UsageError

PICTURES = [DeadLeaves(items=3, size=48).load(index).signal for index in range(3)]
TIMES = torch.arange(16_000) / 16_000
SOUND = (0.3 * torch.sin(1400 * TIMES) * torch.sin(20 * TIMES))[None]


def bits_per_sample(bits: float, samples: int, sample_rate: int | None) -> dict[str, float]:
    return {"bits": bits / samples}


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_a_better_setting_costs_more_and_loses_less(name: str) -> None:
    codec = build_codecs([name], "image")[name]
    spent, lost = [], []
    for setting in (5, 50, 95):
        trip = CodedTrip(codec, setting, None)
        returned = trip.round_trip(torch.stack(PICTURES))
        spent.append(trip.bits)
        lost.append((returned.reconstruction - returned.reference).square().mean().item())
        assert trip.samples == 3 * 48 * 48
        assert returned.tokens is None
    assert spent == sorted(spent)
    assert lost == sorted(lost, reverse=True)


def test_headers_are_what_does_not_grow_with_the_picture() -> None:
    jpeg, webp = build_codecs(["jpeg", "webp"], "image").values()
    data = jpeg.compress(PICTURES[0], 50)
    # Behind the headers come coded pixels alone, in which a byte 255 is always followed by a zero; then the end mark.
    scan = data[jpeg.header_bytes(data) - 2 : -2]
    assert data[-2:] == b"\xff\xd9"
    assert all(scan[place + 1] == 0 for place in range(len(scan) - 1) if scan[place] == 255)
    assert 300 < jpeg.header_bytes(data) < 623
    packed = webp.compress(PICTURES[0], 50)
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


def test_the_setting_that_comes_closest_is_found_and_the_ends_are_the_ends() -> None:
    class Straight(Codec):
        """Costs exactly one byte a step, and one to begin with."""

        settings = range(0, 50)

        def compress(self, signal: torch.Tensor, setting: int, sample_rate: int | None) -> bytes:
            return bytes(setting + 1)

        def header_bytes(self, data: bytes) -> int:
            return 1

    def found(byte_target: float) -> int:
        return matching_setting(Straight(), [torch.zeros(1, 8)], byte_target, bits_per_sample)

    assert [found(target) for target in (21.0, 21.4, 21.6, 0.2, 1000.0)] == [20, 20, 21, 0, 49]


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_no_neighbouring_setting_is_closer_to_the_target(name: str) -> None:
    codec = build_codecs([name], "image")[name]
    setting = matching_setting(codec, PICTURES, 3.0, bits_per_sample)

    def distance(setting: int) -> float:
        trip = CodedTrip(codec, setting, None)
        trip.round_trip(torch.stack(PICTURES))
        return abs(trip.bits / trip.samples - 3.0)

    assert distance(setting) <= min(distance(setting - 1), distance(setting + 1))


def test_unknown_codecs_and_those_of_another_modality_are_reported_together() -> None:
    with pytest.raises(UsageError) as caught:
        build_codecs(["jpg", "opus", "webp"], "image")
    assert "there is no codec 'jpg'; did you mean 'jpeg'?" in str(caught.value)
    assert "the codec 'opus' is for audio, not image; expected one of: jpeg, webp" in str(caught.value)
