"""How a codebook is used: the fraction of codes seen, and what the entropy of their frequencies says.

Everything is counted over the whole set, in int64. Usage over one batch or a rolling buffer is another quantity, and
a set with few tokens per code makes every figure here too low: `undersampled` says so.
"""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from tokcli.contracts import Metric, RoundTrip
from tokcli.metrics.base import merge_states
from tokcli.numerics import to_float64

DENSE_CODES = 2**20
"""Codebooks up to this size are counted in a table (8 MB per group); larger ones in a sparse tensor, whose memory
follows the distinct codes met. Both add."""

PENDING_TOKENS = 2**22
"""Sparse counts are tallied whenever this many entries, or twice the distinct codes, have piled up: memory stays
bounded, and the device is waited for rarely."""

TOKENS_PER_CODE = 10
"""Fewer tokens per code than this, and the figures describe the sample more than the tokenizer."""


def count_tokens(tokens: Tensor, codebook_size: int) -> Tensor:
    """How often each code occurs: (groups, codebook_size) int64, from tokens (batch, *positions, groups).

    The counts are sparse above `DENSE_CODES`. Nothing waits for the device.
    """
    by_group = tokens.flatten(0, -2).T
    ones = torch.ones_like(by_group)
    shape = (by_group.shape[0], codebook_size)
    if codebook_size <= DENSE_CODES:
        return torch.zeros(shape, dtype=torch.int64, device=tokens.device).scatter_add_(1, by_group, ones)
    groups = torch.arange(shape[0], device=tokens.device)[:, None].expand_as(by_group)
    places = torch.stack([groups.flatten(), by_group.flatten()])
    return torch.sparse_coo_tensor(places, ones.flatten(), shape, check_invariants=False)


def entropy(counts: Tensor) -> float:
    """H = −Σ p log p in nats, from how often each code of one group occurs: counts (codes,), not all of them zero."""
    counts = to_float64(counts[counts > 0])
    frequencies = counts / counts.sum()
    # max: zero, and not minus zero, where one code has it all.
    return max(0.0, -float((frequencies * frequencies.log()).sum()))


def packed_bits(codebook_size: int, groups: int) -> float:
    """Bits per position of tokens stored without entropy coding: groups · log2 K."""
    return groups * math.log2(codebook_size)


class TokenCounts(Metric):
    """Counts tokens; a subclass says what the counts of one group amount to. Groups are judged apart, then averaged.

    state: `unscored`, int64, the items that came without tokens; from the first tokens on also `counts`, int64
    (groups, codebook_size), dense or sparse.
    """

    needs_tokens: ClassVar[bool] = True

    def __init__(self) -> None:
        self.state = {"unscored": torch.zeros((), dtype=torch.int64)}
        self._tally_at = PENDING_TOKENS

    @abstractmethod
    def figure(self, counts: Tensor, codebook_size: int) -> float:
        """The figure of one group: counts (codes,) of the codes that occur, all positive."""

    @torch.no_grad()
    def update(self, round_trip: RoundTrip) -> None:
        """Count the tokens of one batch."""
        if round_trip.tokens is None:
            self.state["unscored"] = self.state["unscored"] + round_trip.reference.shape[0]
            return
        counts = count_tokens(round_trip.tokens, round_trip.codebook_size)
        self.state = merge_states([{"counts": counts}, self.state])
        if counts.is_sparse and self.state["counts"]._nnz() > self._tally_at:
            self.state["counts"] = self.state["counts"].coalesce()
            self._tally_at = max(PENDING_TOKENS, 2 * self.state["counts"]._nnz())

    def compute(self) -> float:
        """The figure over all tokens seen, averaged over groups; NaN before the first."""
        if not self.tokens_counted:
            return math.nan
        counts = self.state["counts"]
        groups, codebook_size = counts.shape
        if counts.is_sparse:
            counts = counts.coalesce()
            occurring = [counts.values()[counts.indices()[0] == group] for group in range(groups)]
        else:
            occurring = [row[row > 0] for row in counts]
        return sum(self.figure(row, codebook_size) for row in occurring) / groups

    @property
    def unscored(self) -> int:
        """Items that came without tokens."""
        return int(self.state["unscored"])

    @property
    def tokens_counted(self) -> int:
        """Tokens seen, of all groups together."""
        return int(self.state["counts"].sum()) if "counts" in self.state else 0

    @property
    def undersampled(self) -> bool:
        """Whether a group has seen fewer than 10 tokens per code of its codebook, so that the figure is too low."""
        if "counts" not in self.state:
            return True
        groups, codebook_size = self.state["counts"].shape
        return self.tokens_counted < TOKENS_PER_CODE * groups * codebook_size

    def protocol(self) -> dict[str, object]:
        """How many tokens were counted, over what codebook, and whether they suffice."""
        groups, codebook_size = self.state["counts"].shape if "counts" in self.state else (0, 0)
        return {
            "tokens": self.tokens_counted,
            "codebook_size": codebook_size,
            "groups": groups,
            "undersampled": self.undersampled,
            "average": "per group, over the whole set",
        }


class Usage(TokenCounts):
    """The fraction of codes that occur at least once."""

    def figure(self, counts: Tensor, codebook_size: int) -> float:
        """Distinct codes / K."""
        return len(counts) / codebook_size


class Perplexity(TokenCounts):
    """exp(H): how many equally frequent codes would be as hard to guess."""

    def figure(self, counts: Tensor, codebook_size: int) -> float:
        """Between 1 and K."""
        return math.exp(entropy(counts))


class Cvu(TokenCounts):
    """CVU, exp(H) / K (VP-VAE eq. 19): 1 where every code is equally frequent."""

    def figure(self, counts: Tensor, codebook_size: int) -> float:
        """Between 1 / K and 1."""
        return math.exp(entropy(counts)) / codebook_size


class EntropyBitsPerToken(TokenCounts):
    """H in bits: what an ideal entropy coder that knows the frequencies would spend on a token."""

    def figure(self, counts: Tensor, codebook_size: int) -> float:
        """Between 0 and log2 K."""
        return entropy(counts) / math.log(2)
