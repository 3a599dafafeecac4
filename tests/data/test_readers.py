"""How many readers a consumer needs follows from its first batches; what is read does not depend on them."""

import types

import pytest
import torch

from tokcli.contracts import Item, Source
from tokcli.data import readers
from tokcli.data.items import Failure
from tokcli.data.readers import Readers, choose_readers
from tokcli.errors import InputError

CLOCK = [0.0]
"""Seconds that have passed, as far as these tests let any."""


@pytest.fixture(autouse=True)
def own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "time", types.SimpleNamespace(perf_counter=lambda: CLOCK[0]))


class Slow(Source):
    """Items that take long to read; the 30th cannot be read, and the 21st is of another shape."""

    modality = "image"
    names = tuple(map(str, range(40)))

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def load(self, index: int, draw: int = 0) -> Item:
        CLOCK[0] += self.seconds
        if index == 30:
            raise InputError("30: it is torn")
        side = 8 if index == 21 else 4
        return Item(self.names[index], torch.full((3, side, side), index / 100), (side, side))

    def protocol(self) -> dict[str, object]:
        return {}


def consume(own: Readers, source: Source, seconds: float, size: int = 4) -> list[list[str] | str]:
    groups = []
    for group in own.read(source, range(40), size, streams=False):
        CLOCK[0] += seconds * (len(group) if isinstance(group, list) else 1)
        groups.append(group.item if isinstance(group, Failure) else [item.name for item in group])
    return groups


@pytest.mark.parametrize(
    ("reading", "computing", "most", "chosen"),
    [
        (0.01, 0.01, 8, 2),
        (0.001, 0.1, 8, 1),
        (0.1, 0.01, 32, 13),
        (0.1, 0.01, 3, 3),
        (0.0, 0.0, 4, 1),
        (1.0, 0.0, 4, 4),
    ],
)
def test_so_many_readers_keep_up(reading: float, computing: float, most: int, chosen: int) -> None:
    assert choose_readers(reading, computing, most) == chosen


def test_a_slow_source_gets_more_readers_and_the_same_items_in_the_same_order(monkeypatch) -> None:
    asked = []
    original = readers.read_items

    def read(source, workers, **options):
        asked.append(workers)
        return original(source, 0, **options)

    monkeypatch.setattr(readers, "read_items", read)
    slow, fast, alone = Readers(cores=6), Readers(cores=6), Readers(cores=1)
    expected = consume(alone, Slow(0.0), 0.0)
    assert "30" in expected
    assert consume(slow, Slow(0.004), 0.0005) == expected
    assert consume(fast, Slow(0.0005), 0.004) == expected
    assert (slow.chosen, fast.chosen, alone.chosen) == (5, 1, 0)
    assert asked == [0, 0, 5, 0, 1]
    assert consume(slow, Slow(0.0), 0.0) == expected
    assert asked[5:] == [5]


def test_two_workers_of_a_machine_share_its_cores() -> None:
    assert (Readers(processes=2, cores=8).most, Readers(processes=8, cores=4).most) == (3, 0)


def test_few_items_are_read_here_and_say_nothing() -> None:
    own = Readers(cores=8)
    assert [len(group) for group in own.read(Slow(0.0), range(10), 4, False) if isinstance(group, list)] == [4, 4, 2]
    assert own.chosen is None


@pytest.mark.slow
def test_real_readers_give_the_same_groups() -> None:
    own = Readers(cores=4)
    own.chosen = 3
    assert consume(own, Slow(0.001), 0.0) == consume(Readers(cores=1), Slow(0.0), 0.0)
