"""Digits and tokens: a worked example, and the round trip up to the last 64-bit number."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokcli.errors import ArgumentError
from tokcli.quantizers.ops import MOST_TOKENS, count_codes, digits_to_tokens, place_values, tokens_to_digits


def test_the_first_dimension_is_the_least_significant() -> None:
    levels = torch.tensor([8, 5, 3])
    digits = torch.tensor([[0, 0, 0], [7, 0, 0], [0, 1, 0], [3, 2, 1], [7, 4, 2]])
    # 3 + 8·2 + 40·1 = 59
    assert digits_to_tokens(digits, place_values(levels)).tolist() == [0, 7, 8, 59, 119]


def test_every_token_has_its_own_digits() -> None:
    levels = torch.tensor([4, 3, 5])
    digits = tokens_to_digits(torch.arange(60), levels, place_values(levels))
    assert len(digits.unique(dim=0)) == 60
    assert torch.equal(digits_to_tokens(digits, place_values(levels)), torch.arange(60))


def fits(levels: list[int]) -> bool:
    return math.prod(levels) <= MOST_TOKENS


@given(st.lists(st.integers(2, 2**16), min_size=1, max_size=40).filter(fits), st.data())
def test_tokens_round_trip_up_to_64_bits(levels: list[int], data: st.DataObject) -> None:
    size = count_codes(levels)
    tokens = [0, size - 1, data.draw(st.integers(0, size - 1))]
    expected = []
    for token in tokens:
        row = []
        for level in levels:
            token, digit = divmod(token, level)
            row.append(digit)
        expected.append(row)
    digits = tokens_to_digits(torch.tensor(tokens), torch.tensor(levels), place_values(torch.tensor(levels)))
    assert digits.tolist() == expected
    assert digits_to_tokens(digits, place_values(torch.tensor(levels))).tolist() == tokens


def test_62_binary_digits_are_counted_exactly() -> None:
    assert count_codes([2] * 62) == 2**62
    levels = torch.full((62,), 2)
    assert digits_to_tokens(torch.ones(62, dtype=torch.int64), place_values(levels)).item() == 2**62 - 1


def test_a_size_beyond_64_bits_is_refused() -> None:
    with pytest.raises(ArgumentError, match="more than a 64-bit token can count"):
        count_codes([2] * 63)
