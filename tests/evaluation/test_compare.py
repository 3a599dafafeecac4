"""Comparing scores: paired differences by hand, the best of a column, and numbers as people read them."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from tokcli.evaluation.compare import (
    Difference,
    choose_arrow,
    find_best_rows,
    format_difference,
    format_number,
    paired_difference,
)


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


def row(psnr: float | None, kbps: float = 1.0, competes: bool = True) -> SimpleNamespace:
    return SimpleNamespace(figures={"psnr": psnr, "kbps": kbps}, candidate=SimpleNamespace(competes=competes))


def test_the_best_is_sought_among_those_that_compete() -> None:
    rows = [row(20.0), row(22.0), row(None), row(22.0), row(99.0, competes=False)]
    assert find_best_rows(rows, "psnr") == {1, 3}
    assert find_best_rows(rows, "kbps") == set(), "neither direction is better"
    assert find_best_rows(rows[:1], "psnr") == set(), "one has nobody to be better than"


def test_arrows_say_which_way_is_better() -> None:
    assert [choose_arrow(name) for name in ("psnr", "lpips", "kbps")] == ["↑", "↓", ""]


@pytest.mark.parametrize(("value", "shown"), [(None, "–"), (0.123456, "0.1235"), (1234.5, "1,234"), (20.0, "20")])
def test_numbers_have_four_digits(value: float | None, shown: str) -> None:
    assert format_number(value) == shown


def test_a_difference_has_its_sign_and_its_margin() -> None:
    assert format_difference(Difference(3, 1.5, 0.25)) == ("+1.5", " ± 0.25")
    assert format_difference(Difference(1, -2.0, None)) == ("-2", "")
    assert format_difference(Difference(0, None, None)) == ("–", "")


def test_numbers_are_written_without_torch() -> None:
    program = "import sys, tokcli.evaluation.compare as c; c.format_number(1.0); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
