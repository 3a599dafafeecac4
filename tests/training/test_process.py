"""Arithmetic leaves cores to loading, unless someone has decided."""

import pytest
import torch

from tokcli.training.process import leave_cores


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_loading_gets_its_cores_and_gives_them_back(four_threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for workers, left in ((0, 4), (1, 3), (8, 1)):
        with leave_cores(workers):
            assert torch.get_num_threads() == left
        assert torch.get_num_threads() == 4


def test_a_number_of_threads_that_was_asked_for_stays(four_threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    with leave_cores(2):
        assert torch.get_num_threads() == 4
