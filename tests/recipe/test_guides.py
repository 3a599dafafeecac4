"""What `tok recipes` says of a recipe, from its text alone."""

import pytest

from tokcli.recipe.shipped import Shipped, read_guide

TEXT = """# Speech at 16 kHz, hop 72, K = 16384, trained in 5 hours on two cores.
#
#   tok train speech
name: speech
data:
  train: {kind: audio, path: speech/train, size: 9600}
"""


@pytest.mark.parametrize(
    ("name", "group", "time"), [("speech", "in the box", "5 h"), ("audio-small-x", "small", "5 h")]
)
def test_a_guide_reads_the_modality_the_time_and_the_group(name: str, group: str, time: str) -> None:
    guide = read_guide(Shipped(name, TEXT.splitlines()[0], TEXT))
    assert (guide.group, guide.modality, guide.time) == (group, "audio", time)
    assert (guide.codebook_size, guide.stride, guide.needs) == ("16384", "72", "sounds")
