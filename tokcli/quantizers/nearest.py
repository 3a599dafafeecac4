"""Quantizers whose token is the nearest code: learnt in training, built after it, or first one and then the other."""

import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokcli.contracts import BuildsCodebook, CodebookReport, Quantized
from tokcli.errors import UsageError
from tokcli.progress import SILENT, Reporter
from tokcli.quantizers.base import HostMirror, in_float32
from tokcli.quantizers.evenness import weigh_latents
from tokcli.quantizers.kmeans import KMeansResult, kmeans
from tokcli.quantizers.ops import GRADIENTS, GradientName, perplexity
from tokcli.schema import Codes, Count, NotNegative
from tokcli.search import CodeIndex, nearest_code

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
        self._size_used.keep(0, self.used)  # known without looking, be it on a device that holds no values
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


class RebuiltCodebooks(BuiltCodebooks):
    """Codebooks built for a quantizer that has learnt one; its state is empty until there are any."""

    def use_none(self) -> None:
        """Back to the learnt codebook."""
        self.used.fill_(0)
        self._size_used.keep(0, self.used)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self.sizes:
            super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        *more: Any,
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, *more)
        if not self.sizes:
            missing_keys[:] = [key for key in missing_keys if key != f"{prefix}used"]


def fit_codes(latents: Tensor, size: int, evenness: float, seed: int, reporter: Reporter) -> KMeansResult:
    """`size` codes fitted to latents (count, dim) by k-means, which weighs them for `evenness`.

    Raises:
        UsageError: for fewer latents than codes, or for latents that are not finite.
    """
    if len(latents) < size:
        raise UsageError(
            f"{size} codes cannot be fitted to {len(latents)} latents; give more data, more --samples, or a smaller"
            " --size"
        )
    if not bool(latents.isfinite().all()):
        raise UsageError("some latents are not finite: the encoder has diverged; use an earlier artifact")
    weights = weigh_latents(latents, size, evenness, seed)
    return kmeans(latents, size, weights=weights, seed=seed, reporter=reporter)


def report_fit(fit: KMeansResult, evenness: float) -> CodebookReport:
    """What k-means has to say of its codes."""
    samples = int(fit.counts.sum())
    return CodebookReport(len(fit.centres), fit.mse, float(perplexity(fit.counts.double())), samples, evenness)


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
        self,
        latents: Tensor,
        size: int | None = None,
        *,
        evenness: float = 0.0,
        seed: int = 0,
        reporter: Reporter = SILENT,
    ) -> CodebookReport:
        """Fit `size` codes (None: those that training stood for) to latents (count, dim) by k-means, and use them.

        Raises UsageError as declared.
        """
        self.require_possible(size, evenness)
        fit = fit_codes(latents, self.nominal_size if size is None else size, evenness, seed, reporter)
        self.built.add(fit.centres)
        return report_fit(fit, evenness)

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


