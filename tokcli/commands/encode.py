"""`tok encode`: files become tokens, in a file that names its tokenizer, resumable after any interruption.

files -> source -> signals -> tokens -> token file
"""

import math
import pathlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from tokcli.artifacts.fingerprint import fingerprints_of
from tokcli.commands.devices import batch_size_for, pick_device
from tokcli.commands.models import Model, judged_size, open_model
from tokcli.contracts import Item, Rate, Source, Stream, rate_of
from tokcli.data.items import Failure, group_items, make_failure, read_items
from tokcli.data.modality import MODALITIES
from tokcli.errors import InputError, InterruptedRunError
from tokcli.metrics.tokens import count_tokens, empirical_bits, entropy_bits, packed_bits
from tokcli.progress import SILENT, Reporter
from tokcli.tokens import TokenHeader, TokenItem, TokenReader, TokenWriter, open_tokens, open_writer


@dataclass(frozen=True)
class Encoded:
    """A token file and its rate.

    grid: positions of every item, None where they differ. packed, empirical: the rate of tokens stored in log2 K
    bits, and in as many as the entropy of their frequencies.
    items_per_second: of this command, items resumed not counted.
    """

    output: pathlib.Path
    items: int
    failed: Sequence[Failure]
    tokens: int
    codebook_size: int
    grid: Sequence[int] | None
    dtype: str
    entropy_bits_per_token: float
    packed: Rate
    empirical: Rate
    items_per_second: float

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        plain = {name: value for name, value in asdict(self).items() if name not in ("packed", "empirical")}
        rates = {self.packed.unit: self.packed.value, f"{self.empirical.unit}_empirical": self.empirical.value}
        return plain | {"output": str(self.output)} | rates

    def rows(self) -> list[tuple[str, Any]]:
        """What a person wants to know."""
        grid = "×".join(map(str, self.grid)) if self.grid else "differs"
        unit = self.packed.unit.replace("_", " ")
        return [
            ("items", self.items),
            ("failed", len(self.failed)),
            ("tokens", self.tokens),
            ("grid", grid),
            ("codebook size", self.codebook_size),
            ("stored as", self.dtype),
            ("entropy, bits per token", self.entropy_bits_per_token),
            (f"{unit} (packed)", self.packed.value),
            (f"{unit} (empirical)", self.empirical.value),
            ("items per second", self.items_per_second),
        ]


def encode(
    inputs: Sequence[str],
    output: str,
    *,
    model: str | None = None,
    codebook: int | None = None,
    size: int | Literal["native"] | None = None,
    batch_size: int | None = None,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> Encoded:
    """Encode folders, files and lists into one token file.

    codebook: which of the built ones. size: items are resized and cropped to so many samples; native keeps each
    whole; None takes the size that the model's recipe judges at, and sounds whole.
    Items that cannot be read are listed in the result and in the file. Raises TokError where nothing can be done.
    """
    opened = open_model(model, pick_device(device), reporter, codebook)
    modality = MODALITIES[opened.artifact.tokenizer.modality]
    prepared = None if size == "native" else size or modality.default_size(judged_size(opened.artifact.recipe))
    source = modality.open_source(inputs, prepared, opened.artifact.tokenizer.autoencoder.sample_rate)
    if size is None and prepared is not None:
        reporter.note(f"items are resized and cropped to {prepared}; --size native keeps them whole, --size N sets it")
    header = header_of(opened, source)
    path = pathlib.Path(output)
    started = time.perf_counter()
    with open_writer(path, header, source.names, resume=resume, force=force) as writer:
        first = len(writer.done)
        if first:
            reporter.note(f"going on behind {first} items that were encoded before")
        try:
            _encode_rest(opened, source, writer, batch_size or batch_size_for(opened.device), reporter)
        except KeyboardInterrupt:
            done = f"{len(writer.done)} of {len(source)} items"
            raise InterruptedRunError(f"stopped after {done}; the same command with --resume goes on") from None
        seconds = time.perf_counter() - started
    return _summary(open_tokens(path), path, (len(source) - first) / seconds)


def _encode_rest(model: Model, source: Source, writer: TokenWriter, batch_size: int, reporter: Reporter) -> None:
    """Encode what the writer does not hold yet, in order."""
    first = len(writer.done)
    readings = read_items(source, start=first, streams=model.artifact.tokenizer.streams)
    with reporter.task("encoding", len(source), "items", done=first) as task:
        for group in group_items(readings, batch_size):
            encoded = _encoded(model, group)
            if isinstance(encoded, Failure):
                writer.fail(encoded.item, encoded.reason)
                reporter.note(f"cannot encode {encoded.item}: {encoded.reason}")
                task.advance()
                continue
            for item in encoded:
                writer.append(item.name, item.tokens, item.original_size, item.signal_size)
            task.advance(len(encoded))


def _encoded(model: Model, group: list[Item] | Stream | Failure) -> list[TokenItem] | Failure:
    """Tokens of what was read together; a failure passes through."""
    if isinstance(group, Failure):
        return group
    if isinstance(group, Stream):
        return encode_stream(model, group)
    return [
        TokenItem(item.name, tokens, item.original_size, tuple(item.signal.shape[1:]))
        for item, tokens in zip(group, encode_group(model, group), strict=True)
    ]


def encode_group(model: Model, group: Sequence[Item]) -> torch.Tensor:
    """Tokens (batch, *grid, groups) of items of one shape, on the CPU."""
    signals = torch.stack([item.signal for item in group]).to(model.device)
    return model.artifact.tokenizer.encode(signals).cpu()


def encode_stream(model: Model, stream: Stream) -> list[TokenItem] | Failure:
    """The one item that a stream is, read while it is encoded; its size is known at its end."""
    size = 0

    def counted() -> Iterator[torch.Tensor]:
        nonlocal size
        for block in stream.blocks():
            size += block.shape[1]
            yield block

    try:
        tokens = model.artifact.tokenizer.encode_stream(counted()).cpu()
    except InputError as error:
        return make_failure(stream.name, error)
    return [TokenItem(stream.name, tokens, (size,), (size,))]


def header_of(model: Model, source: Source) -> TokenHeader:
    """What a token file says about the tokenizer and about what was done to the signals."""
    tokenizer, recipe = model.artifact.tokenizer, model.artifact.recipe
    sums = fingerprints_of(tokenizer, recipe)
    return TokenHeader(
        codebook_size=tokenizer.quantizer.codebook_size,
        groups=tokenizer.quantizer.groups,
        modality=tokenizer.modality,
        network_fingerprint=sums.network,
        codebook_fingerprint=sums.codebook,
        weights=model.artifact.weights,
        preprocessing=dict(source.protocol()),
        sample_rate=tokenizer.autoencoder.sample_rate,
    )


def _summary(reader: TokenReader, path: pathlib.Path, items_per_second: float) -> Encoded:
    """Count over the whole file, so that a resumed encode reports what an uninterrupted one would."""
    header = reader.header
    counts, samples = None, 0
    for item in reader:
        counted = count_tokens(item.tokens, header.codebook_size)
        counts = counted if counts is None else counts + counted
        samples += math.prod(item.signal_size)
    return Encoded(
        output=path,
        items=len(reader),
        failed=reader.failed,
        tokens=int(counts.sum()),
        codebook_size=header.codebook_size,
        grid=reader.grid,
        dtype=str(header.dtype),
        entropy_bits_per_token=entropy_bits(counts),
        packed=rate_of(packed_bits(counts), samples, header.sample_rate),
        empirical=rate_of(empirical_bits(counts), samples, header.sample_rate),
        items_per_second=items_per_second,
    )
