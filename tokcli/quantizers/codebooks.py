"""Where codes come from: Lloyd–Max levels, codebooks built after training, k-means starts and restarts in training."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokcli.contracts import BuildsCodebook, CodebookReport, Quantized
from tokcli.distributed import copy_from_first_rank, gather_rows, smallest_over_ranks, world_size
from tokcli.errors import UsageError
from tokcli.progress import SILENT, Reporter
from tokcli.quantizers.base import HostMirror, in_float32
from tokcli.quantizers.kmeans import kmeans
from tokcli.quantizers.ops import perplexity
from tokcli.search import CodeIndex

# Codebooks that are built after training


class BuiltCodebooks(nn.Module):
    """Codebooks of several sizes in one quantizer, one of them in use. A loaded state brings its own sizes with it.

    Args:
        dim: channels of a code.

    Attributes:
        used: the size in use, or 0; its codes are the buffer `size_K`, (K, dim).
    """

    used: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("used", torch.zeros((), dtype=torch.int64))
        self._size_used = HostMirror(int)
        self._index = HostMirror(CodeIndex)
        self._provisional: Tensor | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes built, increasing."""
        return tuple(sorted(int(name.removeprefix("size_")) for name in self._buffers if name != "used"))

    @property
    def ready(self) -> bool:
        """Whether there are codes to use, be they provisional."""
        return self._provisional is not None or self._size_used.read(self.used) > 0

    @property
    def codes(self) -> Tensor:
        """The codes in use, (size, dim). Raises UsageError where there are none."""
        if self._provisional is not None:
            return self._provisional
        (codes,) = self.tensors_used().values()
        return codes

    def tensors_used(self, prefix: str = "") -> dict[str, Tensor]:
        """The built codes in use by their name in the state. Raises UsageError where none were built."""
        size = self._size_used.read(self.used)
        if not size:
            raise UsageError("this tokenizer has no codebook yet; run: tok build-codebook")
        return {f"{prefix}size_{size}": self.get_buffer(f"size_{size}")}

    def add(self, codes: Tensor) -> None:
        """Keep codes (size, dim) in place of any of the same size, and use them."""
        self.register_buffer(f"size_{len(codes)}", codes.detach().clone().to(self.used.device))
        self.use(len(codes))

    def use(self, size: int) -> None:
        """Raises UsageError where no codebook of this size was built."""
        if size not in self.sizes:
            have = ", ".join(map(str, self.sizes)) or "none"
            raise UsageError(
                f"there is no codebook of {size} codes (built: {have}); run: tok build-codebook --size {size}"
            )
        self.used.fill_(size)
        self._size_used.keep(size, self.used)

    def use_provisional(self, codes: Tensor | None) -> None:
        """Codes (size, dim) that no state_dict knows, until None takes them away."""
        self._provisional = codes

    def nearest(self, latents: Tensor) -> Tensor:
        """latents: (count, dim) -> (count,) int64. The index is kept while the codes stay the same."""
        return self._index.read(self.codes).nearest(latents)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any, **named: Any) -> None:
        for key in state_dict:
            if match := re.fullmatch(re.escape(prefix) + r"(size_(\d+))", key):
                name, size = match[1], int(match[2])
                if name not in self._buffers:
                    self.register_buffer(name, torch.zeros(size, self.dim, device=self.used.device))
        super()._load_from_state_dict(state_dict, prefix, *arguments, **named)


