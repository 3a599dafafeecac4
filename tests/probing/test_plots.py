"""A correlation has the interval that a table of Fisher's transformation gives."""

import math

import pytest

from tokcli.probing.plots import correlate


def test_the_interval_is_fishers() -> None:
    """Of seven pairs: atanh(r) ± 1.96 / √4, transformed back."""
    found = correlate([1, 2, 3, 4, 5, 6, 7], [2.2, 1, 4, 2.4, 5, 3.7, 7])
    assert found is not None

    middle = math.atanh(found.value)
    assert (found.low, found.high) == (
        pytest.approx(math.tanh(middle - 0.98), abs=1e-4),
        pytest.approx(math.tanh(middle + 0.98), abs=1e-4),
    )
    assert found.low < 0.8 < found.high
    assert found.count == 7


@pytest.mark.parametrize(("first", "second"), [([1, 2, 3], [1, 2, 3]), ([1, 1, 1, 1], [1, 2, 3, 4])])
def test_there_is_none_of_too_few_or_of_one_value(first, second) -> None:
    assert correlate(first, second) is None


def test_a_perfect_correlation_is_finite() -> None:
    found = correlate([1, 2, 3, 4], [2, 4, 6, 8])
    assert found is not None
    assert 0.99 < found.low < found.value < found.high <= 1
