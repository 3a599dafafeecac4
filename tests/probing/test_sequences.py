"""Items are cut so that each token is counted once, and simple models cost what a reader can work out."""

import math

import numpy
import pytest

from tokcli.probing.entropies import compute_entropies
from tokcli.probing.sequences import IGNORED, Sequences, choose_batch, cut_grid


@pytest.mark.parametrize(
    ("grid", "groups", "context"),
    [
        ((16, 16), 1, 256),
        ((32, 32), 1, 256),
        ((20, 33), 1, 256),
        ((3, 100), 1, 64),
        ((50,), 4, 64),
        ((7,), 1, 256),
        ((5, 5), 3, 2),
    ],
)
def test_pieces_fit_the_context_and_count_each_token_once(grid, groups, context) -> None:
    counts = numpy.zeros(grid, int)
    shapes = set()
    for piece in cut_grid(grid, groups, context):
        shapes.add(piece.shape)
        assert math.prod(piece.shape) * groups <= max(context, groups)
        counts[
            tuple(
                slice(at + fresh, at + length)
                for at, fresh, length in zip(piece.start, piece.fresh, piece.shape, strict=True)
            )
        ] += 1
    assert (counts == 1).all()
    assert len(shapes) == 1


def test_a_picture_that_fits_is_not_cut() -> None:
    (piece,) = cut_grid((16, 16), 1, 256)
    assert piece.shape == (16, 16)


def test_a_sequence_begins_with_its_class_and_predicts_its_codes() -> None:
    items = [numpy.array([[1], [0], [2]]), numpy.array([[2], [2]])]
    inputs, targets, counted = Sequences(items, [1, 0], 3, context=8).collate([0, 1])
    assert inputs.tolist() == [[4, 1, 0], [3, 2, 0]]
    assert targets.tolist() == [[1, 0, 2], [2, 2, IGNORED]]
    assert counted.tolist() == [[True, True, True], [True, True, False]]


def test_groups_lie_one_behind_another_with_ids_of_their_own() -> None:
    sequences = Sequences([numpy.array([[1, 0], [2, 1]])], None, 3, context=8)
    assert sequences.read_ids(0).tolist() == [1, 3, 2, 4]
    assert sequences.find_start(0) == 6


def test_every_epoch_takes_every_sequence_once() -> None:
    chosen = [index for step in range(10) for index in choose_batch(5, 2, step, seed=3)]
    assert [sorted(chosen[first : first + 5]) for first in range(0, 20, 5)] == [[0, 1, 2, 3, 4]] * 4
    assert chosen[:5] != chosen[5:10]
    assert choose_batch(5, 2, 7, seed=3) == chosen[14:16]


def test_entropies_are_those_of_a_reader_with_a_pencil() -> None:
    """Learnt from 0 0 1: p(0) = 2.5/4, p(1) = 1.5/4. Behind 0 came 0 and 1, once each: p(1|0) = (1 + 2 p(1)) / 4."""
    train = Sequences([numpy.array([[0], [0], [1]])], None, 2, context=8)
    val = Sequences([numpy.array([[0], [1], [1]])], None, 2, context=8)
    found = compute_entropies(train, val)
    frequent, rare = 2.5 / 4, 1.5 / 4
    assert found.packed == 1
    assert found.zeroth == pytest.approx(-(math.log2(frequent) + 2 * math.log2(rare)) / 3)
    # Behind 1 came nothing: the frequencies are all there is.
    assert found.first == pytest.approx(-(math.log2(frequent) + math.log2((1 + 2 * rare) / 4) + math.log2(rare)) / 3)


def test_groups_have_frequencies_of_their_own() -> None:
    """The first group is always 0 and the second always 1: nothing is left to say of a long set."""
    item = numpy.tile(numpy.array([[0, 1]]), (500, 1))
    found = compute_entropies(Sequences([item], None, 2, 4096), Sequences([item], None, 2, 4096))
    assert found.zeroth < 0.01
    assert found.first < 0.01
