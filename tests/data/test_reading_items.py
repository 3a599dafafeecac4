"""Reading in order: workers change the speed and nothing else, and a broken item is a failure in its place."""

import os

import pytest
import torch

from tokcli.contracts import Item, Source
from tokcli.data.image.dead_leaves import DeadLeaves
from tokcli.data.items import FEW_ITEMS, Failure, NumberedNames, default_workers, group_items, read_items
from tokcli.errors import InputError


class Squares(Source):
    """Item i is filled with i and has side 1 + i // 10; those in `broken` cannot be read."""

    modality = "image"

    def __init__(self, items: int, broken: tuple[int, ...] = ()) -> None:
        self.names = [f"square-{index}" for index in range(items)]
        self._broken = broken

    def load(self, index: int, draw: int = 0) -> Item:
        if index in self._broken:
            raise InputError(f"{self.names[index]}: it is broken")
        side = 1 + index // 10
        return Item(self.names[index], torch.full((3, side, side), float(index)), (side, side))

    def protocol(self) -> dict[str, object]:
        return {}


def outline(readings: object) -> list[object]:
    """What was read, in a form that compares."""
    return [
        reading if isinstance(reading, Failure) else (reading.name, reading.signal.tolist(), reading.original_size)
        for reading in readings
    ]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_items_and_failures_come_in_order(workers: int) -> None:
    source = Squares(25, broken=(0, 9, 10, 24))
    readings = list(read_items(source, workers))
    assert [getattr(reading, "name", None) or reading.item for reading in readings] == source.names
    assert [index for index, reading in enumerate(readings) if isinstance(reading, Failure)] == [0, 9, 10, 24]
    assert readings[9] == Failure("square-9", "it is broken")
    assert outline(readings) == outline(read_items(source, 0))
    assert readings[11].signal.tolist() == torch.full((3, 2, 2), 11.0).tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_reading_can_start_anywhere_and_take_some(workers: int) -> None:
    source = Squares(30)
    assert [item.name for item in read_items(source, workers, start=27)] == ["square-27", "square-28", "square-29"]
    picked = read_items(source, workers, start=1, indices=[5, 3, 20])
    assert [item.name for item in picked] == ["square-3", "square-20"]
    strided = read_items(source, workers, indices=range(1, 30, 10))
    assert [item.name for item in strided] == ["square-1", "square-11", "square-21"]
    assert list(read_items(source, workers, start=30)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_every_item_is_read_under_the_draw_asked_for(workers: int) -> None:
    source = DeadLeaves(items=3, size=8)
    for draw in (0, 5):
        for index, item in enumerate(read_items(source, workers, draw=draw)):
            assert torch.equal(item.signal, source.load(index, draw).signal)
    assert not torch.equal(source.load(0, 0).signal, source.load(0, 5).signal)


def test_reading_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(read_items(Squares(20), workers=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_bug_in_a_source_stays_loud() -> None:
    class Faulty(Squares):
        def load(self, index: int, draw: int = 0) -> Item:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(read_items(Faulty(1), workers=0))


def test_neighbours_of_equal_shape_are_group_items() -> None:
    readings = read_items(Squares(25, broken=(3, 12)), workers=0)
    outlined = [
        group.item if isinstance(group, Failure) else [int(item.name.split("-")[1]) for item in group]
        for group in group_items(readings, 4)
    ]
    assert outlined == [
        [0, 1, 2],
        "square-3",
        [4, 5, 6, 7],
        [8, 9],  # the next one is larger
        [10, 11],
        "square-12",
        [13, 14, 15, 16],
        [17, 18, 19],
        [20, 21, 22, 23],
        [24],
    ]
    assert list(group_items([], 4)) == []


@pytest.mark.parametrize(
    ("cores", "processes", "workers"), [(1, 1, 0), (2, 1, 1), (4, 1, 3), (64, 1, 8), (8, 4, 1), (4, 4, 0)]
)
def test_workers_leave_a_core_to_each_consumer(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int, workers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert default_workers(processes=processes) == workers
    assert default_workers(1000, processes) == workers
    assert default_workers(FEW_ITEMS, processes) == 0


def test_numbered_names_are_a_sequence_that_takes_no_memory() -> None:
    names = NumberedNames("leaf-", 10**9)
    assert len(names) == 10**9
    assert (names[0], names[-1]) == ("leaf-000000", "leaf-999999999")
    assert names[2:4] == ["leaf-000002", "leaf-000003"]
    with pytest.raises(IndexError):
        names[10**9]
    assert list(NumberedNames("leaf-", 2)) == ["leaf-000000", "leaf-000001"]
    assert NumberedNames("leaf-", 2) == NumberedNames("leaf-", 2)
