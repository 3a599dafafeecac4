"""Which items a report shows."""

import math
from types import SimpleNamespace

import torch

from tokcli.evaluation.report.build import choose_items


def scored(scores: list[float], competes: bool = True) -> SimpleNamespace:
    names = [f"{index}.png" for index in range(len(scores))]
    item_scores = {"psnr": torch.tensor(scores, dtype=torch.float64)}
    return SimpleNamespace(names=names, item_scores=item_scores, candidate=SimpleNamespace(competes=competes))


def test_worst_and_best_are_by_the_mean_of_the_models_and_the_rest_is_spread() -> None:
    first = scored([20, 30, 25, 10, 26, 27, 28, 40, 24])
    second = scored([20, 30, 25, 10, 26, 27, 28, 18, 24])  # the eighth is the best of one model, not of both
    codec = scored([99, 0, 0, 0, 0, 0, 0, 0, 99], competes=False)
    chosen = choose_items([first, second, codec], "psnr", 6)
    assert list(chosen) == ["3.png", "0.png", "1.png", "7.png", "2.png", "5.png"]
    assert chosen["3.png"] == "the worst of 9 by mean psnr of the models (10)"
    assert chosen["7.png"] == "best 2 of 9 by mean psnr of the models (29)"
    assert chosen["2.png"] == "one of an even spread"


def test_items_without_a_score_are_neither_best_nor_worst() -> None:
    chosen = choose_items([scored([math.nan, 20, math.nan, 30])], "psnr", 4)
    assert chosen["1.png"].startswith("the worst of 2")
    assert chosen["3.png"].startswith("the best of 2")
    assert chosen["0.png"] == chosen["2.png"] == "one of an even spread"


def test_fewer_items_than_asked_for_are_all_shown_once() -> None:
    assert sorted(choose_items([scored([1, 2])], "psnr", 12)) == ["0.png", "1.png"]
    assert list(choose_items([scored([1, 2, 3, 4])], None, 2)) == ["0.png", "2.png"]
    assert choose_items([scored([1, 2])], "psnr", 0) == {}
