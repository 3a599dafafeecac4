"""Orders and layouts, by figures that can be redone on paper."""

import hypothesis
import numpy
import pytest
from hypothesis import strategies as st

from tokcli.errors import MismatchError, UsageError
from tokcli.exchange.sequences import LAYOUTS, ORDERS, SequenceLayout, parse_grid, scan_positions


def test_orders_of_a_small_grid() -> None:
    assert scan_positions((2, 3), "raster").tolist() == [0, 1, 2, 3, 4, 5]
    assert scan_positions((2, 3), "columns").tolist() == [0, 3, 1, 4, 2, 5]
    assert scan_positions((3, 2), "snake").tolist() == [0, 1, 3, 2, 4, 5]
    assert scan_positions((4, 4), "morton").tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    assert scan_positions((5,), "morton").tolist() == [0, 1, 2, 3, 4]


@hypothesis.given(
    grid=st.lists(st.integers(1, 9), min_size=1, max_size=2),
    groups=st.integers(1, 4),
    order=st.sampled_from(ORDERS),
    layout=st.sampled_from(LAYOUTS),
    special=st.booleans(),
    seed=st.integers(0, 100),
)
def test_tokens_come_back_from_every_sequence(grid, groups, order, layout, special, seed) -> None:
    own = SequenceLayout(50, groups, order, layout, offset=7)
    if special:
        free = own.first_free
        own = SequenceLayout(50, groups, order, layout, offset=7, bos=free, eos=free + 1, label_base=free + 2)
    tokens = numpy.random.default_rng(seed).integers(0, 50, (*grid, groups))
    ids = own.to_ids(tokens, label=3)
    assert len(ids) == own.item_length(tuple(grid))
    assert ids.min() >= 7
    assert ids.max() < own.vocabulary_size(labels=4)
    back, label = own.to_tokens(ids, tuple(grid), "item")
    assert (back == tokens).all()
    assert label == (3 if special else None)


def test_ids_that_are_no_such_sequence_are_named() -> None:
    layout = SequenceLayout(10, 1, bos=10)
    with pytest.raises(MismatchError, match="x has 3 ids, and a grid of 2×2 takes 5"):
        layout.to_tokens(numpy.array([10, 1, 2]), (2, 2), "x")
    with pytest.raises(MismatchError, match="x begins with the id 4, where 10 was expected"):
        layout.to_tokens(numpy.array([4, 1, 2, 3, 4]), (2, 2), "x")
    with pytest.raises(MismatchError, match=r"x holds the token 12, but the codebook has 10 codes \(0 to 9\)"):
        layout.to_tokens(numpy.array([10, 1, 12, 3, 4]), (2, 2), "x")


@pytest.mark.parametrize("text", ["", "x", "4x", "0x4", "4x4x4", "four", "-4x4", "9" * 5000])
def test_a_grid_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--grid: expected positions as HxW"):
        parse_grid(text)


def test_grids_are_read() -> None:
    assert (parse_grid("16x12"), parse_grid("50"), parse_grid("4×4")) == ((16, 12), (50,), (4, 4))
