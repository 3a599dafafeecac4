"""What every quantizer promises, checked on every quantizer. A new one needs a line in EXAMPLES."""

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from meta_device import META, meta_device, move, require_there
from torch import Tensor

from tokcli.contracts import BuildsCodebook, Quantizer
from tokcli.errors import TokError
from tokcli.quantizers import QUANTIZERS
from tokcli.quantizers.base import ScalarGrid


@dataclass(frozen=True)
class Example:
    """A small quantizer. `size`: of the codebook to build, for a kind that has none while it trains."""

    kind: str
    arguments: dict[str, Any] = field(default_factory=dict)
    size: int | None = None

    def build(self) -> Quantizer:
        torch.manual_seed(7)
        return QUANTIZERS.build({"kind": self.kind, **self.arguments})

    def ready(self) -> Quantizer:
        """Trained for a few steps, with a codebook, in inference mode."""
        quantizer = self.build()
        train(quantizer, steps=3)
        if self.size is not None:
            quantizer.build_codebook(latents_for(quantizer), self.size)
        return quantizer.eval()


WITHIN: list[tuple["Example", dict[str, Any]]] = [
    (Example("vq", {"dim": 3, "codebook_size": 20, "kmeans_start": True, "ema": True, "restart_below": 0.5}), {}),
    (Example("vq", {"dim": 3, "codebook_size": 20, "gradient": "noise"}), {"dropout": 0.5, "shared": True}),
    (Example("simvq", {"dim": 3, "codebook_size": 20, "gradient": "rotation"}), {"dropout": 1.0}),
    (Example("fsq", {"levels": [4, 5, 3]}), {}),
    (Example("fsq", {"levels": [4, 5, 2], "variant": "symmetric", "noise": 0.5, "edges": "full"}), {"dropout": 0.5}),
    (Example("fsp", {"levels": [4, 3]}), {"dropout": 0.5}),
    (Example("tokenbridge", {"dim": 3, "bins": 4}, size=64), {"dropout": 0.5}),
    (Example("tokenbridge", {"dim": 8, "bins": 16}, size=16), {}),
    (Example("vpvae", {"dim": 3, "codebook_size": 20}, size=20), {"dropout": 0.5}),
    (Example("nsvq", {"dim": 3, "codebook_size": 20, "sizes": [20, 40]}, size=20), {}),
    (Example("vaevq", {"dim": 3, "codebook_size": 20}), {"dropout": 0.5}),
    (Example("vaevq", {"dim": 3, "codebook_size": 20, "gradient": "noise"}), {"dropout": 0.5}),
]
"""What stands within another, and what that one is given besides."""

EXAMPLES = [
    Example("vq", {"dim": 3, "codebook_size": 20}),
    Example("vq", {"dim": 3, "codebook_size": 20, "ema": True, "restart_below": 0.5, "kmeans_start": True}),
    Example("vq", {"dim": 3, "codebook_size": 20, "cosine": True, "gradient": "rotation", "restart_below": 0.5}),
    Example("vq", {"dim": 3, "codebook_size": 20, "ema": True, "gradient": "noise", "restart_below": 0.5}),
    Example("simvq", {"dim": 3, "codebook_size": 20}),
    Example("simvq", {"dim": 3, "codebook_size": 20, "gradient": "noise"}),
    Example("simvq", {"dim": 3, "codebook_size": 20, "hidden": 8, "gradient": "rotation"}),
    Example("fsq", {"levels": [4, 5, 3]}),
    Example("fsq", {"levels": [4, 5, 2], "variant": "symmetric", "noise": 0.5}),
    Example("fsp", {"levels": [4, 5, 2]}),
    Example("fsp", {"levels": [4, 3], "activation": "cauchy", "decode": "inverse"}),
    Example("tokenbridge", {"dim": 3, "bins": 4}, size=64),
    Example("tokenbridge", {"dim": 8, "bins": 16}, size=16),
    Example("vpvae", {"dim": 3, "codebook_size": 20}, size=20),
    Example("vpvae", {"dim": 3, "codebook_size": 20, "eta": "calibrated", "queue_fraction": 0.9}, size=30),
    Example("vpvae", {"dim": 9, "codebook_size": 20, "accept": False, "transitions": 2}, size=20),
    Example("nsvq", {"dim": 3, "codebook_size": 20}, size=20),
    Example("nsvq", {"dim": 3, "codebook_size": 20, "sizes": [20, 40], "turnover": 1.0}, size=30),
    Example("vaevq", {"dim": 3, "codebook_size": 20}),
    Example("vaevq", {"dim": 3, "codebook_size": 20, "coherence": "tempered", "dcr_target": "latents"}),
    Example("vaevq", {"dim": 3, "codebook_size": 20, "coherence": "attached", "rcs_mean_share": 0.25}),
    Example("vaevq", {"dim": 3, "codebook_size": 20, "gradient": "noise"}),
    Example("vaevq", {"dim": 3, "codebook_size": 20, "query": "mean", "vq_weight": 1.0, "rcs_weight": 0.0}),
    *(Example("residual", {"of": {"kind": e.kind, **e.arguments}, "depth": 3, **more}, e.size) for e, more in WITHIN),
    *(Example("grouped", {"of": {"kind": e.kind, **e.arguments}, "groups": 2}, e.size) for e, _ in WITHIN),
    Example("grouped", {"of": {"kind": "vpvae", "dim": 3, "codebook_size": 20}, "groups": 2, "shared": True}, 20),
    Example("grouped", {"of": {"kind": "vaevq", "dim": 2, "codebook_size": 20}, "groups": 3, "shared": True}),
    Example("residual", {"of": {"kind": "grouped", "of": {"kind": "fsp", "levels": [5]}, "groups": 2}, "depth": 2}),
    Example("residual", {"of": {"kind": "vq", "dim": 3, "codebook_size": 20, "cosine": True}, "depth": 2, "dim": 6}),
]


