"""Long signals in windows: which positions are computed at a time, and what of a signal each of them needs.

    positions   0 ........ length ........ 2·length ........ end
    a window              |<- context ->|<- kept ->|<- context ->|

Windows lie at multiples of their length from the signal's start and their context is clipped at its ends, so that the
layout depends on nothing but the position: the same signal is cut alike whether it is whole or comes in blocks.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Positions that are computed at a time: those from `first` up to, but without, `last`.

    kept: which of them are results, counted from `first`; the others are context.
    """

    first: int
    last: int
    kept: slice

    def samples(self, stride: int) -> slice:
        """The samples of its positions, counted from the signal's start."""
        return slice(self.first * stride, self.last * stride)

    def kept_samples(self, stride: int) -> slice:
        """The samples of the positions that are kept, counted from the window's first."""
        return slice(self.kept.start * stride, self.kept.stop * stride)


@dataclass(frozen=True)
class Layout:
    """Where the windows of a signal lie.

    length: positions that a window keeps; None: all there are. context: positions on each side of them.
    """

    length: int | None
    context: int

    def windows(self, positions: int, start: int = 0) -> Iterator[Window]:
        """The windows of a signal of so many positions that keep those from `start`, the place of a window, on."""
        length = self.length or positions
        for begin in range(start, positions, length or 1):
            first, end = max(0, begin - self.context), min(begin + length, positions)
            yield Window(first, min(end + self.context, positions), slice(begin - first, end - first))

    def gather(self, blocks: Iterable[Tensor], stride: int) -> Iterator[tuple[Tensor, Window]]:
        """The windows of a signal that comes in blocks, each as soon as its context is there, with its samples.

        blocks: (channels, samples) of any lengths, in order. The samples that come back are (channels, samples), and
        fill all positions of the window but, at the signal's end, the last. Needs a length.
        """
        held: list[Tensor] = []  # what is still needed, from the sample `first` on
        first = arrived = start = 0
        for block in blocks:
            for piece in block.split(self.length * stride, dim=1):
                held.append(piece)
                arrived += piece.shape[1]
                if arrived < (start + self.length + self.context) * stride:
                    continue
                signal = torch.cat(held, dim=1)
                window = next(self.windows(arrived // stride, start))
                yield signal[:, : window.last * stride - first], window
                start += self.length
                needed = max(0, start - self.context) * stride
                held, first = [signal[:, needed - first :]], needed
        for window in self.windows(-(-arrived // stride), start):
            signal = torch.cat(held, dim=1)
            samples = window.samples(stride)
            yield signal[:, samples.start - first : samples.stop - first], window
