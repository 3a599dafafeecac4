"""The latents that a VP-VAE remembers: a ring of the latest, part of the state, with an exact index beside it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tokcli.search import LiveIndex, live_index


class LatentQueue(nn.Module):
    """The latest `size` latents, first in, first out. It begins full of draws from N(0, I).

    latents: (size, dim) buffer. entered: how many latents ever came in, int64 buffer; `entered % size` is the next
    place to write, `min(entered, size)` are the places that hold real latents.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("latents", torch.randn(size, dim))
        self.register_buffer("entered", torch.zeros((), dtype=torch.int64))
        self._index: LiveIndex | None = None
        self._derived_from: tuple[Tensor, int, Tensor, int] | None = None
        self._entered = 0

    @property
    def size(self) -> int:
        """Places in the ring."""
        return len(self.latents)

    def count(self) -> int:
        """How many latents ever came in, without waiting for the device unless the state was loaded or moved."""
        self._follow()
        return self._entered

    def filled(self) -> Tensor:
        """(count, dim), the real latents in the ring, in no particular order."""
        return self.latents[: min(self.count(), self.size)]

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """rows: (count, dim) take the oldest places; of more than the ring holds, the last."""
        first = self.count() + max(0, len(rows) - self.size)
        rows = rows[-self.size :]
        slots = (first + torch.arange(len(rows), device=rows.device)) % self.size
        self.latents[slots] = rows.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).to(self.latents.dtype)
        self._entered = first + len(rows)
        self.entered.fill_(self._entered)
        if self._index is not None:
            self._index.overwritten(slots)
        self._remember()

    def kth_distances(self, points: Tensor, ranks: Sequence[int]) -> Tensor:
        """points: (count, dim) -> (count, len(ranks)) float32, exact distances to the ranks-th nearest in the ring."""
        self._follow()
        if self._index is None:
            self._index = live_index(self.latents)
        return self._index.kth_distances(points, ranks)

    def _follow(self) -> None:
        """Forget what was derived from buffers that something else has changed since: a load, a move, a copy."""
        if self._derived_from is not None:
            latents, latents_version, entered, entered_version = self._derived_from
            same = latents is self.latents and entered is self.entered
            if same and latents_version == latents._version and entered_version == entered._version:
                return
        self._index = None
        self._entered = int(self.entered)
        self._remember()

    def _remember(self) -> None:
        self._derived_from = self.latents, self.latents._version, self.entered, self.entered._version
