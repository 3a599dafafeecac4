"""The training order: every item once per epoch, each step a function of seed and step, whoever reads it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tracemalloc

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokcli.contracts import Item, Source
from tokcli.data.batches import ATTEMPTS, FEWEST_SHARDS, LARGEST_TABLE, TrainingOrder, open_training_loader, permute
from tokcli.data.image.dead_leaves import DeadLeaves
from tokcli.errors import InputError, UsageError

SIZES = {"items": st.integers(1, 40), "batch_size": st.integers(1, 50), "seed": st.integers(0, 2**32)}


class Numbers(Source):
    """Item i is a signal of one sample, (index, draw); those in `broken` cannot be read."""

    modality = "audio"

    def __init__(self, items: int, broken: tuple[int, ...] = (), ragged: bool = False) -> None:
        self.names = [f"number-{index}" for index in range(items)]
        self._broken = broken
        self._ragged = ragged

    def load(self, index: int, draw: int = 0) -> Item:
        if index in self._broken:
            raise InputError(f"{self.names[index]}: it is broken")
        length = 1 + index if self._ragged else 1
        return Item(self.names[index], torch.full((1, length), float(index)), (length,))

    def protocol(self) -> dict[str, object]:
        return {}


def indices_of(batch: object) -> list[int]:
    return [int(index) for index in batch.signals[:, 0, 0]]


@given(**SIZES, epochs=st.integers(1, 3))
def test_every_epoch_is_a_permutation(items: int, batch_size: int, seed: int, epochs: int) -> None:
    order = TrainingOrder(items, batch_size, seed)
    steps = -(-items * epochs // batch_size)
    pairs = [pair for step in range(steps) for pair in order.batch(step)]
    for epoch in range(epochs):
        of_epoch = pairs[epoch * items : (epoch + 1) * items]
        assert sorted(index for index, _ in of_epoch) == list(range(items))
        assert len({draw for _, draw in of_epoch}) == 1
    assert len(set(pairs)) == len(pairs)
    assert all(draw > 0 for _, draw in pairs)


@given(**SIZES, step=st.integers(0, 1000))
def test_a_step_can_be_read_without_those_before(items: int, batch_size: int, seed: int, step: int) -> None:
    uninterrupted = TrainingOrder(items, batch_size, seed)
    for earlier in range(max(0, step - 5), step):
        uninterrupted.batch(earlier)
    assert TrainingOrder(items, batch_size, seed).batch(step) == uninterrupted.batch(step)


@given(items=st.integers(1, 300), seed=st.integers(0, 2**70), epoch=st.integers(0, 9))
def test_a_permutation_without_a_table_is_one(items: int, seed: int, epoch: int) -> None:
    assert sorted(permute(number, items, seed, epoch) for number in range(items)) == list(range(items))


def test_an_epoch_of_a_billion_items_takes_no_table() -> None:
    order = TrainingOrder(10**9, 64, seed=0)
    pairs = [pair for step in range(20) for pair in order.batch(step)]
    assert len({index for index, _ in pairs}) == len(pairs)
    assert 0.4 < sum(index for index, _ in pairs) / len(pairs) / 10**9 < 0.6
    assert order.batch(3) == TrainingOrder(10**9, 64, seed=0).batch(3)
    assert TrainingOrder(10**9, 64, seed=1).batch(3) != order.batch(3)
    (next_epoch,) = TrainingOrder(LARGEST_TABLE + 1, 1, seed=0).batch(LARGEST_TABLE + 1)
    assert next_epoch[1] == order.batch(0)[0][1] + 1


SHARDS = st.lists(st.integers(0, 9), min_size=1, max_size=30).filter(any)


@given(sizes=SHARDS, batch_size=st.integers(1, 20), seed=st.integers(0, 2**32), window=st.integers(1, 60))
def test_every_epoch_of_shards_is_a_permutation_that_reads_few_at_a_time(
    sizes: list[int], batch_size: int, seed: int, window: int
) -> None:
    starts = numpy.cumsum([0, *sizes])
    items = int(starts[-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokcli.data.batches.WINDOW", window)
        order = TrainingOrder(items, batch_size, seed, starts=starts)
        pairs = [pair for step in range(-(-2 * items // batch_size)) for pair in order.batch(step)]
        later = TrainingOrder(items, batch_size, seed, starts=starts).batch(3)
    for epoch in range(2):
        indices = [index for index, _ in pairs[epoch * items : (epoch + 1) * items]]
        assert sorted(indices) == list(range(items))
        near = max(FEWEST_SHARDS, -(-window * len(sizes) // items))
        shards = [int(numpy.searchsorted(starts, index, "right")) - 1 for index in indices]
        filled = [size for size in sizes if size]
        if len(filled) == len(sizes) and len(set(sizes)) == 1:
            for first in range(0, items, near * sizes[0]):
                assert len(set(shards[first : first + near * sizes[0]])) <= near
    if batch_size * 4 <= len(pairs):
        assert later == pairs[3 * batch_size : 4 * batch_size]


def test_a_billion_items_in_shards_take_the_memory_of_the_shards() -> None:
    starts = numpy.arange(0, 10**9 + 1, 10**4)
    order = TrainingOrder(10**9, 64, seed=0, starts=starts)
    tracemalloc.start()
    pairs = [pair for step in range(10**6, 10**6 + 20) for pair in order.batch(step)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    assert len({index for index, _ in pairs}) == len(pairs)
    assert len({index // 10**4 for index, _ in pairs}) <= 14
    assert TrainingOrder(10**9, 64, seed=0, starts=starts).batch(10**6 + 3) == pairs[3 * 64 : 4 * 64]
    assert TrainingOrder(10**9, 64, seed=1, starts=starts).batch(10**6 + 3) != pairs[3 * 64 : 4 * 64]
    halves = [TrainingOrder(10**9, 64, 0, rank, 2, starts).batch(10**6 + 3) for rank in range(2)]
    assert halves[0] + halves[1] == pairs[3 * 64 : 4 * 64]
    large = TrainingOrder(10**9, 64, seed=0, starts=[0, 10**9])
    assert len({index for index, _ in large.batch(7)}) == 64


@given(
    items=st.integers(1, 40),
    share=st.integers(1, 8),
    world=st.integers(1, 5),
    seed=st.integers(0, 9),
    step=st.integers(0, 50),
)
def test_the_ranks_share_out_the_batch(items: int, share: int, world: int, seed: int, step: int) -> None:
    whole = TrainingOrder(items, share * world, seed).batch(step)
    shares = [TrainingOrder(items, share * world, seed, rank, world).batch(step) for rank in range(world)]
    assert [pair for part in shares for pair in part] == whole
    assert {len(part) for part in shares} == {share}


def test_seeds_and_epochs_give_other_orders_and_draws() -> None:
    first, second = TrainingOrder(100, 100, seed=0), TrainingOrder(100, 100, seed=1)
    assert [index for index, _ in first.batch(0)] != [index for index, _ in first.batch(1)]
    assert [index for index, _ in first.batch(0)] != [index for index, _ in second.batch(0)]
    assert not {draw for _, draw in first.batch(0)} & {draw for _, draw in second.batch(0)}


def test_a_batch_that_cannot_be_shared_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="a batch of 10 cannot be split over 4 processes; use a multiple of 4"):
        open_training_loader(Numbers(5), 10, seed=0, start_step=0, steps=1, world=4)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_read_the_same_batches(workers: int) -> None:
    source = DeadLeaves(items=7, size=8)
    alone = list(open_training_loader(source, 4, seed=3, start_step=0, steps=6))
    shared = list(open_training_loader(source, 4, seed=3, start_step=2, steps=6, workers=workers))
    assert len(alone) == 6
    assert len(shared) == 4
    for one, other in zip(alone[2:], shared, strict=True):
        assert one.signals.shape == (4, 3, 8, 8)
        assert one.signals.dtype == torch.float32
        assert torch.equal(one.signals, other.signals)


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_items_are_replaced_by_the_next_and_reported(workers: int) -> None:
    order = TrainingOrder(6, 6, seed=0)
    batches = open_training_loader(Numbers(6, broken=(1, 2, 5)), 6, seed=0, start_step=0, steps=3, workers=workers)
    for step, batch in enumerate(batches):
        expected = [{1: 3, 2: 3, 5: 0}.get(index, index) for index, _ in order.batch(step)]
        assert indices_of(batch) == expected
        reported = sorted(failure.item for failure in batch.failures)
        assert reported == ["number-1", "number-2", "number-2", "number-5"]
        assert batch.failures[0].reason == "it is broken"
    assert step == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_training_stops_where_nothing_can_be_read(workers: int) -> None:
    source = Numbers(40, broken=tuple(range(40)))
    with pytest.raises(InputError, match=rf"^{ATTEMPTS} items in a row .* the last is number-\d+: it is broken$"):
        list(open_training_loader(source, 2, seed=0, start_step=0, steps=1, workers=workers))
    with pytest.raises(InputError, match=r"^3 items in a row cannot be read"):
        list(open_training_loader(Numbers(3, broken=(0, 1, 2)), 2, seed=0, start_step=0, steps=1))


def test_signals_of_different_shapes_are_explained() -> None:
    with pytest.raises(InputError, match=r"number-\d gives \(1, \d\) .* needs one shape; set `size`"):
        list(open_training_loader(Numbers(5, ragged=True), 5, seed=0, start_step=0, steps=1))


def test_the_loader_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(open_training_loader(Numbers(5), 2, seed=0, start_step=0, steps=3, workers=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_can_be_started_afresh_where_processes_do_not_fork() -> None:
    loader = open_training_loader(DeadLeaves(items=7, size=8), 4, seed=3, start_step=0, steps=3, workers=1)
    alone = next(open_training_loader(DeadLeaves(items=7, size=8), 4, seed=3, start_step=0, steps=3))
    method = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        assert torch.equal(next(loader).signals, alone.signals)
    finally:
        multiprocessing.set_start_method(method, force=True)


INTERRUPTED = """
import signal
from tokcli.data.image.dead_leaves import DeadLeaves
from tokcli.data.batches import open_training_loader

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin deaf to it
    try:
        for batch in open_training_loader(DeadLeaves(100, size=8), 2, seed=0, start_step=0, steps=10**9, workers=2):
            print("reading", flush=True)
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""


@pytest.mark.slow
def test_ctrl_c_stops_the_workers_without_a_word() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "reading\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    output, errors = process.communicate(timeout=60)
    assert output.endswith("stopped\n")
    assert errors == ""
