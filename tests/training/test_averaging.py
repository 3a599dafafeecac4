"""Averaged weights, by hand."""

import pytest
import torch
from torch import nn

from tokcli.training.checkpoint import AveragedWeights


def test_the_average_follows_by_the_warmed_up_decay() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 0.0)
    averages = AveragedWeights(module, decay=0.5)
    nn.init.constant_(module.weight, 1.0)
    averages.update(0)  # decay min(0.5, 1/10): 0.1 · 0 + 0.9 · 1
    assert averages.averages["weight"].item() == pytest.approx(0.9)
    averages.update(100)  # decay 0.5: 0.5 · 0.9 + 0.5 · 1
    assert averages.averages["weight"].item() == pytest.approx(0.95)


def test_the_averages_are_lent_and_taken_back() -> None:
    module = nn.Linear(2, 2)
    averages = AveragedWeights(module, decay=0.9)
    with torch.no_grad():
        module.weight.add_(1)
    own = module.weight.detach().clone()
    with averages.applied():
        assert torch.equal(module.weight, averages.averages["weight"])
        assert not torch.equal(module.weight, own)
    assert torch.equal(module.weight, own)
