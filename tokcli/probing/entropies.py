"""What simple models pay for the same tokens: by frequency alone, and by the token before.

Both learn from the training set and are evaluated on the other, as the probe is; so they are codes that could be
written down, and no entropies of a set that has seen itself. They are smoothed: half a count for each code (Krichevsky
and Trofimov 1981), and by Witten and Bell's (1991) share of new followers.
"""

import math
from dataclasses import dataclass

import numpy

from tokcli.probing.sequences import Sequences


@dataclass(frozen=True)
class Entropies:
    """Bits per token.

    Attributes:
        packed: log2 K.
        zeroth: of a model that knows how frequent each code is, for each group by itself.
        first: of one that also knows which code came before in the sequence.
    """

    packed: float
    zeroth: float
    first: float


def compute_entropies(train: Sequences, val: Sequences) -> Entropies:
    """Learn both models from `train` and evaluate them on the counted tokens of `val`."""
    codes = train.first_start
    logs = _learn_frequencies(train, codes)
    pairs = _Pairs(train, codes, logs)
    zeroth = first = 0.0
    for index in range(len(val)):
        ids, counted = val.read_ids(index), val.find_counted(index)
        zeroth -= logs[ids[counted]].sum()
        costs = -logs[ids]
        costs[1:] = -pairs.find_logs(ids[:-1], ids[1:])
        first += costs[counted].sum()
    bits = val.tokens * math.log(2)
    return Entropies(math.log2(train.codebook_size), float(zeroth / bits), float(first / bits))


def _learn_frequencies(train: Sequences, codes: int) -> numpy.ndarray:
    """The logarithm of each id's probability among those of its group, (codes,)."""
    counts = numpy.full(codes, 0.5)
    for index in range(len(train)):
        counts += numpy.bincount(train.read_ids(index), minlength=codes)
    by_group = counts.reshape(train.groups, train.codebook_size)
    return numpy.log(by_group / by_group.sum(1, keepdims=True)).reshape(-1)


class _Pairs:
    """How often each id followed each other one."""

    def __init__(self, train: Sequences, codes: int, logs: numpy.ndarray) -> None:
        rows = [train.read_ids(index) for index in range(len(train))]
        keys = numpy.concatenate([row[:-1] * codes + row[1:] for row in rows])
        self._keys, self._counts = numpy.unique(keys, return_counts=True)
        former = self._keys // codes
        self._seen = numpy.bincount(former, weights=self._counts, minlength=codes)
        self._followers = numpy.bincount(former, minlength=codes)
        self._codes = codes
        self._probabilities = numpy.exp(logs)

    def find_logs(self, before: numpy.ndarray, ids: numpy.ndarray) -> numpy.ndarray:
        """The logarithm of the probability of `ids` behind `before`, of the same shape."""
        keys = before * self._codes + ids
        counts = numpy.zeros(len(keys))
        if len(self._keys):
            places = numpy.minimum(numpy.searchsorted(self._keys, keys), len(self._keys) - 1)
            counts = numpy.where(self._keys[places] == keys, self._counts[places], 0)
        followers, seen = self._followers[before], self._seen[before]
        # Behind an id that was never followed, the frequencies are all there is to know.
        known = numpy.maximum(seen + followers, 1)
        share = numpy.where(seen > 0, followers, 1)
        return numpy.log((counts + share * self._probabilities[ids]) / known)