class NearestCodeQuantizer(BuildsCodebook):
    """The token of a latent is the nearest of the codes that training learnt, or of a codebook built afterwards.

    A built codebook serves inference alone: training goes on with the learnt one. One of the learnt size takes its
    place.

    Args:
        dim: channels of a code.
        codebook_size: number of codes that are learnt, K.
        commitment: weight of the pull of latents towards their codes.
        codebook_weight: weight of the pull of codes towards their latents.
        gradient: what the decoder reads in training and how its gradient reaches the encoder.
    """

    def __init__(
        self,
        dim: Count,
        codebook_size: Codes,
        commitment: NotNegative = 0.25,
        codebook_weight: NotNegative = 1.0,
        gradient: GradientName = "straight-through",
    ) -> None:
        super().__init__()
        self.input_dim = self.dim = dim
        self.groups = 1
        self.learnt_size = codebook_size
        self.commitment = commitment
        self.codebook_weight = codebook_weight
        self.gradient: GradientName = gradient
        self.rebuilt = RebuiltCodebooks(dim)

    @abstractmethod
    def codes(self) -> Tensor:
        """The learnt codes: (learnt_size, dim) float32."""

    @abstractmethod
    def learnt_tensors(self) -> dict[str, Tensor]:
        """What the learnt codes are made of, by state_dict name."""

    def points(self, latents: Tensor) -> Tensor:
        """What of the latents (..., input_dim) is compared with the codes: (..., dim)."""
        return latents

    def place_codes(self, codes: Tensor) -> Tensor:
        """Means of points (size, dim) as codes, where codes lie in a part of the space alone."""
        return codes

    @property
    def codebook_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Codes of the codebook in use."""
        return len(self.rebuilt.codes) if self.rebuilt.ready else self.learnt_size

    @property
    def codebook_ready(self) -> bool:
        """Always."""
        return True

    @property
    def codebooks(self) -> tuple[int, ...]:
        """The learnt size and those built, increasing."""
        return tuple(sorted({self.learnt_size, *self.rebuilt.sizes}))

    @in_float32
    def quantize(self, latents: Tensor) -> Tensor:
        """latents: (..., input_dim) -> tokens: (..., 1)."""
        points = self.points(latents)
        if self.rebuilt.ready:
            return self.rebuilt.nearest(points.flatten(0, -2)).view(*points.shape[:-1], 1)
        return nearest_tokens(points, self.codes())

    def dequantize(self, tokens: Tensor) -> Tensor:
        """tokens: (..., 1) int64 -> codes: (..., dim) float32."""
        return F.embedding(tokens.squeeze(-1), self.rebuilt.codes if self.rebuilt.ready else self.codes())

    def codebook_tensors(self) -> dict[str, Tensor]:
        """The codebook in use."""
        return self.rebuilt.tensors_used("rebuilt.") if self.rebuilt.ready else self.learnt_tensors()

    def codebook_parameters(self) -> frozenset[str]:
        """The learnt codebook's, whichever is in use."""
        return frozenset(self.learnt_tensors())

    def build_codebook(
        self,
        latents: Tensor,
        size: int | None = None,
        *,
        evenness: float = 0.0,
        seed: int = 0,
        reporter: Reporter = SILENT,
    ) -> CodebookReport:
        """Fit `size` codes (None: as many as were learnt) to latents (count, input_dim) by k-means, and use them.

        Raises UsageError as declared.
        """
        self.require_possible(size, evenness)
        points = self.points(latents.float())
        fit = fit_codes(points, self.learnt_size if size is None else size, evenness, seed, reporter)
        self.rebuilt.add(self.place_codes(fit.centres))
        return report_fit(fit, evenness)

    def nearest_codes(self, latents: Tensor) -> Quantized:
        """What inference makes of latents (..., input_dim) with the codebook in use."""
        tokens = self.quantize(latents)
        return Quantized(self.dequantize(tokens), tokens, loss=latents.new_zeros(()))

    def use_codebook(self, size: int) -> None:
        """Make the codebook of `size` codes the one in use. Raises UsageError where there is none."""
        if size == self.learnt_size and size not in self.rebuilt.sizes:
            self.rebuilt.use_none()
        else:
            self.rebuilt.use(size)

    def pass_gradient(self, points: Tensor, quantized: Tensor) -> Tensor:
        """What the decoder reads: the codes, or in training what the rule `gradient` makes of them; both (..., dim)."""
        return GRADIENTS[self.gradient if self.training else "straight-through"](points, quantized)

    def alignment(self, points: Tensor, quantized: Tensor) -> Tensor:
        """The loss of VQ: codebook_weight·‖sg(z) − e‖² + commitment·‖z − sg(e)‖², as means over elements.

        Args:
            points: z, (..., dim).
            quantized: e, the code of each, (..., dim).

        Returns:
            A scalar.
        """
        code_term = self.codebook_weight * F.mse_loss(quantized, points.detach())
        return code_term + self.commitment * F.mse_loss(points, quantized.detach())


def nearest_tokens(points: Tensor, codes: Tensor) -> Tensor:
    """points: (..., dim), codes: (size, dim) -> tokens: (..., 1)."""
    return nearest_code(points.flatten(0, -2), codes).view(*points.shape[:-1], 1)
