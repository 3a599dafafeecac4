"""Stages after each other and side by side: by hand, against another implementation, and what their arguments do."""

from typing import Any

import pytest
import torch
from torch import Tensor
from vector_quantize_pytorch import GroupedResidualVQ, ResidualFSQ, ResidualVQ

from tokcli.contracts import CodebookReport
from tokcli.errors import RecipeError, TokError, UsageError
from tokcli.progress import SILENT
from tokcli.quantizers import QUANTIZERS
from tokcli.quantizers.grouped import GroupedQuantizer
from tokcli.quantizers.residual import ResidualQuantizer
from tokcli.quantizers.vq import VectorQuantizer


def fill(quantizer: VectorQuantizer, codes: Tensor) -> None:
    with torch.no_grad():
        quantizer.codebook.copy_(codes)


def test_two_stages_by_hand() -> None:
    quantizer = ResidualQuantizer({"kind": "vq", "dim": 1, "codebook_size": 2}, depth=2).eval()
    fill(quantizer.stages[0], torch.tensor([[-4.0], [4.0]]))
    fill(quantizer.stages[1], torch.tensor([[-1.0], [2.0]]))
    latents = torch.tensor([[[5.0], [2.5], [-3.0]]])
    # 5 is nearest to 4, what is left is 1, nearest to 2; 2.5 to 4, left -1.5, to -1; -3 to -4, left 1, to 2.
    tokens = quantizer.quantize(latents)
    assert tokens.tolist() == [[[1, 1], [1, 0], [0, 1]]]
    assert quantizer.dequantize(tokens).tolist() == [[[6.0], [3.0], [-2.0]]]
    assert quantizer.dequantize(tokens[..., :1]).tolist() == [[[4.0], [4.0], [-4.0]]]


def test_scalar_stages_are_digits_behind_the_point() -> None:
    quantizer = ResidualQuantizer({"kind": "fsp", "levels": [10], "activation": "uniform"}, depth=3).eval()
    unit = torch.tensor([0.123, 0.907, 0.5551])
    tokens = quantizer.quantize(((unit - 0.5) * 12**0.5)[None, :, None])
    assert tokens.tolist() == [[[1, 2, 3], [9, 0, 7], [5, 5, 5]]]
    decoded = quantizer.dequantize(tokens) / 12**0.5 + 0.5
    torch.testing.assert_close(decoded.flatten(), torch.tensor([0.1235, 0.9075, 0.5555]))


def test_groups_by_hand() -> None:
    quantizer = GroupedQuantizer({"kind": "vq", "dim": 1, "codebook_size": 2}, groups=2).eval()
    fill(quantizer.stages[0], torch.tensor([[-1.0], [1.0]]))
    fill(quantizer.stages[1], torch.tensor([[10.0], [20.0]]))
    tokens = quantizer.quantize(torch.tensor([[[0.5, 12.0], [-3.0, 99.0]]]))
    assert tokens.tolist() == [[[1, 0], [0, 1]]]
    assert quantizer.dequantize(tokens).tolist() == [[[1.0, 10.0], [-1.0, 20.0]]]
    assert quantizer.dequantize(tokens[..., :1]).tolist() == [[[1.0, 0.0], [-1.0, 0.0]]]


@pytest.mark.parametrize("shared", [False, True])
def test_stages_of_vq_agree_with_vector_quantize_pytorch(shared: bool) -> None:
    torch.manual_seed(0)
    reference = ResidualVQ(dim=6, codebook_size=40, num_quantizers=5, shared_codebook=shared).eval()
    quantizer = ResidualQuantizer({"kind": "vq", "dim": 6, "codebook_size": 40}, depth=5, shared=shared).eval()
    for number, layer in enumerate(reference.layers):
        layer._codebook.embed.copy_(torch.randn(1, 40, 6) / (1 if shared else 1 + number))
        fill(quantizer.stage(number), layer._codebook.embed[0])
    latents = 2 * torch.randn(3, 70, 6)
    decoded, indices, _ = reference(latents)
    tokens = quantizer.quantize(latents)
    assert torch.equal(tokens, indices)
    torch.testing.assert_close(quantizer.dequantize(tokens), decoded)


