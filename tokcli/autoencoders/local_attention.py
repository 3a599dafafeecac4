"""Self-attention that sees a fixed number of positions on each side, so that a network with it has finite context.

Queries are taken in blocks as long as the reach; the keys of a block are then in it and in its two neighbours, and
memory grows with the length of the signal, not with its square.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokcli.autoencoders.convolutions import Layer

MASKED = -1e9
"""The score of what is not to be seen: its softmax is exactly 0, and a row of nothing else is not NaN."""

HEAD = 64
"""Channels per head, where the width divides into such heads."""


class LocalAttention(Layer):
    """A pre-norm transformer block: attention to the positions within reach, then two linear layers, with shortcuts.

    Where a key lies relative to its query is learnt as a bias for each head and offset, as in T5 (Raffel 2020, arXiv
    1910.10683) without its buckets: it depends on nothing but the offset, so a stretch of a signal gives what it
    gives within the whole.
    reach: positions on each side; causal: before alone.
    """

    def __init__(self, width: int, reach: int, causal: bool) -> None:
        super().__init__()
        self.reach, self.causal = reach, causal
        self.heads = width // HEAD if width % HEAD == 0 else 1
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.offsets = nn.Parameter(torch.zeros(self.heads, 2 * reach + 1))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, features: Tensor) -> Tensor:
        """features: (batch, width, positions), both ways."""
        rows = features.transpose(1, 2)
        rows = rows + self.projection(self._attended(self.query_key_value(self.norm(rows))))
        return (rows + self.feed_forward(rows)).transpose(1, 2)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """As far as the reach."""
        return first - self.reach, last if self.causal else last + self.reach

    def _attended(self, projected: Tensor) -> Tensor:
        """projected: (batch, positions, 3 · width) -> (batch, positions, width)."""
        positions, reach = projected.shape[1], self.reach
        padded = functional.pad(projected, (0, 0, 0, -positions % reach))
        # (batch, blocks, reach, width) each; keys and values with both neighbours: (batch, blocks, 3 · reach, width)
        query, key, value = (part.unflatten(1, (-1, reach)) for part in padded.chunk(3, dim=-1))
        key, value = (_with_neighbours(part) for part in (key, value))
        # (batch, blocks, heads, positions of the block, width / heads) each
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(2, 3) for part in (query, key, value))
        scores = self._scores(query.shape[1], positions).to(query.dtype)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=scores)
        return attended.transpose(2, 3).flatten(3).flatten(1, 2)[:, :positions]

    def _scores(self, blocks: int, positions: int) -> Tensor:
        """What is added to the scores: (blocks, heads, reach, 3 · reach)."""
        reach, device = self.reach, self.offsets.device
        queries = torch.arange(reach, device=device)
        offsets = torch.arange(-reach, 2 * reach, device=device) - queries[:, None]
        seen = (offsets.abs() <= reach) & (offsets <= (0 if self.causal else reach))
        bias = self.offsets[:, offsets.clamp(-reach, reach) + reach]
        places = torch.arange(blocks, device=device)[:, None] * reach + torch.arange(-reach, 2 * reach, device=device)
        present = (places >= 0) & (places < positions)
        return bias.masked_fill(~(seen & present[:, None, None]), MASKED)


def _with_neighbours(blocks: Tensor) -> Tensor:
    """(batch, blocks, reach, width) -> each block between the one before and the one after it, zeros at the ends."""
    padded = functional.pad(blocks, (0, 0, 0, 0, 1, 1))
    return torch.cat([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], dim=2)
