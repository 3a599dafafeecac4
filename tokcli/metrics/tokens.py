"""What tokens tell by their counts: how the codebook is used, and what the tokens of a signal cost.

Everything is counted over the whole set, in int64. Usage over one batch or a rolling buffer is another quantity, and
a set with few tokens per code makes every figure of usage too low: `is_undersampled` says so.
"""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from tokcli.contracts import ItemParts, Metric, ModalityName, RoundTrip, compute_rate
from tokcli.metrics.base import merge_states, require_sample_rate
from tokcli.numerics import to_float64

DENSE_CODES = 2**20
"""Codebooks up to this size are counted in a table (8 MB per group); larger ones in a sparse tensor, whose memory
follows the distinct codes met. Both add."""

PENDING_TOKENS = 2**22
"""Sparse counts are tallied whenever this many entries, or twice the distinct codes, have piled up: memory stays
bounded, and the device is waited for rarely."""

TOKENS_PER_CODE = 10
"""Fewer tokens per code than this, and the figures describe the sample more than the tokenizer."""

MILLISECONDS = 1000
"""In a second: clips are measured in samples at this rate, so that clips of any rate add."""


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
    indices = torch.stack([groups.flatten(), by_group.flatten()])
    return torch.sparse_coo_tensor(indices, ones.flatten(), shape, check_invariants=False)


def select_occurring(counts: Tensor) -> list[Tensor]:
    """Of each group the counts (codes,) of the codes that occur, from counts (groups, codes), dense or sparse."""
    if not counts.is_sparse:
        return [row[row > 0] for row in counts]
    counts = counts.coalesce()
    return [counts.values()[counts.indices()[0] == group] for group in range(counts.shape[0])]


def entropy(counts: Tensor) -> float:
    """H = −Σ p log p in nats, from how often each code of one group occurs: counts (codes,), not all of them zero."""
    counts = to_float64(counts[counts > 0])
    frequencies = counts / counts.sum()
    # max: zero, and not minus zero, where one code has it all.
    return max(0.0, -float((frequencies * frequencies.log()).sum()))


def entropy_bits(counts: Tensor) -> float:
    """The entropy of a token in bits, averaged over groups, from counts (groups, codes), dense or sparse."""
    by_group = select_occurring(counts)
    return sum(entropy(group) for group in by_group) / math.log(2) / len(by_group)


def describe_groups(counts: Tensor) -> dict[str, list[float]]:
    """How each group uses its codes, from counts (groups, codes), dense or sparse: usage, perplexity, cvu, entropy."""
    groups, codes = select_occurring(counts), counts.shape[1]
    entropies = [entropy(group) for group in groups]
    return {
        "usage": [len(group) / codes for group in groups],
        "perplexity": [math.exp(each) for each in entropies],
        "cvu": [math.exp(each) / codes for each in entropies],
        "entropy_bits_per_token": [each / math.log(2) for each in entropies],
    }


def packed_bits(counts: Tensor) -> float:
    """Bits of all the tokens counted, (groups, codes), stored without entropy coding: log2 K each."""
    return sum(int(group.sum()) for group in select_occurring(counts)) * math.log2(counts.shape[1])


def empirical_bits(counts: Tensor) -> float:
    """Bits of all the tokens counted, (groups, codes), for an ideal entropy coder that knows how frequent each is."""
    return sum(int(group.sum()) * entropy(group) for group in select_occurring(counts)) / math.log(2)


def is_undersampled(counts: Tensor | None) -> bool:
    """Whether a group has seen fewer than 10 tokens per code, so that figures of usage are too low.

    Args:
        counts: (groups, codes); None where no token has been seen.
    """
    return counts is None or int(counts.sum()) < TOKENS_PER_CODE * counts.shape[0] * counts.shape[1]


