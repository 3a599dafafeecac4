"""Residual quantization: each stage encodes what the stages before it left (SoundStream, arXiv 2107.03312).

latents -> codes of stage 1;  latents - those -> codes of stage 2;  ...;  their sum is what the decoder reads

So the first n tokens of a position are a coarser description of it, and one model serves as many rates as it has
stages. Any quantizer can be a stage. Scalar ones split a level further, as digits behind the point do. VP-VAE perturbs
what is left at every stage, and the codebooks are built afterwards, each from what those before it leave.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tokcli.contracts import CodebookReport, Quantized, Quantizer
from tokcli.distributed import sum_over_ranks, world_size
from tokcli.errors import ArgumentError, UsageError
from tokcli.progress import SILENT, Reporter
from tokcli.quantizers.base import in_float32
from tokcli.quantizers.composite import CompositeQuantizer, build_within, join_tokens, mean_stats, note_stage
from tokcli.quantizers.nearest import NearestCodeQuantizer
from tokcli.quantizers.ops import straight_through
from tokcli.schema import Count, NodeWithin, NotNegative, Share

SCALE_DECAY = 0.99
"""Of the moving mean square of what is left: the stages before it go on learning."""

SMALLEST_SCALE = 1e-6
"""Where nothing is left there is nothing to divide by."""


class ResidualQuantizer(CompositeQuantizer):
    """As many tokens per position as there are stages, each for what is left by those before it.

    Args:
        of: the quantizer of a stage: a kind and its arguments. From the second stage on, one with a normaliser or a
            prior does without, and what is left is brought to variance 1.
        depth: stages.
        shared: one learnt codebook serves all stages.
        dropout: share of a batch's items that training decodes from a random number of the first stages; without it,
            fewer stages than all are decoded worse than they could be.
        dim: channels of the latents, where each stage has a linear map of its own into its quantizer's width and one
            back (factorized codes, as DAC has them); None: the quantizer's own.
        loss_weights: of each stage's own loss, its commitment among it; None: 1 each. They are added up.
    """

    scales: Tensor
    steps_seen: Tensor

    def __init__(
        self,
        of: NodeWithin,
        depth: Count,
        shared: bool = False,
        dropout: Share = 0.0,
        dim: Count | None = None,
        loss_weights: list[NotNegative] | None = None,
    ) -> None:
        first = build_within(of)
        _refuse(first, str(of["kind"]), depth, shared, dim is not None, loss_weights)
        stages = [first]
        while len(stages) < depth and not shared:
            stages.append(stages[-1].make_next_stage() if dim is None else build_within(of))
        super().__init__(stages, depth, dropout)
        self.loss_weights = [1.0] * depth if loss_weights is None else loss_weights
        self.input_dim = first.input_dim if dim is None else dim
        self.dim = first.dim if dim is None else dim
        self.maps_in = self.maps_out = None
        if dim is not None:
            self.maps_in = nn.ModuleList([nn.Linear(dim, first.input_dim) for _ in range(depth)])
            self.maps_out = nn.ModuleList([nn.Linear(first.dim, dim) for _ in range(depth)])
        self.levels_fix_scales = dim is None and first.scale_of_rest() is not None
        self.scaled = self.levels_fix_scales or (dim is None and first.unit_latents)
        self.follows = self.scaled and not self.levels_fix_scales
        if self.scaled:
            self.register_buffer("scales", torch.ones(depth, self.dim))
            self._fix_scales()
        if self.follows:
            self.register_buffer("steps_seen", torch.zeros(()))

    @in_float32
    def forward(self, latents: Tensor) -> Quantized:
        """latents: (batch, *positions, input_dim) -> the sum of the stages' codes, their tokens, their losses' sum.

        The decoder's gradient passes through the last stage that an item is decoded from; where stages have maps,
        through all of them.
        """
        if not self.training:
            return self.infer(latents)
        points = self.points(latents)
        counts = self.draw_counts(len(latents), latents.device)
        outputs: list[Quantized] = []
        shown: list[Tensor] = []
        stats: dict[str, Tensor] = {}
        before, rest = points.new_zeros(()), points
        for number in range(self.count):
            stage, read = self.stage(number), self._read(number, rest, latents, follow=True)
            # The decoder sees the last stage alone, unless items are drawn that it sees fewer of.
            decoded = counts is not None or self.maps_out is not None or number == self.count - 1
            output = stage(read) if decoded else stage.forward_hidden(read)
            if decoded:
                branches = [before + self._write(number, each) for each in (output.latents, *output.alternatives)]
                shown = branches if counts is None or not shown else _choose(counts == number + 1, branches, shown)
            codes = self._write(number, self._pass_on(output))
            before = before + codes if number else codes
            rest = points - before
            stats[f"left_{number + 1}"] = rest.detach().square().mean()
            outputs.append(output)
        losses = [
            output.loss if weight == 1 else weight * output.loss
            for weight, output in zip(self.loss_weights, outputs, strict=True)
        ]
        return Quantized(
            latents=shown[0],
            tokens=join_tokens([output.tokens for output in outputs]),
            loss=functools.reduce(torch.add, losses),
            stats=mean_stats(outputs) | stats,
            alternatives=tuple(shown[1:]),
            codes=before.detach(),
        )

    @in_float32
    def quantize(self, latents: Tensor) -> Tensor:
        """latents: (..., input_dim) -> tokens: (..., groups). Raises UsageError before a codebook is built."""
        points, tokens = self.points(latents), []
        before = points.new_zeros(())
        for number in range(self.count):
            tokens.append(self.stage(number).quantize(self._read(number, points - before, latents)))
            before = before + self._write(number, self.stage(number).dequantize(tokens[-1]))
        return torch.cat(tokens, dim=-1)

    def decode_stages(self, tokens: Sequence[Tensor]) -> Tensor:
        """The tokens of the first stages -> the sum of their codes, (..., dim)."""
        codes = [self._write(number, self.stage(number).dequantize(each)) for number, each in enumerate(tokens)]
        return functools.reduce(torch.add, codes)

    def points(self, latents: Tensor) -> Tensor:
        """Those of the first stage; the latents themselves where stages have maps: (..., dim)."""
        return latents if self.maps_in is not None else self.stages[0].points(latents)

    def require_possible(self, size: int | None = None, evenness: float = 0.0) -> None:
        """As the stages, which keep their size where one takes apart a level of the one before it.

        Codes at any place have no cells of one shape.
        """
        super().require_possible(size, evenness)
        if size is not None and size != self.codebook_size and not self.any_size:
            raise UsageError(
                f"each stage divides a level of the one before, so it has its {self.codebook_size} codes and no other"
                f" number, got size {size}; leave the size out, or train with other levels"
            )

    @torch.no_grad()
    def build_codebook(
        self,
        latents: Tensor,
        size: int | None = None,
        *,
        evenness: float = 0.0,
        seed: int = 0,
        reporter: Reporter = SILENT,
    ) -> CodebookReport:
        """Build a codebook of `size` codes in each stage, in order, from what those before leave of the latents.

        Reports the error that all stages together leave, and the mean of their perplexities.

        Raises UsageError as the stages do.
        """
        self.require_possible(size, evenness)
        latents = latents.float()
        points, reports = self.points(latents), []
        before = points.new_zeros(())
        for number, stage in enumerate(self.require_builders()):
            read = self._read(number, points - before, latents)
            reports.append(stage.build_codebook(read, size, evenness=evenness, seed=seed + number, reporter=reporter))
            note_stage(reporter, "stage", number, self.count, reports[-1])
            before = before + self._write(number, stage.dequantize(stage.quantize(read)))
            self._fix_scales()
        error = (points - before).square().sum(dim=-1).mean()
        perplexity = sum(report.perplexity for report in reports) / len(reports)
        return CodebookReport(reports[0].size, float(error), perplexity, len(latents), evenness)

    @property
    def builds(self) -> bool:
        """Whether every stage can; one codebook that serves all of them comes from training alone."""
        return super().builds and not self.shared

    @property
    def any_size(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether every stage can have a codebook of any size, and none takes apart a level of the one before."""
        return super().any_size and not self.levels_fix_scales

    def codebook_tensors(self) -> dict[str, Tensor]:
        """Those of every stage, and the scales of what they read. Raises UsageError where there is none."""
        return super().codebook_tensors() | ({"scales": self.scales} if self.scaled else {})

    @property
    def training_only(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What is so in a stage, and for how long the scales have been followed."""
        return super().training_only | ({"steps_seen"} if self.follows else frozenset())

    def _read(self, number: int, rest: Tensor, latents: Tensor, follow: bool = False) -> Tensor:
        """What a stage, from 0 on, reads of the rest (..., dim) of these latents: (..., its input_dim)."""
        if self.maps_in is not None:
            return self.maps_in[number](rest)
        if number == 0:
            return latents
        if not self.scaled:
            return rest
        if follow and self.follows:
            self._follow(number, rest.detach())
        scale = self._scale(number)
        if self.input_dim == self.dim:
            return rest / scale
        # Means and log-variances: what is left of a mean is as uncertain as the mean was.
        return torch.cat([rest / scale, latents[..., self.dim :] - 2 * scale.log()], dim=-1)

    def _write(self, number: int, codes: Tensor) -> Tensor:
        """A stage's codes, from 0 on, as its part of the sum: (..., dim)."""
        if self.maps_out is not None:
            return self.maps_out[number](codes)
        return codes * self._scale(number) if number and self.scaled else codes

    def _scale(self, number: int) -> Tensor:
        """By what the rest that a stage, from 0 on, reads is divided: (dim,)."""
        # A copy: following what is left changes the scales of later stages before autograd has read those of earlier.
        return self.scales[number].clone() if self.follows else self.scales[number]

    def _pass_on(self, output: Quantized) -> Tensor:
        """The codes that a next stage leaves out; where stages have maps, with the gradient of what was decoded."""
        codes = output.latents if output.codes is None else output.codes
        return straight_through(output.latents, codes) if self.maps_in is not None else codes.detach()

    def _fix_scales(self) -> None:
        """The scales that follow from the stages' codes, where they do."""
        if self.follows or not self.scaled:
            return
        for number in range(1, self.count):
            scale = self.stages[number - 1].scale_of_rest()
            assert scale is not None
            self.scales[number] = self.scales[number - 1] * scale

    @torch.no_grad()
    def _follow(self, number: int, rest: Tensor) -> None:
        """Move a stage's scale towards the deviation from zero of what is left for it, of all ranks."""
        square = sum_over_ranks(rest.flatten(0, -2).square().mean(dim=0)) / world_size()
        if number == 1:
            self.steps_seen.add_(1)
        # A plain mean of the first steps, then a moving one.
        share = (1 / self.steps_seen).clamp_min(1 - SCALE_DECAY)
        self.scales[number] = torch.lerp(self.scales[number].square(), square, share).sqrt().clamp_min(SMALLEST_SCALE)


def _refuse(
    first: Quantizer, kind: str, depth: int, shared: bool, has_maps: bool, loss_weights: Sequence[float] | None
) -> None:
    """Raise ArgumentError for stages that cannot follow each other."""
    if loss_weights is not None and len(loss_weights) != depth:
        raise ArgumentError(f"loss_weights are of {depth} stages, one each; got {len(loss_weights)}")
    if isinstance(first, ResidualQuantizer):
        raise ArgumentError("stages of stages are stages: name the quantizer within, and as many as both have together")
    if shared and not isinstance(first, NearestCodeQuantizer):
        raise ArgumentError(f"shared: true is for codes that training learns, as those of vq; got '{kind}'")
    if first.arguments.get("cosine") and not has_maps:
        raise ArgumentError(
            "codes on a sphere are all of one length, and what is left becomes ever shorter; give the residual "
            "quantizer a dim, so that each stage has maps of its own, or leave cosine out"
        )


def _choose(chosen: Tensor, branches: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
    """Each branch (batch, *positions, dim) for the items that are chosen, (batch,) bool, and for the rest the other."""
    where = chosen.view(-1, *[1] * (branches[0].dim() - 1))
    return [torch.where(where, own, other) for own, other in zip(branches, others, strict=True)]