@pytest.mark.parametrize("levels", [[8, 5, 5, 5], [3, 3], [4]])
def test_stages_of_fsq_agree_with_vector_quantize_pytorch(levels: list[int]) -> None:
    torch.manual_seed(0)
    reference = ResidualFSQ(levels=levels, num_quantizers=3).eval()
    node = {"kind": "fsq", "levels": levels, "variant": "symmetric", "edges": "full"}
    quantizer = ResidualQuantizer(node, depth=3).eval()
    latents = 1.5 * torch.randn(4, 500, len(levels))
    decoded, indices = reference(latents)
    tokens = quantizer.quantize(latents)
    # What lies within rounding of a border may go either way; a token that differs then shifts those behind it.
    same = (tokens == indices).all(dim=-1)
    assert same.float().mean() > 0.999
    torch.testing.assert_close(quantizer.dequantize(tokens)[same], decoded[same])
    torch.testing.assert_close(quantizer.dequantize(indices.long()), decoded)


def test_groups_of_stages_agree_with_vector_quantize_pytorch() -> None:
    torch.manual_seed(0)
    reference = GroupedResidualVQ(dim=6, codebook_size=20, num_quantizers=3, groups=2).eval()
    within = {"kind": "residual", "of": {"kind": "vq", "dim": 3, "codebook_size": 20}, "depth": 3}
    quantizer = GroupedQuantizer(within, groups=2).eval()
    for stages, group in zip(quantizer.stages, reference.rvqs, strict=True):
        for stage, layer in zip(stages.stages, group.layers, strict=True):
            layer._codebook.embed.copy_(torch.randn(1, 20, 3))
            fill(stage, layer._codebook.embed[0])
    latents = torch.randn(2, 50, 6)
    decoded, indices, _ = reference(latents)
    tokens = quantizer.quantize(latents)
    assert torch.equal(tokens, torch.cat(list(indices), dim=-1))
    torch.testing.assert_close(quantizer.dequantize(tokens), decoded)


def test_a_step_of_moving_averages_agrees_with_vector_quantize_pytorch() -> None:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"codebook_size": 20, "decay": 0.9}
    reference = ResidualVQ(dim=3, num_quantizers=3, threshold_ema_dead_code=0, eps=1e-5, **arguments).train()
    quantizer = ResidualQuantizer({"kind": "vq", "dim": 3, "ema": True, **arguments}, depth=3).train()
    for stage, layer in zip(quantizer.stages, reference.layers, strict=True):
        codes = torch.randn(20, 3)
        for buffer in (layer._codebook.embed, layer._codebook.embed_avg):
            buffer.copy_(codes[None])
        layer._codebook.cluster_size.fill_(1.0)
        for buffer in (stage.codebook, stage.ema_sums):
            buffer.copy_(codes)
    latents = torch.randn(2, 60, 3)
    _, indices, losses = reference(latents)
    output = quantizer(latents)
    assert torch.equal(output.tokens, indices)
    torch.testing.assert_close(output.loss, 0.25 * losses.sum())
    for stage, layer in zip(quantizer.stages, reference.layers, strict=True):
        torch.testing.assert_close(stage.codebook, layer._codebook.embed[0], rtol=1e-4, atol=1e-5)


NODES = [
    {"kind": "vq", "dim": 4, "codebook_size": 16},
    {"kind": "fsq", "levels": [5, 3]},
    {"kind": "fsp", "levels": [4, 4]},
    {"kind": "vaevq", "dim": 3, "codebook_size": 16},
]


@pytest.mark.parametrize("node", NODES, ids=lambda node: node["kind"])
def test_one_stage_is_the_quantizer_itself(node: dict[str, Any]) -> None:
    torch.manual_seed(0)
    alone = QUANTIZERS.build(node)
    quantizer = ResidualQuantizer(node, depth=1)
    quantizer.stages[0].load_state_dict(alone.state_dict())
    latents = torch.randn(2, 50, alone.input_dim)
    for each in (alone, quantizer):
        each.eval()
    assert torch.equal(quantizer.quantize(latents), alone.quantize(latents))
    torch.manual_seed(1)
    expected = alone.train()(latents)
    torch.manual_seed(1)
    output = quantizer.train()(latents)
    torch.testing.assert_close(output.latents, expected.latents)
    torch.testing.assert_close(output.loss, expected.loss)