class TokenCounts(Metric):
    """Counts tokens; a subclass says what the counts amount to.

    The state holds `unscored`, int64, the items that came without tokens; from the first tokens on also `counts`,
    int64 (groups, codebook_size), dense or sparse.
    """

    needs_tokens: ClassVar[bool] = True

    def __init__(self) -> None:
        self.state = {"unscored": torch.zeros((), dtype=torch.int64)}
        self._tally_at = PENDING_TOKENS

    @abstractmethod
    def figure(self, counts: Tensor) -> float:
        """The figure of counts (groups, codes), dense or sparse, not all of them zero."""

    @torch.no_grad()
    def update(self, round_trip: RoundTrip) -> None:
        """Count the tokens of one batch."""
        if round_trip.tokens is None:
            self.state["unscored"] = self.state["unscored"] + round_trip.reference.shape[0]
            return
        counts = count_tokens(round_trip.tokens, round_trip.codebook_size)
        self.take({"counts": counts})

    def take(self, seen: dict[str, Tensor]) -> None:
        """Add the state of another metric of this class, or some of it."""
        self.state = merge_states([seen, self.state])
        counts = self.state.get("counts")
        if counts is not None and counts.is_sparse and counts._nnz() > self._tally_at:
            self.state["counts"] = counts.coalesce()
            self._tally_at = max(PENDING_TOKENS, 2 * self.state["counts"]._nnz())

    def start_item(self) -> ItemParts:
        """Counts of parts add up to those of the whole."""
        return CountsOfItem(self)

    def compute(self) -> float:
        """The figure over all tokens seen; NaN before the first."""
        return self.figure(self.state["counts"]) if self.tokens_counted else math.nan

    @property
    def tokens_counted(self) -> int:
        """Tokens seen, of all groups together."""
        return 0 if self.counts is None else int(self.counts.sum())

    @property
    def undersampled(self) -> bool:
        """Whether a group has seen too few tokens for its codebook."""
        return is_undersampled(self.counts)

    def remark(self) -> str | None:
        """Whether the tokens are too few for figures of usage."""
        if not self.undersampled:
            return None
        codes = 0 if self.counts is None else self.counts.shape[1]
        return (
            f"{self.tokens_counted} tokens are fewer than {TOKENS_PER_CODE} for each of {codes} codes: "
            "usage, perplexity and cvu are too low"
        )

    def protocol(self) -> dict[str, object]:
        """How many tokens were counted, over what codebook, and whether they suffice."""
        groups, codebook_size = (0, 0) if self.counts is None else self.counts.shape
        return {
            "tokens": self.tokens_counted,
            "codebook_size": codebook_size,
            "groups": groups,
            "undersampled": self.undersampled,
            "average": "per group, over the whole set",
        }


class CountsOfItem(ItemParts):
    """The counts of one item, kept apart until it is complete."""

    def __init__(self, metric: TokenCounts) -> None:
        self._metric = metric
        self._own = type(metric)()

    def add(self, part: RoundTrip) -> None:
        """Count the tokens of a part."""
        self._own.update(part)

    def finish(self) -> None:
        """Add the counts; an item without tokens is one unscored item, whatever its parts."""
        state = self._own.state
        self._metric.take(state | {"unscored": state["unscored"].clamp(max=1)})


class Usage(TokenCounts):
    """The fraction of codes that occur at least once, averaged over groups."""

    higher_is_better: ClassVar[bool | None] = True
    meaning: ClassVar[str] = "share of the K codes that occur at all"

    def figure(self, counts: Tensor) -> float:
        """Distinct codes / K."""
        groups, codes = counts.shape
        return sum(len(group) / codes for group in select_occurring(counts)) / groups


class Perplexity(TokenCounts):
    """exp(H), how many equally frequent codes would be as hard to guess, averaged over groups."""

    higher_is_better: ClassVar[bool | None] = True
    unit: ClassVar[str] = "codes"
    meaning: ClassVar[str] = "as many codes, evenly used, would carry the same information"

    def figure(self, counts: Tensor) -> float:
        """Between 1 and K."""
        return sum(math.exp(entropy(group)) for group in select_occurring(counts)) / counts.shape[0]


