"""How the publishers of VQGANs name their tensors, and which network of ours these names and shapes make.

LlamaGen (Sun et al. 2024, arXiv 2406.06525) and taming-transformers (Esser 2021, arXiv 2012.09841) train the network of
`autoencoders/vqgan`. They differ in names, in the order in which the decoder's levels are counted, and in codes that
lie on the unit sphere (LlamaGen) or anywhere.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from tokcli.errors import MismatchError, UsageError, quote
from tokcli.spelling import nearest


@dataclass(frozen=True)
class Naming:
    """One publisher's names.

    Attributes:
        title: what people call the weights.
        encoder_level: of level i, counted from the highest resolution.
        decoder_level: of a level of the decoder.
        from_the_top: whether the decoder's levels are counted from the highest resolution too.
        block: of the residual blocks in a level.
        middle: the first block, the attention and the second block between the levels.
        cosine: whether codes are compared on the unit sphere.
        ignored: beginnings of names that tokens and pictures do not depend on.
    """

    title: str
    encoder_level: str
    decoder_level: str
    from_the_top: bool
    block: str
    middle: tuple[str, str, str]
    cosine: bool
    ignored: tuple[str, ...]


NAMINGS = {
    "llamagen": Naming(
        "LlamaGen's VQ-16 and VQ-8",
        "encoder.conv_blocks.{}",
        "decoder.conv_blocks.{}",
        from_the_top=False,
        block="res",
        middle=("mid.0", "mid.1", "mid.2"),
        cosine=True,
        ignored=("quantize.codebook_used",),
    ),
    "taming": Naming(
        "the VQGANs of taming-transformers",
        "encoder.down.{}",
        "decoder.up.{}",
        from_the_top=True,
        block="block",
        middle=("mid.block_1", "mid.attn_1", "mid.block_2"),
        cosine=False,
        ignored=("loss.",),
    ),
}
"""By the word behind `--as`."""


def find_naming(publisher: str) -> Naming:
    """The names of a publisher's tensors. Raises UsageError where nobody is known by that word."""
    if publisher not in NAMINGS:
        raise UsageError(f"--as: no weights are known as {quote(publisher)}; {nearest(publisher, NAMINGS)}")
    return NAMINGS[publisher]


SHAPES = ("encoder.conv_in.weight", "encoder.conv_out.weight", "quant_conv.weight", "quantize.embedding.weight")
"""The tensors that say how wide a network is, besides those of its levels."""

CODES = SHAPES[-1]


@dataclass(frozen=True)
class Shape:
    """What the shapes of the tensors say of a network.

    Attributes:
        widths: channels of each level, from the highest resolution down.
        blocks: residual blocks per level of the encoder.
        attention: after every block at the lowest resolution (True), between the levels alone, or nowhere.
        features: channels that the encoder gives before the projection.
        latents: channels of a latent.
        codes: of the codebook.
    """

    widths: tuple[int, ...]
    blocks: int
    attention: bool | str
    features: int
    latents: int
    codes: int


def read_shape(naming: Naming, tensors: Mapping[str, torch.Tensor]) -> Shape:
    """Of the network whose tensors these are. Raises MismatchError where a tensor that says it lacks."""
    lacking = [name for name in SHAPES if name not in tensors]
    first = f"{naming.encoder_level.format(0)}.{naming.block}.0.conv1.weight"
    lacking += [first] if first not in tensors else []
    if lacking:
        raise MismatchError(f"it lacks {', '.join(lacking)}")
    blocks = _count(tensors, f"{naming.encoder_level.format(0)}.{naming.block}.{{}}.conv1.weight")
    levels = _count(tensors, f"{naming.encoder_level}.{naming.block}.0.conv1.weight")
    firsts = [f"{naming.encoder_level.format(level)}.{naming.block}.0.conv1.weight" for level in range(levels)]
    odd = [name for name in (*SHAPES, *firsts) if tensors[name].dim() != (2 if name == CODES else 4)]
    odd += [name for name in (*SHAPES, *firsts) if tensors[name].numel() == 0]
    if odd:
        raise MismatchError(f"{odd[0]} is {list(tensors[odd[0]].shape)}, which is no such tensor's shape")
    lowest, (_, middle, _) = naming.encoder_level.format(levels - 1), naming.middle
    attends, between = f"{lowest}.attn.0.norm.weight" in tensors, f"encoder.{middle}.norm.weight" in tensors
    features, latents, codes = (tensors[name].shape[0] for name in SHAPES[1:])
    return Shape(
        tuple(tensors[name].shape[0] for name in firsts),
        blocks,
        attends or ("middle" if between else False),
        features,
        latents,
        codes,
    )