def latents_for(quantizer: Quantizer, count: int = 20_000) -> Tensor:
    """Latents (count, input_dim) of all magnitudes, so that each token of a small codebook gets some."""
    generator = torch.Generator().manual_seed(1)
    scale = 10 ** (2.5 * torch.rand(count, 1, generator=generator) - 2)
    return scale * torch.randn(count, quantizer.input_dim, generator=generator)


def train(quantizer: Quantizer, steps: int, first: int = 0) -> list[Tensor]:
    """A few steps of descent on a decoder's error, seeded by step as the training loop does it; the losses."""
    quantizer.train()
    losses = []
    for step in range(first, first + steps):
        torch.manual_seed(100 + step)
        output = quantizer(torch.randn(4, 32, quantizer.input_dim, requires_grad=True))
        loss = output.loss + (output.latents - 1).square().mean()
        for alternative in output.alternatives:
            loss = loss + (alternative - 1).square().mean()
        quantizer.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in quantizer.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
        losses.append(loss.detach())
    return losses


every_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.kind}-{example.arguments}")


def test_every_registered_quantizer_has_an_example() -> None:
    assert set(QUANTIZERS) == {example.kind for example in EXAMPLES}


@every_example
@pytest.mark.parametrize("positions", [(6,), (3, 5)], ids=["sequence", "grid"])
def test_shapes_and_dtypes(example: Example, positions: tuple[int, ...]) -> None:
    quantizer = example.ready()
    latents = torch.randn(2, *positions, quantizer.input_dim)
    tokens = quantizer.quantize(latents)
    assert tokens.shape == (2, *positions, quantizer.groups)
    assert tokens.dtype == torch.int64
    decoded = quantizer.dequantize(tokens)
    assert decoded.shape == (2, *positions, quantizer.dim)
    assert decoded.dtype == torch.float32
    quantizer.train()
    output = quantizer(latents)
    assert output.latents.shape == decoded.shape
    assert output.loss.shape == ()
    assert output.tokens is None or output.tokens.shape == tokens.shape
    assert all(alternative.shape == decoded.shape for alternative in output.alternatives)
    assert all(stat.shape == () and not stat.requires_grad for stat in output.stats.values())


@every_example
def test_a_gradient_reaches_the_encoder(example: Example) -> None:
    quantizer = example.build().train()
    train(quantizer, steps=1)
    latents = torch.randn(4, 16, quantizer.input_dim, requires_grad=True)
    output = quantizer(latents)
    weights = torch.randn(4, 16, quantizer.dim)
    loss = sum((decoded * weights).sum() for decoded in (output.latents, *output.alternatives))
    (gradient,) = torch.autograd.grad(loss, latents)
    assert gradient.isfinite().all()
    assert (gradient != 0).float().mean() > 0.9


@every_example
def test_every_token_can_be_reached_and_decodes_to_latents_of_its_own(example: Example) -> None:
    quantizer = example.ready()
    tokens = quantizer.quantize(latents_for(quantizer))
    every_token = torch.arange(quantizer.codebook_size)
    for group in range(quantizer.groups):
        assert torch.equal(tokens[:, group].unique(), every_token)
    decoded = quantizer.dequantize(every_token.unsqueeze(-1).expand(-1, quantizer.groups))
    assert decoded.isfinite().all()
    assert len(decoded.unique(dim=0)) == quantizer.codebook_size


