"""`tok bench`: what it counts is what was done, and its memory is that of the call."""

import pathlib
import time

import pytest
import torch

from tokcli.commands.bench import make_signals, peak_memory, seconds


def test_a_bench_reports_both_directions_for_each_number_of_threads(tok, tiny_run: pathlib.Path) -> None:
    before = torch.get_num_threads()
    report = tok("bench", "runs/tiny", "--items", "6", "--threads", "1,2", "--device", "cpu", "--json").json
    assert torch.get_num_threads() == before
    assert [(speed["direction"], speed["threads"]) for speed in report["speeds"]] == [
        ("encode", 1),
        ("decode", 1),
        ("encode", 2),
        ("decode", 2),
    ]
    # The recipe judges at 16 pixels, and its stride of 4 makes a grid of 4 × 4.
    assert (report["size"], report["tokens_per_item"], report["items"]) == ([16, 16], 16, 6)
    for speed in report["speeds"]:
        assert speed["tokens_per_second"] == pytest.approx(16 * speed["items_per_second"])
        assert 0 < speed["latency_median"] <= speed["latency_p95"]
        assert speed["bare_items_per_second"] > 0
        assert speed["real_time_factor"] is None


def test_the_table_names_the_size_asked_for_though_it_is_no_multiple_of_the_stride(tok, tiny_run: pathlib.Path) -> None:
    outcome = tok("bench", "--items", "2", "--size", "18", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert "2 of 18×18" in outcome.out
    assert "25 tokens each" in outcome.out
    assert "real time" not in outcome.out


def test_threads_that_are_no_numbers_are_refused(tok, tiny_run: pathlib.Path) -> None:
    outcome = tok("bench", "--threads", "all")
    assert outcome.code == 2
    assert "--threads: expected numbers separated by commas, such as 1,2; got 'all'" in outcome.err


def test_time_and_memory_are_those_of_the_call() -> None:
    assert 0.05 <= seconds(lambda part: time.sleep(0.05), torch.zeros(1)) < 5
    cpu = torch.device("cpu")
    idle = peak_memory(lambda: None, cpu)
    if idle is None:
        pytest.skip("this system does not tell the peak memory of a process")
    busy = peak_memory(lambda: torch.ones(64 * 2**20, dtype=torch.uint8).sum(), cpu)
    assert 50 < busy - idle < 700
    assert peak_memory(lambda: None, cpu) < busy - 30


def test_synthetic_signals_are_smooth_bounded_and_the_same_every_time() -> None:
    for shape in ((3, 32, 32), (1, 640)):
        signals = make_signals(4, shape, torch.device("cpu"))
        assert signals.shape == (4, *shape)
        assert signals.abs().max() <= 1
        assert signals.diff(dim=-1).abs().max() < 0.5
        assert torch.equal(signals, make_signals(4, shape, torch.device("cpu")))