def test_levels_that_divide_levels_take_no_codes_of_another_number() -> None:
    quantizer = ResidualQuantizer({"kind": "fsp", "levels": [4, 4]}, depth=2)
    assert not quantizer.any_size
    with pytest.raises(UsageError, match="has its 16 codes and no other number, got size 8; leave the size out"):
        quantizer.build_codebook(torch.randn(100, 2), 8)
    apart = ResidualQuantizer({"kind": "fsp", "levels": [4, 4]}, depth=2, dim=3)
    assert apart.any_size
    apart.eval().build_codebook(torch.randn(100, 3), 8)
    assert apart.quantize(torch.randn(5, 3)).max() < 8


@pytest.mark.parametrize("kind", ["vpvae", "nsvq", "fsp", "vq", "tokenbridge"])
def test_stages_built_in_order_leave_less_and_less(kind: str) -> None:
    """On latents of a mixture, of which the first stage can only tell the clusters."""
    torch.manual_seed(0)
    within = {
        "fsp": {"levels": [4, 4]},
        "tokenbridge": {"dim": 2, "bins": 4},
    }.get(kind, {"dim": 2, "codebook_size": 16})
    quantizer = ResidualQuantizer({"kind": kind, **within}, depth=3).train()

    def draw(count: int) -> Tensor:
        means = torch.randint(-1, 2, (count, 2)) + 0.2 * torch.randn(count, 2)
        return torch.cat([means, torch.full((count, quantizer.input_dim - 2), -4.0)], dim=-1)

    for _ in range(30):
        quantizer(draw(256).view(4, 64, -1))
    latents = draw(3000)
    notes: list[str] = []

    class Noted(type(SILENT)):
        def note(self, message: str) -> None:
            notes.append(message)

    report = quantizer.eval().build_codebook(latents, reporter=Noted())
    assert [note for note in notes if note.startswith("stage")][2].startswith("stage 3 of 3: 16 codes, mse ")
    tokens = quantizer.quantize(latents)
    points = quantizer.points(latents)
    errors = [(points - quantizer.dequantize(tokens[..., :n])).square().sum(-1).mean() for n in (1, 2, 3)]
    assert errors[1] < 0.35 * errors[0]
    assert errors[2] < 0.35 * errors[1]
    assert report == CodebookReport(16, pytest.approx(float(errors[2]), rel=1e-4), report.perplexity, 3000)
    # Every stage has its share of the work: its codes are in use.
    assert all(len(tokens[..., stage].unique()) > 12 for stage in range(3))


