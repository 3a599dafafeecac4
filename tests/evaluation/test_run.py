"""Evaluating a candidate: figures, the score of every item by name, and the same from two processes as from one."""

import dataclasses
import functools
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tokcli.contracts import Candidate, Item, RoundTrip, Source
from tokcli.errors import InputError
from tokcli.evaluation.run import Scores, evaluate, remark_on_use
from tokcli.quantizers import QUANTIZERS


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


class Darker(Candidate):
    """Loses more of a brighter picture."""

    modality = "image"
    sample_rate = None
    codebook_size = 4
    device = torch.device("cpu")

    def round_trip(self, signals: torch.Tensor) -> RoundTrip:
        return RoundTrip(signals, 0.5 * signals, torch.zeros(len(signals), 2, 2, 1, dtype=torch.int64), 4)


NAMES = ["psnr", "ssim", "usage"]


def scored(shard: tuple[int, int] = (0, 1), **options) -> Scores:
    return evaluate(Darker(), Squares(), NAMES, batch_size=3, workers=0, shard=shard, examples=4, **options)


def test_every_item_has_its_score_by_name() -> None:
    scores = scored()
    assert scores.names == ["0.png", "1.png", "3.png", "4.png", "5.png", "6.png"]
    assert set(scores.item_scores) == {"psnr", "ssim"}
    psnr = scores.item_scores["psnr"]
    # 0.3 and its half are the levels 166 and 147 of 255.
    assert psnr[2].item() == pytest.approx(20 * math.log10(255 / (166 - 147)))
    assert psnr[0].item() == 100
    assert scores.metrics["psnr"] == pytest.approx(psnr.mean().item(), rel=1e-12)


def test_an_item_that_cannot_be_scored_is_named_and_left_out() -> None:
    scores = scored()
    assert scores.unscored == {"ssim": 1}
    assert scores.unscored_items("ssim") == ["4.png"]
    assert scores.unscored_items("psnr") == []
    assert scores.unscored_items("usage") == []
    assert scores.metrics["ssim"] == pytest.approx(scores.item_scores["ssim"].nanmean().item(), rel=1e-12)
    assert [failure.item for failure in scores.failed] == ["2.png"]


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

    def work(rank: int) -> Scores:
        return scored((rank, world), gather=functools.partial(exchange.gather, rank))

    with ThreadPoolExecutor(world) as pool:
        results = list(pool.map(work, range(world)))
    alone = scored()
    for together in results:
        assert together.names == alone.names
        assert (together.items, together.unscored) == (alone.items, alone.unscored)
        assert together.unscored_items("ssim") == ["4.png"]
        assert together.metrics == alone.metrics
        assert list(together.failed) == list(alone.failed)
        assert [example.name for example in together.examples] == [example.name for example in alone.examples]
        for name, scores in alone.item_scores.items():
            assert torch.equal(together.item_scores[name].nan_to_num(-1), scores.nan_to_num(-1))


def test_a_source_of_which_nothing_can_be_read_is_refused() -> None:
    class Torn(Squares):
        names = ("2.png",)

        def load(self, index: int, draw: int = 0) -> Item:
            raise InputError("2.png: it is torn")

    with pytest.raises(InputError, match=r"none of the 1 items could be read; the first: 2\.png: it is torn"):
        evaluate(Darker(), Torn(), ["psnr"], workers=0)


def test_rates_are_counted_beside_the_metrics_that_were_asked_for() -> None:
    scores = scored(rates=True)
    assert list(scores.metrics) == NAMES
    assert list(scores.rates) == ["bits_per_pixel", "bits_per_pixel_empirical"]
    assert list(scores.protocol["metrics"]) == [*NAMES, *scores.rates]
    # Six items of four tokens of two bits, five with 144 pixels and one with 64.
    assert scores.rates["bits_per_pixel"] == pytest.approx(6 * 4 * 2 / (5 * 144 + 64))
    assert scores.counts is not None
    assert scores.counts.tolist() == [[24, 0, 0, 0]]
    assert (scores.items, scores.asked) == (6, 7)
    assert scored().rates == {}


def test_the_json_has_every_item_with_its_scores() -> None:
    plain = scored(rates=True).to_json()
    assert plain["failed"] == [{"item": "2.png", "reason": "it is torn"}]
    assert plain["unscored"] == {"ssim": {"count": 1, "items": ["4.png"]}}
    assert [score["item"] for score in plain["item_scores"]] == ["0.png", "1.png", "3.png", "4.png", "5.png", "6.png"]
    assert plain["item_scores"][3]["ssim"] is None
    assert set(plain["item_scores"][0]) == {"item", "psnr", "ssim"}


def test_a_careful_reader_is_told_what_could_not_be_scored_and_where_tokens_are_few() -> None:
    assert scored().remarks == [
        "ssim: 1 item could not be scored and left out of the mean (4.png)",
        "24 tokens are fewer than 10 for each of 4 codes: usage, perplexity and cvu are too low",
    ]


def used(cvu: float, tokens: int = 20_480) -> Scores:
    """Scores of a codebook of 1024 codes whose use is given."""
    counts = torch.full((1, 1024), tokens // 1024)
    return dataclasses.replace(scored(), metrics={"cvu": cvu}, counts=counts)


def test_a_low_cvu_is_said_in_codes() -> None:
    remark = remark_on_use(used(0.0408), "do better", 1500)
    assert remark == (
        "cvu, perplexity as a share of the codes, is 0.0408: used evenly, 42 of the 1024 codes would do the same work; "
        "do better"
    )


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"kind": "vq"}, "train with quantizer.ema=true quantizer.restart_below=0.5"),
        ({"kind": "vq", "ema": True}, "train with quantizer.restart_below=0.5"),
        ({"kind": "vq", "ema": True, "restart_below": 0.5}, "a smaller codebook, or with VP-VAE (kind: vpvae)"),
        ({"kind": "simvq"}, "a smaller codebook, or with VP-VAE (kind: vpvae)"),
        ({"kind": "vpvae"}, "build a smaller codebook: tok build-codebook --size"),
    ],
)
def test_no_quantizer_is_advised_to_be_what_it_is(node: dict[str, object], words: str) -> None:
    quantizer = QUANTIZERS.build({"dim": 3, "codebook_size": 16} | node)
    assert quantizer.advice_for_uneven_use().endswith(words)


def test_a_good_figure_a_small_sample_and_a_trial_get_no_advice() -> None:
    assert remark_on_use(used(0.1), "do better", None) is not None
    assert remark_on_use(used(0.3), "do better", 1500) is None
    assert remark_on_use(used(0.1, tokens=2048), "do better", 1500) is None
    assert remark_on_use(used(0.1), "do better", 199) is None
