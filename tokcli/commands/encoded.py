"""What `tok encode` says at its end: how many tokens, of what, at what rate."""

import functools
import math
import pathlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tokcli.contracts import Rate, compute_rate
from tokcli.data.items import Failure
from tokcli.metrics.tokens import count_tokens, empirical_bits, entropy_bits, packed_bits
from tokcli.tokens import TokenReader


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
        model: what decodes it: the run, the file or the shipped name.
    """

    output: pathlib.Path
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
    model: str

    @property
    def next_step(self) -> str:
        """A command that goes on from here."""
        return f"tok decode {self.output} -o out/ -m {self.model}"

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        plain = {name: value for name, value in asdict(self).items() if name not in ("packed", "empirical", "model")}
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


def summarize(
    reader: TokenReader,
    items_per_second: float,
    model: str,
    counts: Tensor | None = None,
    samples: int | None = None,
) -> Encoded:
    """What a token file holds, so that a resumed encode reports what an uninterrupted one would.

    Args:
        reader: of the file.
        items_per_second: of this command.
        model: that decodes it.
        counts: how often each code occurs; None counts over the whole file.
        samples: of all signals; None adds them up.
    """
    header = reader.header
    if counts is None:
        counts = functools.reduce(torch.add, (count_tokens(item.tokens, header.codebook_size) for item in reader))
    if samples is None:
        samples = sum(math.prod(record.signal_size) for record in reader.records)
    return Encoded(
        output=reader.path,
        items=len(reader),
        failed=list(reader.failed),
        tokens=int(counts.sum()),
        codebook_size=header.codebook_size,
        grid=reader.grid,
        dtype=str(header.dtype),
        entropy_bits_per_token=entropy_bits(counts),
        packed=compute_rate(packed_bits(counts), samples, header.sample_rate),
        empirical=compute_rate(empirical_bits(counts), samples, header.sample_rate),
        items_per_second=items_per_second,
        model=model,
    )
