"""Batches on their way to a GPU: the next one is copied while this one is computed."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from tokcli.contracts import Item, Stream
from tokcli.data.items import Failure
from tokcli.numerics import pack_levels, unpack_levels

Group = list[Item] | Stream | Failure


class Way(Protocol):
    """To where signals are computed, for those that need one."""

    def send(self, signals: Tensor) -> Tensor:
        """Begin to copy a packed batch, and do not wait."""
        ...

    def receive(self, sent: Tensor) -> Tensor:
        """The batch, for work that is queued from now on."""
        ...


class CudaWay:
    """By pinned memory and a stream of its own, beside the one that computes.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def send(self, signals: Tensor) -> Tensor:
        """As declared."""
        with torch.cuda.stream(self._stream):
            return signals.pin_memory().to(self._device, non_blocking=True)

    def receive(self, sent: Tensor) -> Tensor:
        """As declared; nothing waits but the device."""
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._stream)
        sent.record_stream(computing)  # its memory is not reused before that work is done
        return sent


class PlainWay:
    """A copy that is waited for.

    Args:
        device: that has no streams here.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def send(self, signals: Tensor) -> Tensor:
        """As declared, but for the waiting."""
        return signals.to(self._device)

    def receive(self, sent: Tensor) -> Tensor:
        """As declared."""
        return sent


def find_way(device: torch.device) -> Way | None:
    """The way to a device; None for a CPU, where signals are already."""
    if device.type == "cpu":
        return None
    return CudaWay(device) if device.type == "cuda" else PlainWay(device)


def pack_batch(group: Sequence[Item], size: int) -> Tensor:
    """Signals of one shape as they travel: (size, channels, *size), packed, the first one repeated where few came.

    All batches on a GPU have one size, so that the same kernels compute an item whatever came with it.
    """
    return fill_batch(pack_levels(torch.stack([item.signal for item in group])), size)


def fill_batch(signals: Tensor, size: int) -> Tensor:
    """Signals (batch, channels, *size) with the first one repeated until there are `size`."""
    return torch.cat([signals, signals[:1].expand(size - len(signals), *signals.shape[1:])])


def unpack_batch(way: Way, sent: Tensor) -> Tensor:
    """The signals of a batch that was sent, as floats."""
    return unpack_levels(way.receive(sent))


def send_ahead(groups: Iterator[Group], way: Way, size: int) -> Iterator[tuple[Group, Tensor | None]]:
    """Groups in order, each batch with what was sent of it; the one behind it is on its way by then.

    Args:
        groups: as they are read.
        way: to the device.
        size: of all batches.
    """
    former: tuple[Group, Tensor | None] | None = None
    for group in groups:
        sent = way.send(pack_batch(group, size)) if isinstance(group, list) else None
        if former is not None:
            yield former
        former = group, sent
    if former is not None:
        yield former
