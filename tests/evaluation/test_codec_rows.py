"""Codecs beside models: the setting that costs what tokens cost, and rates that are those of the files."""

import pytest
import torch

from tokcli.codecs import build_codecs
from tokcli.codecs.base import ClassicalCodec
from tokcli.data.image.dead_leaves import DeadLeaves
from tokcli.evaluation.codecs import CodecAtSetting, find_setting, remark_on_rate

IMAGES = [DeadLeaves(items=3, size=48).load(index).signal for index in range(3)]


def test_the_setting_that_comes_closest_is_found_and_the_ends_are_the_ends() -> None:
    class Straight(ClassicalCodec):
        """Costs exactly one byte a step, and one to begin with."""

        modality = "image"
        settings = range(0, 50)

        def compress(self, signal: torch.Tensor, setting: int, sample_rate: int | None) -> bytes:
            return bytes(setting + 1)

        def header_bytes(self, data: bytes) -> int:
            return 1

        def decompress(self, data: bytes) -> torch.Tensor:
            return torch.zeros(1, 1, 8)

        def protocol(self) -> dict[str, object]:
            return {}

    def find(byte_target: float) -> int:
        return find_setting(Straight(), [torch.zeros(1, 1, 8)], byte_target)

    assert [find(target) for target in (21.0, 21.4, 21.6, 0.2, 1000.0)] == [20, 20, 21, 0, 49]


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_no_neighbouring_setting_is_closer_to_the_target(name: str) -> None:
    codec = build_codecs([name], "image")[name]
    setting = find_setting(codec, IMAGES, 3.0)

    def distance(setting: int) -> float:
        candidate = CodecAtSetting(name, codec, setting, None)
        candidate.round_trip(torch.stack(IMAGES))
        return abs(candidate.rate.value - 3.0)

    assert distance(setting) <= min(distance(setting - 1), distance(setting + 1))


def test_a_row_far_from_its_target_and_one_of_headers_says_so() -> None:
    codec = build_codecs(["jpeg"], "image")["jpeg"]
    candidate = CodecAtSetting("jpeg", codec, 1, None, target=0.25, matched_to=["a"])
    candidate.round_trip(torch.stack(IMAGES))
    far, headers = remark_on_rate(candidate)
    assert "bits per pixel is its lowest rate" in far
    assert far.endswith("times the 0.25 of the models")
    assert headers.startswith("headers are ")
    assert candidate.codec_record() == {"name": "jpeg", "setting": 1, "matched_to": ["a"], "target": 0.25}
