"""Which items a report shows."""

import math
from types import SimpleNamespace

import torch

from tokcli.evaluation.report.build import chosen_items


def judged(label: str, scores: list[float], codec: bool = False) -> SimpleNamespace:
    names = [f"{place}.png" for place in range(len(scores))]
    judgement = SimpleNamespace(names=names, scores={"psnr": torch.tensor(scores, dtype=torch.float64)})
    return SimpleNamespace(label=label, codec={} if codec else None, judgement=judgement)


def test_worst_and_best_are_by_the_mean_of_the_models_and_the_rest_is_spread() -> None:
    first = judged("a", [20, 30, 25, 10, 26, 27, 28, 40, 24])
    second = judged("b", [20, 30, 25, 10, 26, 27, 28, 18, 24])  # the eighth is the best of one model, not of both
    codec = judged("jpeg", [99, 0, 0, 0, 0, 0, 0, 0, 99], codec=True)
    chosen = chosen_items([first, second, codec], "psnr", 6)
    assert list(chosen) == ["3.png", "0.png", "1.png", "7.png", "2.png", "5.png"]
    assert chosen["3.png"] == "the worst of 9 by mean psnr of the models (10)"
    assert chosen["7.png"] == "best 2 of 9 by mean psnr of the models (29)"
    assert chosen["2.png"] == "one of an even spread"


def test_items_without_a_score_are_neither_best_nor_worst() -> None:
    chosen = chosen_items([judged("a", [math.nan, 20, math.nan, 30])], "psnr", 4)
    assert chosen["1.png"].startswith("the worst of 2")
    assert chosen["3.png"].startswith("the best of 2")
    assert chosen["0.png"] == chosen["2.png"] == "one of an even spread"


def test_fewer_items_than_asked_for_are_all_shown_once() -> None:
    assert sorted(chosen_items([judged("a", [1, 2])], "psnr", 12)) == ["0.png", "1.png"]
    assert list(chosen_items([judged("a", [1, 2, 3, 4])], None, 2)) == ["0.png", "2.png"]
    assert chosen_items([judged("a", [1, 2])], "psnr", 0) == {}
