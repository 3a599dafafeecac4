"""What `tok encode` says at its end: how many tokens, of what, at what rate."""

import functools
import math
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tokcli.contracts import Rate, compute_rate
from tokcli.data.items import Failure
from tokcli.metrics.tokens import count_tokens, empirical_bits, entropy_bits, packed_bits
from tokcli.tokens import TokenReader
from tokcli.tokens.tally import Tally


@dataclass(frozen=True)
class Encoded:
    """A token file and its rate.

    Attributes:
        output: the file.
        items: in it.
        failed: items that could not be read.
        tokens: of all items.
        codebook_size: values per token.
        grid: positions of every item, None where they differ.
        dtype: that tokens are stored in.
        entropy_bits_per_token: of how often each code occurs.
        packed: the rate of tokens stored in log2 K bits.
        empirical: the same in as many bits as the entropy of their frequencies.
        items_per_second: of this command, items resumed not counted.
        model: what decodes it: the run, the file or the shipped name; None where a finished folder does not say it.
        published: where a tokenizer of another library is from, with its revision; None for one of tok's.
    """

    output: pathlib.Path | str
    items: int
    failed: Sequence[Failure]
    tokens: int
    codebook_size: int
    grid: Sequence[int] | None
    dtype: str
    entropy_bits_per_token: float
    packed: Rate
    empirical: Rate
    items_per_second: float
    model: str | None
    published: Mapping[str, Any] | None = None

    @property
    def next_step(self) -> str:
        """A command that goes on from here."""
        return f"tok decode {self.output} -o out/ -m {self.model or 'MODEL'}"

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        left_out = {"packed", "empirical", *(() if self.published else ("published",))}
        plain = {name: value for name, value in asdict(self).items() if name not in left_out}
        rates = {self.packed.unit: self.packed.value, f"{self.empirical.unit}_empirical": self.empirical.value}
        return plain | {"output": str(self.output)} | rates

    def rows(self) -> list[tuple[str, Any]]:
        """What a person wants to know."""
        grid = "×".join(map(str, self.grid)) if self.grid else "differs"
        unit = self.packed.unit.replace("_", " ")
        return [
            ("items", self.items),
            ("failed", len(self.failed)),
            ("tokens", self.tokens),
            ("grid", grid),
            ("codebook size", self.codebook_size),
            ("stored as", self.dtype),
            ("entropy, bits per token", self.entropy_bits_per_token),
            (f"{unit} (packed)", self.packed.value),
            (f"{unit} (empirical)", self.empirical.value),
            ("items per second", self.items_per_second),
        ]


def summarize(reader: TokenReader, items_per_second: float, model: str | None) -> Encoded:
    """What a token file holds, counted over the whole of it, so that a resumed encode reports what another would.

    Args:
        reader: of the file.
        items_per_second: of this command.
        model: that decodes it.
    """
    header = reader.header
    counts = functools.reduce(torch.add, (count_tokens(item.tokens, header.codebook_size) for item in reader))
    samples = sum(math.prod(record.signal_size) for record in reader.records)
    tally = Tally(header, len(reader), reader.grid, samples, counts)
    return describe_encoded(tally, counts, list(reader.failed), reader.path, items_per_second, model)


def describe_encoded(
    tally: Tally,
    counts: Tensor,
    failed: Sequence[Failure],
    output: pathlib.Path | str,
    items_per_second: float,
    model: str | None,
) -> Encoded:
    """What tokens add up to.

    Args:
        tally: their sum.
        counts: how often each code occurs.
        failed: items that could not be read.
        output: the file or folder.
        items_per_second: of this command.
        model: that decodes it.
    """
    header = tally.header
    return Encoded(
        output=output,
        items=tally.items,
        failed=failed,
        tokens=int(counts.sum()),
        codebook_size=header.codebook_size,
        grid=tally.grid,
        dtype=str(header.dtype),
        entropy_bits_per_token=entropy_bits(counts),
        packed=compute_rate(packed_bits(counts), tally.samples, header.sample_rate),
        empirical=compute_rate(empirical_bits(counts), tally.samples, header.sample_rate),
        items_per_second=items_per_second,
        model=model,
        published=header.published,
    )
