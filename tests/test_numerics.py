"""Exact sums are those of fractions, and add in any order."""

from fractions import Fraction

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokcli.numerics import read_exactly, split_exactly

numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)


@settings(max_examples=100, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=20), st.integers(0, 20))
def test_an_exact_sum_is_that_of_fractions_however_it_is_cut(values: list[float], cut: int) -> None:
    tensor = torch.tensor(values, dtype=torch.float64)
    whole = sum(map(Fraction, values))
    assert read_exactly(split_exactly(tensor)) == whole
    assert read_exactly(split_exactly(tensor[cut:]) + split_exactly(tensor[:cut])) == whole
