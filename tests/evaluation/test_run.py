"""Judging a source: figures, the score of every item by name, and the same from two processes as from one."""

import functools
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tokcli.contracts import Item, RoundTrip, Source
from tokcli.errors import InputError
from tokcli.evaluation.run import Judgement, judge, paired_difference
from tokcli.metrics import build_metrics


class Squares(Source):
    """Seven pictures, the third of which cannot be read; the fifth is too small for SSIM."""

    modality = "image"
    names = tuple(f"{place}.png" for place in range(7))

    def load(self, index: int, draw: int = 0) -> Item:
        if index == 2:
            raise InputError(f"{self.names[index]}: it is torn")
        side = 8 if index == 4 else 12
        signal = torch.full((3, side, side), index / 10)
        return Item(self.names[index], signal, (side, side))

    def protocol(self) -> dict[str, object]:
        return {}


class Darker:
    """Loses more of a brighter picture."""

    device = torch.device("cpu")

    def round_trip(self, signals: torch.Tensor) -> RoundTrip:
        return RoundTrip(signals, 0.5 * signals, torch.zeros(len(signals), 2, 2, 1, dtype=torch.int64), 4)


NAMES = ["psnr", "ssim", "usage"]


def judged(shard: tuple[int, int] = (0, 1), **options) -> Judgement:
    return judge(Darker(), Squares(), build_metrics(NAMES, "image"), batch_size=3, workers=0, shard=shard, **options)


def test_every_item_has_its_score_by_name() -> None:
    judgement = judged()
    assert judgement.names == ["0.png", "1.png", "3.png", "4.png", "5.png", "6.png"]
    assert set(judgement.scores) == {"psnr", "ssim"}
    scores = judgement.scores["psnr"]
    # 0.3 and its half are the levels 166 and 147 of 255.
    assert scores[2].item() == pytest.approx(20 * math.log10(255 / (166 - 147)))
    assert scores[0].item() == 100
    assert judgement.metrics["psnr"] == pytest.approx(scores.mean().item(), rel=1e-12)


def test_an_item_that_cannot_be_scored_is_named_and_left_out() -> None:
    judgement = judged()
    assert judgement.unscored == {"ssim": 1}
    assert judgement.unscored_items("ssim") == ["4.png"]
    assert judgement.unscored_items("psnr") == []
    assert judgement.unscored_items("usage") == []
    assert judgement.metrics["ssim"] == pytest.approx(judgement.scores["ssim"].nanmean().item(), rel=1e-12)
    assert [failure.item for failure in judgement.failed] == ["2.png"]


class Exchange:
    """A gather for processes that are threads here: each leaves its tensors and takes those of all."""

    def __init__(self, world: int) -> None:
        self.left = [{} for _ in range(world)]
        self.barrier = threading.Barrier(world)

    def gather(self, rank: int, tensors: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        self.left[rank] = tensors
        self.barrier.wait(timeout=20)
        taken = list(self.left)
        self.barrier.wait(timeout=20)
        return taken


@pytest.mark.parametrize("world", [2, 8])
def test_processes_bring_the_scores_together_in_the_order_of_the_source(world: int) -> None:
    """Eight processes for seven items leave one of them without any."""
    exchange = Exchange(world)

    def work(rank: int) -> Judgement:
        return judged((rank, world), gather=functools.partial(exchange.gather, rank))

    with ThreadPoolExecutor(world) as pool:
        results = list(pool.map(work, range(world)))
    alone = judged()
    for together in results:
        assert together.names == alone.names
        assert (together.items, together.unscored) == (alone.items, alone.unscored)
        assert together.unscored_items("ssim") == ["4.png"]
        assert together.metrics == pytest.approx(alone.metrics, rel=1e-12)
        for name, scores in alone.scores.items():
            torch.testing.assert_close(together.scores[name], scores, equal_nan=True)


def test_a_source_of_which_nothing_can_be_read_is_refused() -> None:
    class Torn(Squares):
        names = ("2.png",)

        def load(self, index: int, draw: int = 0) -> Item:
            raise InputError("2.png: it is torn")

    with pytest.raises(InputError, match=r"none of the 1 items could be read; the first: 2\.png: it is torn"):
        judge(Darker(), Torn(), build_metrics(["psnr"], "image"), workers=0)


def test_a_paired_difference_leaves_out_what_either_could_not_score() -> None:
    nan = float("nan")
    reference = torch.tensor([20.0, 30.0, 10.0, nan, 40.0])
    difference = paired_difference(torch.tensor([21.0, 32.0, 13.0, 5.0, nan]), reference)
    # 1, 2 and 3: a deviation of 1, and Student's 97.5 % point for two degrees of freedom is 4.303.
    assert difference.items == 3
    assert difference.mean == pytest.approx(2)
    assert difference.margin == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert not difference.clear
    assert paired_difference(reference + torch.tensor([1.0, 1.1, 0.9, 1.0, 1.0]), reference).clear


def test_a_paired_difference_of_one_item_has_no_interval_and_of_none_no_mean() -> None:
    nan = float("nan")
    one = paired_difference(torch.tensor([3.0, nan]), torch.tensor([1.0, 1.0]))
    assert (one.items, one.mean, one.margin, one.clear) == (1, 2.0, None, False)
    none = paired_difference(torch.tensor([nan]), torch.tensor([1.0]))
    assert (none.items, none.mean, none.margin, none.clear) == (0, None, None, False)