def test_in_training_vpvae_moves_what_is_left_by_less_at_every_stage() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer({"kind": "vpvae", "dim": 2, "codebook_size": 64, "queue_fraction": 1.0}, depth=3)
    for _ in range(60):
        output = quantizer(torch.randn(4, 64, 2))
    left = [float(output.stats[f"left_{stage}"]) for stage in (1, 2, 3)]
    assert 0 < left[2] < 0.1 * left[1] < 0.01 * left[0] < 0.01
    # A later stage reads it at variance 1, whatever is left: then its queue is full of draws of its own kind.
    assert all(stage.queue.filled().var() == pytest.approx(1, rel=0.3) for stage in quantizer.stages)
    assert output.latents.requires_grad is False
    latents = torch.randn(4, 64, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(quantizer(latents).latents.sum(), latents)
    assert torch.equal(gradient, torch.ones_like(gradient))  # the decoder's, once


def test_an_item_that_drops_stages_is_decoded_from_the_first_ones() -> None:
    torch.manual_seed(0)
    node = {"kind": "vq", "dim": 3, "codebook_size": 32}
    quantizer = ResidualQuantizer(node, depth=4, dropout=0.5).train()
    for stage in quantizer.stages:
        fill(stage, torch.randn(32, 3))
    latents = torch.randn(400, 5, 3)
    output = quantizer(latents)
    prefixes = torch.stack([quantizer.dequantize(output.tokens[..., :n]) for n in quantizer.prefixes])
    same = torch.isclose(prefixes, output.latents, atol=1e-6).flatten(2).all(-1).float().mean(1)
    # An eighth for each of the four by chance, and the half that drops nothing.
    assert same.tolist() == pytest.approx([0.125, 0.125, 0.125, 0.625], abs=0.06)
    assert torch.isclose(quantizer.eval()(latents).latents, prefixes[3], atol=1e-6).all()


def test_a_group_that_is_dropped_decodes_to_zero() -> None:
    torch.manual_seed(0)
    quantizer = GroupedQuantizer({"kind": "fsq", "levels": [5, 5]}, groups=2, dropout=1.0).train()
    latents = 9 * torch.ones(100, 4, 4)
    decoded = quantizer(latents).latents
    assert decoded[..., :2].eq(1).all()
    assert decoded[..., 2:].flatten(1).mean(1).unique().tolist() == [0, 1]


def test_the_weights_of_stages_weigh_their_losses() -> None:
    torch.manual_seed(0)
    node = {"kind": "vq", "dim": 3, "codebook_size": 8}
    latents = torch.randn(2, 20, 3)
    losses = []
    for weights in ([1.0, 0.0], [0.0, 1.0], None, [2.0, 3.0]):
        torch.manual_seed(1)
        losses.append(ResidualQuantizer(node, depth=2, loss_weights=weights)(latents).loss)
    torch.testing.assert_close(losses[2], losses[0] + losses[1])
    torch.testing.assert_close(losses[3], 2 * losses[0] + 3 * losses[1])


def test_maps_of_a_stage_learn_from_the_decoder() -> None:
    torch.manual_seed(0)
    node = {"kind": "vq", "dim": 2, "codebook_size": 16, "cosine": True}
    quantizer = ResidualQuantizer(node, depth=3, dim=8).train()
    output = quantizer(torch.randn(2, 10, 8))
    output.latents.square().sum().backward()
    for maps in (quantizer.maps_in, quantizer.maps_out):
        assert all(float(each.weight.grad.abs().sum()) > 0 for each in maps)
    assert not {"maps_in.0.weight"} & quantizer.codebook_parameters()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"of": {"kind": "vpvae", "dim": 2, "codebook_size": 4}, "shared": True}, "codes that training learns"),
        ({"of": {"kind": "vq", "dim": 2, "codebook_size": 4, "cosine": True}}, "all of one length"),
        ({"of": {"kind": "fsq", "levels": [3]}, "loss_weights": [1.0]}, "loss_weights are of 2 stages"),
        ({"of": {"kind": "residual", "of": {"kind": "fsq", "levels": [3]}, "depth": 2}}, "stages of stages are stages"),
        ({"of": {"kind": "fsp", "levels": [3], "decode": "inverse"}}, "unequal widths"),
        ({"of": {"kind": "fsq", "levels": [2]}}, "lopsided"),
        ({"of": {"kind": "fsk", "levels": [2]}}, "did you mean 'fsq'"),
        ({"of": {"kind": "fsq", "levels": [1]}}, "of.levels.0: expected 2 or more"),
        ({"of": 3}, "of: .*dict"),
    ],
)
def test_stages_that_cannot_follow_each_other_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        QUANTIZERS.build({"kind": "residual", "depth": 2, **arguments})


def test_a_number_of_groups_that_no_stages_have_is_refused() -> None:
    quantizer = ResidualQuantizer({"kind": "fsq", "levels": [3, 3]}, depth=2)
    with pytest.raises(TokError, match="tokens of 3 groups cannot be decoded; expected the first 1, 2"):
        quantizer.dequantize(torch.zeros(1, 1, 3, dtype=torch.int64))


def test_nothing_is_built_where_training_has_made_the_codes() -> None:
    quantizer = ResidualQuantizer({"kind": "vq", "dim": 2, "codebook_size": 4}, depth=2, shared=True)
    assert not quantizer.builds
    with pytest.raises(TokError, match="there is nothing to build"):
        quantizer.build_codebook(torch.randn(100, 2))