def _count(tensors: Mapping[str, torch.Tensor], name: str) -> int:
    """How many tensors are called so, with 0, 1, 2, ... in the place of the braces."""
    count = 0
    while name.format(count) in tensors:
        count += 1
    return count


def map_names(naming: Naming, shape: Shape) -> dict[str, tuple[str, ...]]:
    """Our names of all modules that hold tensors, each with theirs; attention's three are one of ours."""
    return dict(_map_modules(naming, shape))


def _map_modules(naming: Naming, shape: Shape) -> Iterator[tuple[str, tuple[str, ...]]]:
    last = len(shape.widths) - 1
    places = list(enumerate(shape.widths))
    for side, blocks, ways in (("encoder", shape.blocks, places), ("decoder", shape.blocks + 1, places[::-1])):
        yield f"{side}.stem", (f"{side}.conv_in",)
        yield f"{side}.head.0", (f"{side}.norm_out",)
        yield f"{side}.head.2", (f"{side}.conv_out",)
        yield from _map_middle(naming, shape, side)
        inputs = ways[0][1]
        for own, (level, width) in enumerate(ways):
            theirs = _name_level(naming, side, level, last)
            attends = shape.attention is True and level == last
            for block in range(blocks):
                index = block * 2 if attends else block
                changes = block == 0 and inputs != width
                yield from _map_block(f"{side}.levels.{own}.{index}", f"{theirs}.{naming.block}.{block}", changes)
                if attends:
                    yield from _map_attention(f"{side}.levels.{own}.{index + 1}", f"{theirs}.attn.{block}")
            if own < last:
                step = "downsample" if side == "encoder" else "upsample"
                yield f"{side}.{step}s.{own}.convolution", (f"{theirs}.{step}.conv",)
            inputs = width
    yield "down_projection", ("quant_conv",)
    yield "up_projection", ("post_quant_conv",)


def _name_level(naming: Naming, side: str, level: int, last: int) -> str:
    """Their name of a level; `level` is counted from the highest resolution."""
    if side == "encoder":
        return naming.encoder_level.format(level)
    return naming.decoder_level.format(level if naming.from_the_top else last - level)


def _map_middle(naming: Naming, shape: Shape, side: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    first, attention, second = (f"{side}.{name}" for name in naming.middle)
    yield from _map_block(f"{side}.middle.0", first, False)
    if shape.attention:
        yield from _map_attention(f"{side}.middle.1", attention)
    yield from _map_block(f"{side}.middle.{2 if shape.attention else 1}", second, False)


def _map_block(own: str, theirs: str, changes: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A residual block, with a shortcut of its own where it `changes` the number of channels."""
    names = {
        "first_norm": "norm1",
        "first_convolution": "conv1",
        "second_norm": "norm2",
        "second_convolution": "conv2",
    } | ({"shortcut": "nin_shortcut"} if changes else {})
    for name, foreign in names.items():
        yield f"{own}.{name}", (f"{theirs}.{foreign}",)


def _map_attention(own: str, theirs: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield f"{own}.norm", (f"{theirs}.norm",)
    yield f"{own}.query_key_value", (f"{theirs}.q", f"{theirs}.k", f"{theirs}.v")
    yield f"{own}.projection", (f"{theirs}.proj_out",)