class BuiltCodebookQuantizer(BuildsCodebook):
    """The token of a latent is its nearest code, in a codebook of any size built by k-means after training.

    Args:
        dim: channels of a latent.
        codebook_size: the K that training stands for, built where no size is asked for.
    """

    def __init__(self, dim: int, codebook_size: int) -> None:
        super().__init__()
        self.input_dim = self.dim = dim
        self.groups = 1
        self.nominal_size = codebook_size
        self.built = BuiltCodebooks(dim)

    @property
    def codebook_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Codes of the codebook in use; before there is one, the K that training stands for."""
        return len(self.built.codes) if self.built.ready else self.nominal_size

    @property
    def codebook_ready(self) -> bool:
        """Whether there are codes, so that there are tokens."""
        return self.built.ready

    @property
    def codebooks(self) -> tuple[int, ...]:
        """Sizes of the codebooks built, increasing."""
        return self.built.sizes

    @in_float32
    def quantize(self, latents: Tensor) -> Tensor:
        """latents: (..., dim) -> tokens: (..., 1). Raises UsageError before a codebook is built."""
        return self.built.nearest(latents.flatten(0, -2)).view(*latents.shape[:-1], 1)

    def dequantize(self, tokens: Tensor) -> Tensor:
        """tokens: (..., 1) int64 -> codes: (..., dim) float32. Raises UsageError before a codebook is built."""
        return F.embedding(tokens.squeeze(-1), self.built.codes)

    def codebook_tensors(self) -> dict[str, Tensor]:
        """The codebook in use. Raises UsageError where there is none."""
        return self.built.tensors_used("built.")

    def build_codebook(
        self, latents: Tensor, size: int | None = None, *, seed: int = 0, reporter: Reporter = SILENT
    ) -> CodebookReport:
        """Fit `size` codes (None: those that training stood for) to latents (count, dim) by k-means, and use them.

        Raises UsageError for fewer than two codes, for fewer latents than codes, or for latents that are not finite.
        """
        size = self.nominal_size if size is None else size
        if size < 2:
            raise UsageError(f"a codebook needs at least 2 codes, got --size {size}")
        if len(latents) < size:
            raise UsageError(
                f"{size} codes cannot be fitted to {len(latents)} latents; give more data, more --samples, or a smaller"
                " --size"
            )
        if not bool(latents.isfinite().all()):
            raise UsageError("some latents are not finite: the encoder has diverged; use an earlier artifact")
        result = kmeans(latents, size, seed=seed, reporter=reporter)
        self.built.add(result.centres)
        return CodebookReport(size, result.mse, float(perplexity(result.counts.double())), len(latents))

    def use_codebook(self, size: int) -> None:
        """Make the built codebook of `size` codes the one in use. Raises UsageError where there is none."""
        self.built.use(size)

    def advice_for_uneven_use(self) -> str:
        """Another size needs no training."""
        return "build a smaller codebook: tok build-codebook --size"

    def nearest_codes(self, latents: Tensor) -> Quantized:
        """What inference makes of latents (batch, *positions, dim); they themselves while there is no codebook."""
        nothing = latents.new_zeros(())
        if not self.codebook_ready:
            return Quantized(latents, tokens=None, loss=nothing)
        tokens = self.quantize(latents)
        return Quantized(self.dequantize(tokens), tokens, loss=nothing)


# Lloyd–Max: the levels of a scalar quantizer that waste least on a given distribution

ITERATIONS = 1000
TOLERANCE = 1e-9


def lloyd_max(samples: Tensor, count: int) -> Tensor:
    """The `count` levels with the least squared error on the samples (Lloyd 1982, Max 1960).

    Thresholds lie midway between levels, a level is the mean of its cell; alternate until neither moves. On sorted
    samples with running sums an iteration costs one binary search per level, whatever their number. It starts from
    uniform levels and from quantiles and keeps the better end; nothing in it is random.

    Args:
        samples: (number,) in [0, 1].
        count: of levels.

    Returns:
        The levels in increasing order, (count,) float64.
    """
    ordered = samples.double().sort().values
    fractions = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    ends = [_descend(ordered, fractions)]
    quantiles = ordered[(fractions * len(ordered)).long()]
    if torch.all(quantiles.diff() > 0):
        ends.append(_descend(ordered, quantiles))
    return min(ends, key=lambda end: end[1])[0]


def thresholds_between(levels: Tensor) -> Tensor:
    """levels: (count,) increasing -> the borders of their cells, (count − 1,)."""
    return (levels[1:] + levels[:-1]) / 2


def _descend(ordered: Tensor, levels: Tensor) -> tuple[Tensor, float]:
    """Iterate from `levels`; returns the levels and the squared error summed over samples."""
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    energy = float(ordered.square().sum())
    error = float("inf")
    for _ in range(ITERATIONS):
        borders = torch.searchsorted(ordered, thresholds_between(levels))
        borders = torch.cat([borders.new_zeros(1), borders, borders.new_tensor([len(ordered)])])
        counts, totals = borders.diff(), sums[borders].diff()
        # A cell without samples keeps its level, which lies between its own thresholds.
        levels = torch.where(counts > 0, totals / counts.clamp_min(1), levels)
        previous, error = error, energy - float((totals * levels).sum())
        if previous - error <= TOLERANCE * energy:
            break
    return levels, error


# Codes taken from a training batch: a k-means start for a codebook, new values for codes that nothing uses

START_ITERATIONS = 10
"""Passes of a start. The codes go on moving while training, so a rough fit is enough."""


@dataclass(frozen=True)
class Draw:
    """Random latents of the batch, the same on every rank.

    Attributes:
        rows: (count, dim).
        fresh: (count,) bool, False where a row repeats an earlier one because the batch has too few.
    """

    rows: Tensor
    fresh: Tensor


def draw_latents(latents: Tensor, count: int) -> Draw:
    """`count` of the latents (number, dim) of all ranks, without replacement, an equal share from each rank."""
    share = -(-count // world_size())
    slots = torch.arange(share, device=latents.device)
    order = torch.randperm(len(latents), device=latents.device)
    rows = gather_rows(latents[order[slots % len(latents)]])
    fresh = gather_rows((slots < len(latents)).to(torch.uint8)).bool()
    return Draw(rows[:count], fresh[:count])


def start_codes(latents: Tensor, size: int) -> Tensor:
    """`size` codes, (size, dim), from a few iterations of k-means on the latents (number, dim) of all ranks.

    Waits for the device: for the first step only.

    Raises:
        UsageError: where there are fewer latents than codes.
    """
    latents = draw_latents(latents, smallest_over_ranks(len(latents), latents.device) * world_size()).rows
    if len(latents) < size:
        raise UsageError(
            f"a k-means start for {size} codes needs as many latents in the first batch, got {len(latents)};"
            " enlarge the batch or the crop, or set kmeans_start: false"
        )
    seed = int(torch.randint(2**31, ()))
    return copy_from_first_rank(kmeans(latents, size, seed=seed, max_iterations=START_ITERATIONS).centres)


def replace_codes(codebook: Tensor, dead: Tensor, latents: Tensor) -> Tensor:
    """Put a random latent of the batch in place of each dead code.

    Where there are more dead codes than latents, the rest wait: two equal codes would always stay equal.

    Args:
        codebook: (size, dim), changed in place.
        dead: (size,) bool, the same on all ranks.
        latents: (number, dim), of this rank.

    Returns:
        Which codes were replaced, (size,) bool.
    """
    draw = draw_latents(latents, len(codebook))
    rank_among_dead = (dead.cumsum(0) - 1).clamp_min(0)
    replaced = dead & draw.fresh[rank_among_dead]
    codebook.copy_(torch.where(replaced.unsqueeze(-1), draw.rows[rank_among_dead], codebook))
    return replaced
