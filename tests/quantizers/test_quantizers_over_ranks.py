"""Two processes with different data hold one codebook: the one a single process with all the data would have."""

import pathlib

import pytest
import torch
from rank_workers import STEPS, average_and_renew, averaging, batch
from safetensors.torch import load_file
from torch import multiprocessing


@pytest.mark.slow
def test_two_ranks_hold_the_codebook_of_one_process_with_all_the_data(tmp_path: pathlib.Path) -> None:
    multiprocessing.spawn(average_and_renew, args=(str(tmp_path),), nprocs=2)
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert first["restarted"] > 0
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    alone = averaging()
    for step in range(STEPS):
        alone(torch.cat([batch(0, step), batch(1, step)], dim=1))
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(first[f"averaging.{name}"], tensor)
    # The k-means start saw both ranks' data: around 0 and around 3.
    assert (first["parameter.codebook"].mean(dim=-1) < 1).any()
    assert (first["parameter.codebook"].mean(dim=-1) > 2).any()
