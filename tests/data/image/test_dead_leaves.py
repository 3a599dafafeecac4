"""Dead leaves: reproducible, endless, and statistically like photographs."""

import numpy
import pytest
import torch

from tokcli.data import SOURCES
from tokcli.data.image.dead_leaves import DeadLeaves, drop_leaves
from tokcli.errors import RecipeError


def radial_power(picture: numpy.ndarray) -> numpy.ndarray:
    """Mean power at each whole frequency of a grey picture (side, side), windowed."""
    side = len(picture)
    window = numpy.hanning(side)
    power = numpy.abs(numpy.fft.fft2((picture - picture.mean()) * window * window[:, None])) ** 2
    frequency = numpy.fft.fftfreq(side) * side
    radius = numpy.hypot(frequency, frequency[:, None]).round().astype(int).ravel()
    return (numpy.bincount(radius, power.ravel()) / numpy.bincount(radius))[: side // 2]


def test_the_spectrum_falls_like_that_of_photographs() -> None:
    """Photographs lie between 1/f² and 1/f³; white noise would be flat, a smooth blur far steeper."""
    source = DeadLeaves(items=40)
    power = sum(radial_power(source.load(index).signal.mean(0).numpy()) for index in range(len(source)))
    frequencies = numpy.arange(2, 25)
    slope = numpy.polyfit(numpy.log(frequencies), numpy.log(power[frequencies]), 1)[0]
    assert -3 < slope < -2


def test_signals_are_in_range_and_use_it() -> None:
    signals = torch.stack([DeadLeaves(items=20).load(index).signal for index in range(20)])
    assert signals.shape == (20, 3, 64, 64)
    assert signals.dtype == torch.float32
    assert signals.abs().max() <= 1
    assert signals.mean().abs() < 0.1
    assert 0.3 < signals.std() < 0.6
    assert (signals.abs() == 1).float().mean() < 0.05


def test_every_pixel_belongs_to_a_leaf_and_few_to_the_lowest() -> None:
    seen = numpy.stack([drop_leaves(numpy.random.default_rng(seed), 128) for seed in range(20)])
    assert seen.shape == (20, 128, 128)
    assert (seen == 0).mean() < 0.15
    assert min(len(numpy.unique(picture)) for picture in seen) > 20


def test_a_picture_is_a_function_of_seed_index_and_draw() -> None:
    def load(seed: int, index: int, draw: int) -> torch.Tensor:
        return DeadLeaves(items=5, size=16, seed=seed).load(index, draw).signal

    assert torch.equal(load(1, 2, 3), load(1, 2, 3))
    others = [load(0, 2, 3), load(1, 3, 3), load(1, 2, 2), load(2, 1, 3), load(1, 2, 2**62)]
    assert not any(torch.equal(load(1, 2, 3), other) for other in others)


def test_any_size_can_be_made() -> None:
    item = DeadLeaves(items=1, size=37).load(0)
    assert item.signal.shape == (3, 37, 37)
    assert item.original_size == (37, 37)
    assert item.name == "dead-leaves-000000"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"items": 0}, "items: expected 1 or more, got 0"),
        ({"size": 7}, "size: expected 8 or more, got 7"),
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
    ],
)
def test_arguments_that_do_not_fit_are_explained(arguments: dict[str, int], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        SOURCES.build({"kind": "dead-leaves", **arguments}, "data.train")