@every_example
def test_forward_in_eval_mode_agrees_with_quantize_and_dequantize(example: Example) -> None:
    quantizer = example.ready()
    latents = latents_for(quantizer, 500).view(10, 50, -1)
    output = quantizer(latents)
    assert output.tokens is not None
    assert torch.equal(output.tokens, quantizer.quantize(latents))
    assert torch.equal(output.latents, quantizer.dequantize(output.tokens))


@every_example
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_the_tokens_of_float32(example: Example, dtype: torch.dtype) -> None:
    quantizer = example.ready()
    latents = latents_for(quantizer, 2000).to(dtype)
    expected = quantizer.quantize(latents.float())
    assert torch.equal(quantizer.quantize(latents), expected)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(quantizer.quantize(latents.float()), expected)
        assert torch.equal(quantizer.quantize(latents), expected)
        output = quantizer.train()(latents.view(2, 1000, -1))
    assert output.latents.dtype == torch.float32
    assert output.latents.isfinite().all()


@every_example
def test_a_batch_of_one_equals_a_batch_of_many(example: Example) -> None:
    quantizer = example.ready()
    latents = latents_for(quantizer, 60).view(5, 12, -1)
    together = quantizer.quantize(latents)
    alone = torch.cat([quantizer.quantize(item.unsqueeze(0)) for item in latents])
    assert torch.equal(together, alone)


@every_example
def test_tokens_survive_a_reload(example: Example) -> None:
    quantizer = example.ready()
    latents = latents_for(quantizer, 500)
    state = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    expected = quantizer.quantize(latents)
    fresh = example.build().eval()
    fresh.load_state_dict(state, strict=True)
    assert torch.equal(fresh.quantize(latents), expected)
    assert torch.equal(fresh.dequantize(expected), quantizer.dequantize(expected))


@every_example
def test_what_only_training_needs_decides_no_token(example: Example) -> None:
    quantizer = example.ready()
    latents = latents_for(quantizer, 500)
    kept = {name: t for name, t in quantizer.state_dict().items() if name not in quantizer.training_only}
    fresh = example.build().eval()
    missing = fresh.load_state_dict(kept, strict=False).missing_keys
    assert set(missing) <= quantizer.training_only
    assert torch.equal(fresh.quantize(latents), quantizer.quantize(latents))


@every_example
def test_a_resumed_run_continues_as_the_uninterrupted_one(example: Example) -> None:
    uninterrupted = example.build()
    train(uninterrupted, steps=3)
    resumed = example.build()
    resumed.load_state_dict(copy.deepcopy(uninterrupted.state_dict()))
    losses = train(uninterrupted, steps=3, first=3)
    assert torch.equal(torch.stack(train(resumed, steps=3, first=3)), torch.stack(losses))
    for name, tensor in uninterrupted.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


@every_example
def test_the_codebook_is_part_of_the_state(example: Example) -> None:
    quantizer = example.ready()
    state = quantizer.state_dict()
    tensors = quantizer.codebook_tensors()
    assert tensors
    for name, tensor in tensors.items():
        assert torch.equal(state[name], tensor)
        assert name not in quantizer.training_only


@every_example
def test_a_copy_gives_the_same_tokens_and_is_independent(example: Example) -> None:
    quantizer = example.ready()
    latents = latents_for(quantizer, 100)
    expected = quantizer.quantize(latents)
    duplicate = copy.deepcopy(quantizer)
    train(quantizer, steps=3)
    assert torch.equal(duplicate.quantize(latents), expected)


@every_example
def test_latents_that_are_not_numbers_still_get_tokens(example: Example) -> None:
    quantizer = example.ready()
    tokens = quantizer.quantize(torch.full((3, quantizer.input_dim), torch.nan))
    assert ((tokens >= 0) & (tokens < quantizer.codebook_size)).all()


@every_example
def test_inference_leaves_the_state_alone(example: Example) -> None:
    quantizer = example.ready()
    before = copy.deepcopy(quantizer.state_dict())
    latents = latents_for(quantizer, 100)
    quantizer(latents)
    quantizer.dequantize(quantizer.quantize(latents))
    for name, tensor in quantizer.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.size is not None], ids=lambda example: example.kind)
def test_without_a_codebook_the_command_to_run_is_named(example: Example) -> None:
    quantizer = example.build()
    assert not quantizer.codebook_ready
    with pytest.raises(TokError, match="tok build-codebook"):
        quantizer.quantize(torch.zeros(1, 1, quantizer.input_dim))


@every_example
def test_the_codebook_in_use_is_ready_and_listed(example: Example) -> None:
    quantizer = example.ready()
    assert quantizer.codebook_ready
    assert quantizer.codebook_size in quantizer.codebooks


