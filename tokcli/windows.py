"""Signals of any size: padded to whole positions, long ones in windows, cropped to their own size again.

    positions   0 ........ length ........ 2·length ........ end
    a window              |<- context ->|<- kept ->|<- context ->|

Windows lie at multiples of their length from the signal's start and their context is clipped at its ends, so that the
layout depends on nothing but the position: the same signal is cut alike whether it is whole or comes in blocks.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tokcli.errors import InputError


@dataclass(frozen=True)
class Window:
    """Positions that are computed at a time: those from `first` up to, but without, `last`.

    Attributes:
        first: position.
        last: position behind them.
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

    Attributes:
        length: positions that a window keeps; None: all there are.
        context: positions on each side of them.
    """

    length: int | None
    context: int

    def windows(self, positions: int, start: int = 0) -> Iterator[Window]:
        """The windows of a signal of so many positions that keep those from `start`, where a window begins, on."""
        length = self.length or positions
        for begin in range(start, positions, length or 1):
            first, end = max(0, begin - self.context), min(begin + length, positions)
            yield Window(first, min(end + self.context, positions), slice(begin - first, end - first))

    def gather(self, blocks: Iterable[Tensor], stride: int) -> Iterator[tuple[Tensor, Window]]:
        """The windows of a signal that comes in blocks, each as soon as its context is there, with its samples.

        blocks: (channels, samples) of any lengths, in order. The samples that come back are (channels, samples), and
        fill all positions of the window but, at the signal's end, the last. Needs a length.
        """
        assert self.length is not None, "a signal comes in blocks only to a network with windows"
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


class Echo:
    """Blocks (channels, samples) on their way to somebody else, which can be had once more in other lengths.

    Attributes:
        held: samples that have gone by and were not yet taken.
    """

    def __init__(self, blocks: Iterable[Tensor]) -> None:
        self.held = 0
        self._blocks = blocks
        self._held: deque[Tensor] = deque()

    def __iter__(self) -> Iterator[Tensor]:
        for block in self._blocks:
            self._held.append(block)
            self.held += block.shape[1]
            yield block

    def take(self, samples: int) -> Tensor:
        """The next `samples` that have gone by, or those that are left: (channels, samples)."""
        taken = []
        while samples and self._held:
            block = self._held.popleft()
            if block.shape[1] > samples:
                self._held.appendleft(block[:, samples:])
            taken.append(block[:, :samples])
            samples -= taken[-1].shape[1]
            self.held -= taken[-1].shape[1]
        return torch.cat(taken, dim=1)


def pair_blocks(first: Iterable[Tensor], second: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """The blocks (channels, samples) of one signal, each with as many samples of another one, which comes in its own.

    Raises:
        InputError: where the second is shorter.
    """
    echo = Echo(second)
    arriving = iter(echo)
    for block in first:
        while echo.held < block.shape[1] and next(arriving, None) is not None:
            pass
        if echo.held < block.shape[1]:
            raise InputError("what came back is shorter than the original")
        yield block, echo.take(block.shape[1])


def pad(signals: Tensor, stride: int) -> Tensor:
    """Repeat the last samples up to whole positions of `stride`: unlike reflection it works for one sample.

    signals: (batch, channels, *size) -> (batch, channels, *size rounded up).
    """
    missing = [-length % stride for length in signals.shape[2:]]
    if not any(missing):
        return signals
    widths = [width for length in reversed(missing) for width in (0, length)]
    return functional.pad(signals, widths, mode="replicate")


def crop(signals: Tensor, size: Sequence[int]) -> Tensor:
    """Leave off what `pad` added: signals (batch, channels, *longer) -> (batch, channels, *size)."""
    return signals[(..., *(slice(length) for length in size))]


def fit(signals: Tensor, size: Sequence[int]) -> Tensor:
    """signals: (batch, channels, *any) -> (batch, channels, *size): cropped, or filled up with their edge."""
    missing = [max(0, asked - length) for asked, length in zip(size, signals.shape[2:], strict=True)]
    if any(missing):
        widths = [width for length in reversed(missing) for width in (0, length)]
        signals = functional.pad(signals, widths, mode="replicate")
    return crop(signals, size)


def encode_windows(encode: Callable[[Tensor], Tensor], signals: Tensor, layout: Layout, stride: int) -> Tensor:
    """The latents (batch, *positions, dim) float32 of signals (batch, channels, *size) of whole positions.

    Args:
        encode: gives the latents of signals, computed at once.
        signals: padded to whole positions.
        layout: of the windows.
        stride: samples per position.
    """
    windows = layout.windows(signals.shape[2] // stride)
    return torch.cat([encode_window(encode, signals[:, :, w.samples(stride)], w) for w in windows], dim=1)


def encode_window(encode: Callable[[Tensor], Tensor], signals: Tensor, window: Window) -> Tensor:
    """The latents (batch, *kept, dim) float32 that a window keeps of its signals (batch, channels, *size)."""
    # A copy, because kernels may round differently where memory is aligned differently.
    return encode(signals.clone())[:, window.kept].float()
