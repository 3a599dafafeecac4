"""What residual and grouped quantizers share: stages, each a quantizer of the table, and a token of each at a position.

A codebook, a command or a file of such a quantizer is that of all its stages together; names in the state say whose.
"""

import contextlib
import functools
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tokcli.contracts import BuildsCodebook, CodebookReport, Quantized, Quantizer
from tokcli.errors import UsageError
from tokcli.progress import Reporter
from tokcli.schema import Count

T = TypeVar("T")


def build_within(node: Mapping[str, Any]) -> Quantizer:
    """The quantizer that a node names: of a recipe, where it has been checked, or a plain one."""
    from tokcli.quantizers import QUANTIZERS  # the table holds the composites too

    return QUANTIZERS.build(node, "of")


class CompositeQuantizer(BuildsCodebook):
    """A quantizer made of stages, whose tokens stand side by side in the groups axis, the first stage's first.

    Args:
        stages: quantizers alike; one alone where they share it.
        count: of the stages.
        dropout: share of a batch's items that training decodes from a random number of the first stages.

    Attributes:
        count: of the stages.
        groups_within: tokens of a stage at a position.
    """

    def __init__(self, stages: Sequence[Quantizer], count: Count, dropout: float) -> None:
        super().__init__()
        self.stages: Sequence[Quantizer] = nn.ModuleList(stages)  # pyright: ignore[reportAttributeAccessIssue]
        self.count = count
        self.dropout = dropout
        self.groups_within = stages[0].groups
        self.groups = count * self.groups_within

    def stage(self, number: int) -> Quantizer:
        """The quantizer of a stage, from 0 on; one may serve for all."""
        return self.stages[min(number, len(self.stages) - 1)]

    @property
    def shared(self) -> bool:
        """Whether one quantizer serves for all stages."""
        return len(self.stages) < self.count

    @abstractmethod
    def decode_stages(self, tokens: Sequence[Tensor]) -> Tensor:
        """The tokens (..., groups_within) of the first stages, in their order -> latents: (..., dim) float32."""

    @property
    def prefixes(self) -> tuple[int, ...]:
        """The groups of the first stage, of the first two, and so on."""
        return tuple(self.groups_within * number for number in range(1, self.count + 1))

    def dequantize(self, tokens: Tensor) -> Tensor:
        """tokens: (..., groups), or fewer of `prefixes` -> latents: (..., dim) float32.

        Raises:
            UsageError: before a codebook is built, or for a number of groups that is none of `prefixes`.
        """
        given = tokens.shape[-1]
        if given not in self.prefixes:
            known = ", ".join(map(str, self.prefixes))
            raise UsageError(f"tokens of {given} groups cannot be decoded; expected the first {known}")
        return self.decode_stages(tokens.split(self.groups_within, dim=-1))

    def draw_counts(self, batch: int, device: torch.device) -> Tensor | None:
        """How many of the first stages each of `batch` items is decoded from, (batch,); None: all of them."""
        if not (self.training and self.dropout):
            return None
        # Drawn on the host, where nothing waits for the device.
        drawn = torch.randint(1, self.count + 1, (batch,))
        return torch.where(torch.rand(batch) < self.dropout, drawn, self.count).to(device)

    # What every stage has a part in

    @property
    def codebook_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Codes of the codebook in use, equally many in each stage."""
        return self.stages[0].codebook_size

    @property
    def usual_cvu(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As that of a stage."""
        return self.stages[0].usual_cvu

    @property
    def latents_per_dim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Channels it reads for each that it hands on."""
        return self.input_dim // self.dim

    @property
    def unit_latents(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the first stage."""
        return self.stages[0].unit_latents

    @property
    def training_only(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What is so in a stage."""
        return frozenset(self._of_stages(lambda stage: dict.fromkeys(stage.training_only)))

    @property
    def any_size(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether every stage can have a codebook of any size."""
        return self.builds and all(isinstance(stage, BuildsCodebook) and stage.any_size for stage in self.stages)

    @property
    def builds(self) -> bool:
        """Whether every stage can build a codebook."""
        return all(isinstance(stage, BuildsCodebook) and stage.builds for stage in self.stages)

    @property
    def codebook_ready(self) -> bool:
        """Whether every stage has tokens."""
        return all(stage.codebook_ready for stage in self.stages)

    @property
    def codebooks(self) -> tuple[int, ...]:
        """The sizes that every stage has, increasing."""
        held = [set(stage.codebooks) for stage in self.stages]
        return tuple(sorted(functools.reduce(set.intersection, held)))

    def codebook_tensors(self) -> dict[str, Tensor]:
        """Those of every stage. Raises UsageError where there is none."""
        return self._of_stages(lambda stage: stage.codebook_tensors())

    def codebook_parameters(self) -> frozenset[str]:
        """Those of every stage."""
        return frozenset(self._of_stages(lambda stage: dict.fromkeys(stage.codebook_parameters())))

    def use_codebook(self, size: int) -> None:
        """Make every stage use its codebook of `size` codes. Raises UsageError where there is none."""
        if size not in self.codebooks:
            have = ", ".join(map(str, self.codebooks)) or "none"
            raise UsageError(
                f"there is no codebook of {size} codes in every stage (built: {have}); run: tok build-codebook"
            )
        for stage in self.stages:
            if isinstance(stage, BuildsCodebook):
                stage.use_codebook(size)

    def advice_for_uneven_use(self) -> str:
        """A stage's advice, with the places of its arguments."""
        return re.sub(r"\bquantizer\.", "quantizer.of.", self.stages[0].advice_for_uneven_use())

    @contextlib.contextmanager
    def provisional_codebook(self) -> Iterator[None]:
        """A provisional codebook in every stage that has no other; leaves no trace."""
        with contextlib.ExitStack() as contexts:
            for stage in self.stages:
                if not stage.codebook_ready:
                    contexts.enter_context(stage.provisional_codebook())
            yield

    def infer(self, latents: Tensor) -> Quantized:
        """What `forward` gives in eval mode: the codes, or what they would stand for while there are none."""
        nothing = latents.new_zeros(())
        if not self.codebook_ready:
            return Quantized(self.points(latents), tokens=None, loss=nothing)
        tokens = self.quantize(latents)
        return Quantized(self.dequantize(tokens), tokens, loss=nothing)

    def require_possible(self, size: int | None = None, evenness: float = 0.0) -> None:
        """As each stage."""
        for stage in self.require_builders():
            stage.require_possible(size, evenness)

    def require_builders(self) -> list[BuildsCodebook]:
        """The stages, which build codebooks. Raises UsageError where they have theirs from training."""
        builders = [stage for stage in self.stages if isinstance(stage, BuildsCodebook)]
        if not self.builds or len(builders) < len(self.stages):
            raise UsageError(
                f"the codebooks of {self.codebook_size} codes of this quantizer's stages come from training; there is "
                "nothing to build"
            )
        return builders

    def _of_stages(self, tell: Callable[[Quantizer], Mapping[str, T]]) -> dict[str, T]:
        """What each stage tells by the names of its state, by the names of this one's."""
        return {
            f"stages.{number}.{name}": value
            for number, stage in enumerate(self.stages)
            for name, value in tell(stage).items()
        }


def mean_stats(outputs: Sequence[Quantized]) -> dict[str, Tensor]:
    """What the stages say of themselves: means over the stages that say it."""
    names = dict.fromkeys(name for output in outputs for name in output.stats)
    told = {name: [output.stats[name] for output in outputs if name in output.stats] for name in names}
    return {name: torch.stack(values).mean() for name, values in told.items()}


def join_tokens(tokens: Sequence[Tensor | None]) -> Tensor | None:
    """Tokens (..., groups_within) of the stages side by side; None where one stage has none."""
    known = [each for each in tokens if each is not None]
    return torch.cat(known, dim=-1) if len(known) == len(tokens) else None


def note_stage(reporter: Reporter, word: str, number: int, count: int, report: CodebookReport) -> None:
    """Say how well the codebook of a stage, from 0 on, fits what it was built from."""
    reporter.note(
        f"{word} {number + 1} of {count}: {report.size} codes, mse {report.mse:.4g}, perplexity {report.perplexity:.4g}"
    )