@every_example
def test_in_the_middle_of_training_a_provisional_codebook_gives_tokens_and_leaves_no_trace(example: Example) -> None:
    quantizer = example.build()
    train(quantizer, steps=3)
    before, random_state, ready = copy.deepcopy(quantizer.state_dict()), torch.get_rng_state(), quantizer.codebook_ready
    latents = latents_for(quantizer, 200).view(4, 50, -1)
    quantizer.eval()
    with quantizer.provisional_codebook():
        assert quantizer.codebook_ready
        output = quantizer(latents)
        assert output.tokens is not None
        assert torch.equal(output.tokens, quantizer.quantize(latents))
        assert torch.equal(output.latents, quantizer.dequantize(output.tokens))
        assert ((output.tokens >= 0) & (output.tokens < quantizer.codebook_size)).all()
    assert quantizer.codebook_ready == ready
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, tensor in quantizer.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.size is not None], ids=lambda example: example.kind)
def test_without_a_codebook_forward_in_eval_mode_gives_latents_and_no_tokens(example: Example) -> None:
    quantizer = example.build().eval()
    latents = latents_for(quantizer, 20).view(1, 20, -1)
    output = quantizer(latents)
    assert output.tokens is None
    assert torch.equal(output.latents, latents[..., : quantizer.dim])


@every_example
def test_it_says_what_to_do_about_uneven_use_and_shows_its_arguments(example: Example) -> None:
    quantizer = example.build()
    assert quantizer.advice_for_uneven_use().split()[0] in ("train", "build")
    for name in example.arguments:
        assert f"{name}=" in repr(quantizer).splitlines()[0] + quantizer.extra_repr()


@every_example
def test_a_codebook_built_afterwards_changes_no_training_and_is_part_of_the_state(example: Example) -> None:
    """Of any size, where the kind can: the learnt one is kept beside it, and training goes on with that.

    A grid has no learnt one: levels that are built of its own size take the place of those that it had.
    """
    quantizer = example.ready()
    if not isinstance(quantizer, BuildsCodebook) or not quantizer.any_size:
        return
    untouched = copy.deepcopy(quantizer)
    latents = latents_for(quantizer, 2000)
    has_grid = any(isinstance(part, ScalarGrid) for part in quantizer.modules())
    sizes = (7, 50) if has_grid else (7, quantizer.codebook_size, 50)
    for size in sizes:
        assert quantizer.build_codebook(latents, size).size == size == quantizer.codebook_size
        assert quantizer.quantize(latents).max() < size
    assert set(sizes) <= set(quantizer.codebooks)
    assert quantizer.codebook_parameters() == untouched.codebook_parameters()
    torch.testing.assert_close(train(quantizer, steps=2), train(untouched, steps=2), rtol=0, atol=0)
    quantizer.eval()
    fresh = example.build().eval()
    fresh.load_state_dict(copy.deepcopy(quantizer.state_dict()), strict=True)
    for size in sizes:
        for each in (quantizer, fresh):
            each.use_codebook(size)
        assert torch.equal(fresh.quantize(latents), quantizer.quantize(latents))
        output = fresh(latents.view(20, 100, -1))
        assert torch.equal(output.tokens, fresh.quantize(latents).view(20, 100, -1))


BUILDERS = [example for example in EXAMPLES if isinstance(example.build(), BuildsCodebook)]


@pytest.mark.parametrize("example", BUILDERS, ids=lambda example: f"{example.kind}-{example.arguments}")
def test_only_a_built_codebook_can_be_chosen(example: Example) -> None:
    quantizer = example.ready()
    quantizer.use_codebook(quantizer.codebook_size)
    with pytest.raises(TokError, match=str(quantizer.codebook_size + 1)):
        quantizer.use_codebook(quantizer.codebook_size + 1)


@every_example
def test_training_steps_stay_on_their_device_and_never_wait(example: Example) -> None:
    quantizer = example.ready()
    with meta_device():
        move(quantizer).train()
        for _ in range(2):
            latents = torch.empty(2, 3, 5, quantizer.input_dim, device=META, requires_grad=True)
            output = quantizer(latents)
            loss = output.loss + sum(each.sum() for each in (output.latents, *output.alternatives))
            loss.backward()
            require_there({"loss": loss, "latents": output.latents, **output.stats, **quantizer.state_dict()})
            with torch.no_grad():
                for parameter in quantizer.parameters():
                    parameter -= 0.1 if parameter.grad is None else parameter.grad


@every_example
def test_tokens_are_made_and_read_on_their_device_without_a_wait(example: Example) -> None:
    quantizer = example.ready()
    quantizer.quantize(torch.randn(2, quantizer.input_dim))
    with meta_device():
        move(quantizer)
        for _ in range(2):
            tokens = quantizer.quantize(torch.empty(2, 3, 5, quantizer.input_dim, device=META))
            require_there({"tokens": tokens, "latents": quantizer.dequantize(tokens)})
