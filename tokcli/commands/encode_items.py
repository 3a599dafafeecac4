"""Items of a source become tokens, one after the other, in whatever takes them: a token file or a shard."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch

from tokcli.commands.copying import find_way, pack_batch, send_ahead, unpack_batch
from tokcli.contracts import Item, Source, Stream
from tokcli.data.items import Failure, Unreached, make_failure
from tokcli.data.places import Troubles
from tokcli.data.readers import Readers
from tokcli.errors import InputError, UnreachableError
from tokcli.exchange.about import AboutItems
from tokcli.models import Model
from tokcli.numerics import is_out_of_memory
from tokcli.progress import FailureNotes, Task


class TakesTokens(Protocol):
    """What becomes of encoded items, in their order."""

    def append(
        self,
        name: str,
        tokens: torch.Tensor,
        original_size: Sequence[int],
        signal_size: Sequence[int],
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Take the next item. tokens: (*grid, groups)."""
        ...

    def fail(self, name: str, reason: str) -> None:
        """Take the news that the next item cannot be encoded."""
        ...


def encode_items(
    model: Model,
    source: Source,
    indices: Sequence[int],
    writer: TakesTokens,
    known: AboutItems,
    batch_size: int,
    notes: FailureNotes,
    task: Task,
    readers: Readers,
    again: bool = False,
) -> None:
    """Encode some items of a source, in order.

    Args:
        model: that encodes them.
        source: of the items.
        indices: which.
        writer: takes them.
        known: what is kept about them.
        batch_size: items at a time.
        notes: is told of those that cannot be read.
        task: is told how far it is.
        readers: read them.
        again: whether all of them are encoded again where something that holds one cannot be read now; else it is left
            out, as one that is damaged.

    Raises:
        UnreachableError: with `again`, where something cannot be read now.
    """
    groups, way = readers.read(source, indices, batch_size, model.codec.streams), find_way(model.device)
    for group, sent in ((group, None) for group in groups) if way is None else send_ahead(groups, way, batch_size):
        if isinstance(group, list):
            batch = None if way is None or sent is None else unpack_batch(way, sent)
            for item, tokens in zip(group, encode_what_fits(model, group, batch_size, batch), strict=True):
                failure = tokens if isinstance(tokens, Failure) else _append(item, tokens, writer, known)
                if failure is not None:
                    _leave_out(failure, writer, notes, again)
            task.advance(len(group))
            continue
        failure = encode_stream(model, group, writer, known) if isinstance(group, Stream) else group
        if failure is not None:
            _leave_out(failure, writer, notes, again)
        task.advance()


def _append(item: Item, tokens: torch.Tensor, writer: TakesTokens, known: AboutItems) -> Failure | None:
    """Append an item; or why it is left out: it lacks what others have."""
    try:
        about = known.find(item.name, item.about, item.lacks)
    except InputError as error:
        return Failure(item.name, str(error))
    writer.append(item.name, tokens, item.original_size, item.signal.shape[1:], about)
    return None


def _leave_out(failure: Failure, writer: TakesTokens, notes: FailureNotes, again: bool) -> None:
    if again and isinstance(failure, Unreached):
        raise UnreachableError(f"{failure.item}: {failure.reason}")
    writer.fail(failure.item, failure.reason)
    notes.add(f"cannot encode {failure.item}: {failure.reason}")


def encode_what_fits(
    model: Model, group: Sequence[Item], batch_size: int, batch: torch.Tensor | None = None
) -> Iterator[torch.Tensor | Failure]:
    """The tokens of each item of one shape; where memory is short, item by item, or why one has none."""
    try:
        tokens = encode_group(model, group, batch_size, batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        tokens = None
    if tokens is not None:
        yield from tokens
    elif len(group) > 1:
        del batch
        for item in group:
            yield from encode_what_fits(model, [item], 1)
    else:
        size = "×".join(map(str, group[0].signal.shape[1:]))
        yield Failure(group[0].name, f"there is not enough memory to encode it at {size}; give it a --size")


def encode_group(
    model: Model, group: Sequence[Item], batch_size: int, batch: torch.Tensor | None = None
) -> torch.Tensor:
    """Tokens (batch, *grid, groups) of items of one shape, on the CPU.

    Args:
        model: that encodes them.
        group: the items.
        batch_size: of all batches on a GPU.
        batch: their signals on the device, where they were sent ahead.
    """
    if batch is None:
        way = find_way(model.device)
        if way is None:
            batch = torch.stack([item.signal for item in group])
        else:
            batch = unpack_batch(way, way.send(pack_batch(group, batch_size)))
    return model.codec.encode(batch)[: len(group)].cpu()


def encode_stream(model: Model, stream: Stream, writer: TakesTokens, known: AboutItems) -> Failure | None:
    """Append the item that a stream is, which is read while it is encoded; or what went wrong with it.

    Its size is known at its end.
    """
    size, before = 0, Troubles.count

    def count_samples() -> Iterator[torch.Tensor]:
        nonlocal size
        for block in stream.blocks():
            size += block.shape[1]
            yield block

    try:
        about = known.find(stream.name, stream.about, stream.lacks)
        tokens = model.codec.encode_stream(count_samples()).cpu()
    except InputError as error:
        return make_failure(stream.name, error, before)
    writer.append(stream.name, tokens, (size,), (size,), about)
    return None
