"""Grouped (product) quantization: the channels of a latent in equal parts, each with a quantizer of its own.

K codes in each of G groups make K^G combinations, at the cost of G searches among K (Jégou 2011, product quantization).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tokcli.contracts import CodebookReport, Quantized, Quantizer
from tokcli.progress import SILENT, Reporter
from tokcli.quantizers.base import in_float32
from tokcli.quantizers.composite import CompositeQuantizer, build_within, join_tokens, mean_stats, note_stage
from tokcli.schema import Count, NodeWithin, Share


class GroupedQuantizer(CompositeQuantizer):
    """As many tokens per position as there are groups of channels, one from each.

    The first n groups can be decoded alone, the channels of the others being zero.

    Args:
        of: the quantizer of a group: a kind and its arguments; its width is a group's.
        groups: equal parts of the channels.
        shared: one quantizer serves all groups, so they have one codebook.
        dropout: share of a batch's items that training decodes from a random number of the first groups.
    """

    def __init__(self, of: NodeWithin, groups: Count, shared: bool = False, dropout: Share = 0.0) -> None:
        stages = [build_within(of) for _ in range(1 if shared else groups)]
        super().__init__(stages, groups, dropout)
        self.input_dim = groups * stages[0].input_dim
        self.dim = groups * stages[0].dim

    @in_float32
    def forward(self, latents: Tensor) -> Quantized:
        """latents: (batch, *positions, input_dim) -> what the groups give, side by side; the mean of their losses."""
        if not self.training:
            return self.infer(latents)
        outputs: list[Quantized] = [stage(part) for stage, part in zip(self.stages, self._split(latents), strict=True)]
        tokens = [None if output.tokens is None else output.tokens.flatten(latents.dim() - 1) for output in outputs]
        codes = [output.latents if output.codes is None else output.codes for output in outputs]
        shown = self._mask(latents)
        branches = zip(*((output.latents, *output.alternatives) for output in outputs), strict=True)
        decoded = [self._join(list(parts)) * shown for parts in branches]
        return Quantized(
            latents=decoded[0],
            tokens=join_tokens(tokens),
            loss=torch.stack([output.loss for output in outputs]).mean(),
            stats=mean_stats(outputs),
            alternatives=tuple(decoded[1:]),
            codes=self._join(codes).detach(),
        )

    @in_float32
    def quantize(self, latents: Tensor) -> Tensor:
        """latents: (..., input_dim) -> tokens: (..., groups). Raises UsageError before a codebook is built."""
        pairs = zip(self.stages, self._split(latents), strict=True)
        return torch.cat([stage.quantize(part).flatten(latents.dim() - 1) for stage, part in pairs], dim=-1)

    def decode_stages(self, tokens: Sequence[Tensor]) -> Tensor:
        """The tokens of the first groups -> latents (..., dim), zero in the others."""
        latents = torch.cat([self.stage(number).dequantize(each) for number, each in enumerate(tokens)], dim=-1)
        return torch.nn.functional.pad(latents, (0, self.dim - latents.shape[-1]))

    def points(self, latents: Tensor) -> Tensor:
        """Those of the groups, side by side: (..., dim)."""
        return self._join([s.points(part) for s, part in zip(self.stages, self._split(latents), strict=True)])

    def scale_of_rest(self) -> Tensor | None:
        """Those of the groups, side by side, where each tells its own."""
        scales = [self.stage(number).scale_of_rest() for number in range(self.count)]
        known = [scale for scale in scales if scale is not None]
        return torch.cat(known) if len(known) == len(scales) else None

    def make_next_stage(self) -> Quantizer:
        """Groups of next stages."""
        made = GroupedQuantizer(**self.arguments)
        made.stages = torch.nn.ModuleList(stage.make_next_stage() for stage in self.stages)  # pyright: ignore[reportAttributeAccessIssue]
        return made

    def build_codebook(
        self,
        latents: Tensor,
        size: int | None = None,
        *,
        evenness: float = 0.0,
        seed: int = 0,
        reporter: Reporter = SILENT,
    ) -> CodebookReport:
        """Build a codebook of `size` codes in each group from latents (count, input_dim).

        Reports the error of all groups together, and the mean of their perplexities. Raises UsageError as they do.
        """
        reports = []
        for number, (stage, part) in enumerate(zip(self.require_builders(), self._split(latents.float()), strict=True)):
            rows = part.flatten(0, -2)
            reports.append(stage.build_codebook(rows, size, evenness=evenness, seed=seed + number, reporter=reporter))
            note_stage(reporter, "group", number, len(self.stages), reports[-1])
        error = (self.points(latents.float()) - self.dequantize(self.quantize(latents))).square().sum(dim=-1).mean()
        perplexity = math.fsum(report.perplexity for report in reports) / len(reports)
        return CodebookReport(reports[0].size, float(error), perplexity, len(latents), evenness)

    def _split(self, latents: Tensor) -> list[Tensor]:
        """latents: (..., input_dim) -> what each of `stages` reads, (..., its input_dim).

        Where one serves all groups, these are one more position. Where channels are means and then log-variances, a
        group has its share of each.
        """
        halves = latents.unflatten(-1, (self.input_dim // self.dim, self.count, -1))
        parts = halves.transpose(-2, -3).flatten(-2)
        return [parts] if self.shared else list(parts.unbind(-2))

    def _join(self, parts: list[Tensor]) -> Tensor:
        """What `_split` gave, of `dim` channels in all: (..., dim)."""
        return parts[0].flatten(-2) if self.shared else torch.cat(parts, dim=-1)

    def _mask(self, latents: Tensor) -> Tensor | float:
        """1 where a channel is decoded and 0 in the groups that an item does without, (batch, 1..., dim)."""
        counts = self.draw_counts(len(latents), latents.device)
        if counts is None:
            return 1.0
        group = torch.arange(self.dim, device=latents.device) // (self.dim // self.count)
        mask = (group < counts.unsqueeze(-1)).float()
        return mask.view(len(latents), *[1] * (latents.dim() - 2), self.dim)