class Cvu(TokenCounts):
    """CVU, exp(H) / K (VP-VAE eq. 19), averaged over groups: 1 where every code is equally frequent."""

    higher_is_better: ClassVar[bool | None] = True
    meaning: ClassVar[str] = "perplexity / K: 1 is perfectly even use; where it is low, few codes do the work"

    def figure(self, counts: Tensor) -> float:
        """Between 1 / K and 1."""
        groups, codes = counts.shape
        return sum(math.exp(entropy(group)) / codes for group in select_occurring(counts)) / groups


class EntropyBitsPerToken(TokenCounts):
    """H in bits, averaged over groups: what an entropy coder that knows the frequencies would spend on a token."""

    unit: ClassVar[str] = "bits"
    meaning: ClassVar[str] = "what a token costs an ideal entropy coder"

    def figure(self, counts: Tensor) -> float:
        """Between 0 and log2 K."""
        return entropy_bits(counts)


class TokenRate(TokenCounts):
    """What the tokens of a signal cost; a subclass says how bits are counted and how much signal there is.

    The state also holds `samples`, float64: how much signal the tokens stand for.
    """

    sample_rate: ClassVar[int | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.state["samples"] = torch.zeros((), dtype=torch.float64)

    @abstractmethod
    def samples(self, round_trip: RoundTrip) -> float:
        """How much signal a batch is: pixels, or samples at the metric's `sample_rate`."""

    @abstractmethod
    def bits(self, counts: Tensor) -> float:
        """The bits of all tokens counted, (groups, codes)."""

    def update(self, round_trip: RoundTrip) -> None:
        """Count the tokens of one batch, and what they stand for."""
        super().update(round_trip)
        if round_trip.tokens is not None:
            samples = torch.tensor(self.samples(round_trip), dtype=torch.float64)
            self.state = merge_states([self.state, {"samples": samples}])

    def figure(self, counts: Tensor) -> float:
        """Bits per pixel or kilobits per second."""
        return compute_rate(self.bits(counts), float(self.state["samples"]), self.sample_rate).value


class BitsPerPixel(TokenRate):
    """Bits per pixel of tokens packed into log2 K bits each."""

    modality: ClassVar[ModalityName | None] = "image"
    meaning: ClassVar[str] = "the rate with log2 K bits a token"

    def samples(self, round_trip: RoundTrip) -> float:
        """Pixels."""
        batch, _, *size = round_trip.reference.shape
        return batch * math.prod(size)

    def bits(self, counts: Tensor) -> float:
        """Packed."""
        return packed_bits(counts)


class BitsPerPixelEmpirical(BitsPerPixel):
    """Bits per pixel for an ideal entropy coder that knows how frequent each token is over the whole set."""

    meaning: ClassVar[str] = "the rate for an ideal entropy coder"

    def bits(self, counts: Tensor) -> float:
        """As their entropy says."""
        return empirical_bits(counts)


class Kbps(TokenRate):
    """Kilobits per second of tokens packed into log2 K bits each."""

    modality: ClassVar[ModalityName | None] = "audio"
    sample_rate: ClassVar[int | None] = MILLISECONDS
    meaning: ClassVar[str] = "the rate with log2 K bits a token"

    def samples(self, round_trip: RoundTrip) -> float:
        """Milliseconds."""
        batch, _, samples = round_trip.reference.shape
        return MILLISECONDS * batch * samples / require_sample_rate(round_trip)

    def bits(self, counts: Tensor) -> float:
        """Packed."""
        return packed_bits(counts)


class KbpsEmpirical(Kbps):
    """Kilobits per second for an ideal entropy coder that knows how frequent each token is over the whole set."""

    meaning: ClassVar[str] = "the rate for an ideal entropy coder"

    def bits(self, counts: Tensor) -> float:
        """As their entropy says."""
        return empirical_bits(counts)
