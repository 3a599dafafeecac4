"""The two published networks, written anew in plain torch under their publishers' names of tensors.

Nothing of tok is used here: what these compute is what an imported tokenizer has to compute.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


def swish(values: Tensor) -> Tensor:
    return values * values.sigmoid()


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = norm(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.conv2(swish(self.norm2(self.conv1(swish(self.norm1(features))))))
        return hidden + (self.nin_shortcut(features) if hasattr(self, "nin_shortcut") else features)


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, features: Tensor) -> Tensor:
        batch, channels, height, width = features.shape
        normed = self.norm(features)
        query, key, value = (each(normed).flatten(2) for each in (self.q, self.k, self.v))
        weights = (torch.einsum("bci,bcj->bij", query, key) / channels**0.5).softmax(-1)
        attended = torch.einsum("bij,bcj->bci", weights, value).reshape(batch, channels, height, width)
        return features + self.proj_out(attended)


class Resampling(nn.Module):
    """A convolution behind doubled pixels, or one that halves after a row and a column of zeros were added."""

    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, stride=1 if up else 2, padding=int(up))

    def forward(self, features: Tensor) -> Tensor:
        if self.up:
            return self.conv(features.repeat_interleave(2, 2).repeat_interleave(2, 3))
        return self.conv(functional.pad(features, (0, 1, 0, 1)))


def make_level(inputs: int, outputs: int, blocks: int, attends: bool, block: str) -> nn.Module:
    level = nn.Module()
    setattr(level, block, nn.ModuleList(Block(outputs if i else inputs, outputs) for i in range(blocks)))
    level.attn = nn.ModuleList(Attention(outputs) for _ in range(blocks * attends))
    return level


def run_level(level: nn.Module, features: Tensor, block: str) -> Tensor:
    for index, part in enumerate(getattr(level, block)):
        features = part(features)
        if len(level.attn):
            features = level.attn[index](features)
    return features


class LlamaGen(nn.Module):
    """VQ-16 and VQ-8: both networks count their levels in the order in which they run; attention at the last."""

    block = "res"
    sphere = True

    def __init__(self, widths: list[int], blocks: int, features: int, latents: int, codes: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.quantize = nn.Module(), nn.Module(), nn.Module()
        last = len(widths) - 1
        self.encoder.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        levels, inputs = [], widths[0]
        for index, width in enumerate(widths):
            levels.append(make_level(inputs, width, blocks, self.attends(index, last), self.block))
            if index < last:
                levels[-1].downsample = Resampling(width, up=False)
            inputs = width
        self.decoder.conv_in = nn.Conv2d(features, inputs, 3, padding=1)
        ups = []
        for index in reversed(range(len(widths))):
            ups.append(make_level(inputs, widths[index], blocks + 1, self.attends(index, last), self.block))
            if index > 0:
                ups[-1].upsample = Resampling(widths[index], up=True)
            inputs = widths[index]
        self.name_parts(levels, ups, widths[-1])
        for part, wide, out in ((self.encoder, widths[-1], features), (self.decoder, widths[0], 3)):
            part.norm_out, part.conv_out = norm(wide), nn.Conv2d(wide, out, 3, padding=1)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(features, latents, 1), nn.Conv2d(latents, features, 1)
        self.quantize.embedding = nn.Embedding(codes, latents)

    def attends(self, index: int, last: int) -> bool:
        return index == last

    def name_parts(self, downs: list[nn.Module], ups: list[nn.Module], widest: int) -> None:
        self.encoder.conv_blocks, self.decoder.conv_blocks = nn.ModuleList(downs), nn.ModuleList(ups)
        for part in (self.encoder, self.decoder):
            part.mid = nn.ModuleList([Block(widest, widest), Attention(widest), Block(widest, widest)])

    def list_parts(self, part: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
        """The levels in the order in which they run, and the three parts between them."""
        return list(part.conv_blocks), list(part.mid)

    def latents(self, images: Tensor) -> Tensor:
        levels, middle = self.list_parts(self.encoder)
        features = self.encoder.conv_in(images)
        for level in levels:
            features = run_level(level, features, self.block)
            features = level.downsample(features) if hasattr(level, "downsample") else features
        for part in middle:
            features = part(features)
        return self.quant_conv(self.encoder.conv_out(swish(self.encoder.norm_out(features))))

    def codes(self) -> Tensor:
        codes = self.quantize.embedding.weight
        return codes / codes.norm(dim=1, keepdim=True) if self.sphere else codes

    def tokens(self, images: Tensor) -> Tensor:
        points = self.latents(images).movedim(1, -1)
        points = points / points.norm(dim=-1, keepdim=True) if self.sphere else points
        return torch.cdist(points.double().flatten(0, -2), self.codes().double()).argmin(1).view(points.shape[:-1])

    def decode(self, tokens: Tensor) -> Tensor:
        levels, middle = self.list_parts(self.decoder)
        features = self.decoder.conv_in(self.post_quant_conv(self.codes()[tokens].movedim(-1, 1)))
        for part in middle:
            features = part(features)
        for level in levels:
            features = run_level(level, features, self.block)
            features = level.upsample(features) if hasattr(level, "upsample") else features
        return self.decoder.conv_out(swish(self.decoder.norm_out(features)))


class Taming(LlamaGen):
    """VQGAN f16: levels of both networks are counted from the highest resolution; codes lie anywhere."""

    block = "block"
    sphere = False
    bare = False

    def attends(self, index: int, last: int) -> bool:
        return index == last and not self.bare

    def name_parts(self, downs: list[nn.Module], ups: list[nn.Module], widest: int) -> None:
        self.encoder.down, self.decoder.up = nn.ModuleList(downs), nn.ModuleList(ups[::-1])
        for part in (self.encoder, self.decoder):
            part.mid = nn.Module()
            part.mid.block_1, part.mid.attn_1, part.mid.block_2 = (
                Block(widest, widest),
                Attention(widest),
                Block(widest, widest),
            )

    def list_parts(self, part: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
        levels = list(part.down) if part is self.encoder else list(part.up)[::-1]
        return levels, [part.mid.block_1, part.mid.attn_1, part.mid.block_2]


class TamingWithoutLevels(Taming):
    """With attention between the levels alone, as those of f4."""

    bare = True
