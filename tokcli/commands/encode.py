"""`tok encode`: files become tokens, in a file that names its tokenizer, resumable after any interruption.

files -> source -> signals -> tokens -> token file
"""

import functools
import json
import math
import pathlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from tokcli.contracts import Item, Rate, Source, Stream, compute_rate
from tokcli.data.files import describe_skipped
from tokcli.data.image.views import COUNTS, ImageViews, Views
from tokcli.data.items import Failure, group_items, make_failure, read_items
from tokcli.errors import InputError, InterruptedRunError, UsageError
from tokcli.exchange.about import AboutItems
from tokcli.files import try_output
from tokcli.metrics.tokens import count_tokens, empirical_bits, entropy_bits, packed_bits
from tokcli.models import Model, open_model, pick_batch_size, pick_device
from tokcli.numerics import is_out_of_memory
from tokcli.progress import SILENT, FailureNotes, Reporter
from tokcli.tokens import TokenHeader, TokenReader, TokenWriter, format_of, has_header, open_tokens, open_writer


@dataclass(frozen=True)
class Encoded:
    """A token file and its rate.

    Attributes:
        output: the file.
        items: in it.
        failed: items that could not be read.
        tokens: of all items.
        codebook_size: values per token.
        grid: positions of every item, None where they differ.
        dtype: that tokens are stored in.
        entropy_bits_per_token: of how often each code occurs.
        packed: the rate of tokens stored in log2 K bits.
        empirical: the same in as many bits as the entropy of their frequencies.
        items_per_second: of this command, items resumed not counted.
        model: what decodes it: the run, the file or the shipped name.
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
    model: str

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        plain = {name: value for name, value in asdict(self).items() if name not in ("packed", "empirical", "model")}
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
    about: str | None = None,
    views: Views | None = None,
    batch_size: int | None = None,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> Encoded:
    """Encode folders, files, archives and lists into one token file.

    Items that cannot be read are listed in the result and in the file.

    Args:
        inputs: folders, files, archives and .txt lists of these.
        output: of the token file; its ending picks the format.
        model: a file, a run folder or a shipped name; None takes $TOK_MODEL, else the last finished run, else what is
            shipped for such files.
        codebook: which of the built ones, by its size.
        size: items are resized and cropped to so many samples; native keeps each whole; None takes the size that the
            model's recipe evaluates at, and audio whole.
        about: what to keep about each item: `folder`, the name of its folder as its label, or a CSV or JSONL file of
            labels, captions and more, joined by item name; None: what the data itself says.
        views: encode several views of each image, as items of their own: flip or ten-crop.
        batch_size: items at a time; None chooses by the device.
        resume: go on with an interrupted encode.
        force: overwrite.
        device: auto, cpu, cuda or mps.
        reporter: is told what happens.

    Raises:
        TokError: where nothing can be done.
    """
    path = pathlib.Path(output)
    format_of(path)  # a name of no format is refused before anything is opened
    try_output(path, folder=path.is_dir() or not path.suffix)
    opened = open_model(model, pick_device(device), reporter, codebook, inputs=inputs)
    known = AboutItems(about)
    source = _open_source(opened, inputs, None if size == "native" else size or opened.default_size, views)
    if (skipped := describe_skipped(source.files)) is not None:
        reporter.note(skipped)
    if size is None and opened.default_size is not None:
        _tell_size(opened.default_size, reporter)
    header = opened.describe_tokens(source.protocol())
    if resume and _is_complete(path, header, source.names, known):
        reporter.note(f"{path} is complete, there is nothing to do")
        return _summarize(open_tokens(path), path, 0.0, opened)
    started = time.perf_counter()
    with open_writer(path, header, source.names, resume=resume, force=force, about=known.digest) as writer:
        first = len(writer.done)
        if writer.abandoned_by:
            reporter.note(f"the lock of a command that was killed is taken over: {writer.abandoned_by}")
        if first:
            reporter.note(f"going on behind {first} items that were encoded before")
        try:
            _encode_rest(opened, source, writer, known, batch_size or pick_batch_size(opened.device), reporter)
        except KeyboardInterrupt:
            done = f"{len(writer.done)} of {len(source)} items"
            raise InterruptedRunError(f"stopped after {done}; the same command with --resume goes on") from None
        seconds = time.perf_counter() - started
    return _summarize(open_tokens(path), path, (len(source) - first) / seconds, opened)


def _is_complete(path: pathlib.Path, header: TokenHeader, names: Sequence[str], known: AboutItems) -> bool:
    """Whether `path` holds what this encode would write, and nothing is under way to replace it.

    Raises:
        UsageError: where it holds something else, which no resuming changes.
    """
    if not path.exists() or path.with_name(f".{path.name}.partial").exists() or not has_header(path):
        return False
    reader = open_tokens(path)
    same = json.dumps(reader.header.to_json()) == json.dumps(header.to_json())
    told = all(known.find(record.item, record.about) == record.about for record in reader.records)
    held = {record.item for record in reader.records} | {each.item for each in reader.failed}
    if same and told and held == set(names):
        return True
    what = ("other items" if told else "other labels") if same else "another tokenizer or other settings"
    raise UsageError(f"{path} is complete, and of {what}: overwrite it with --force, or choose another name")


def _tell_size(size: int, reporter: Reporter) -> None:
    reporter.note(f"items are resized and cropped to {size}; --size native keeps them whole, --size N sets it")


def _open_source(model: Model, inputs: Sequence[str], size: int | None, views: Views | None) -> Source:
    """The files as the model takes them, or several views of each."""
    if views is None:
        return model.open_source(inputs, size)
    if views not in COUNTS:
        raise UsageError(f"--views: expected {' or '.join(COUNTS)}, got '{views[:40]}'")
    if model.modality.name != "image":
        raise UsageError(f"--views are of pictures, and {model.name} encodes {model.modality.nouns[1]}")
    return ImageViews(list(inputs), size, views)


def _encode_rest(
    model: Model, source: Source, writer: TokenWriter, known: AboutItems, batch_size: int, reporter: Reporter
) -> None:
    """Encode what the writer does not hold yet, in order."""
    first = len(writer.done)
    notes = FailureNotes(reporter, "the token file lists all of them with their reasons")
    readings = read_items(source, start=first, streams=model.tokenizer.streams)
    with reporter.task("encoding", len(source), "items", done=first) as task:
        for group in group_items(readings, batch_size):
            if isinstance(group, list):
                for item, tokens in zip(group, encode_what_fits(model, group), strict=True):
                    failure = tokens if isinstance(tokens, Failure) else _append(item, tokens, writer, known)
                    if failure is not None:
                        _leave_out(failure, writer, notes)
                task.advance(len(group))
                continue
            failure = encode_stream(model, group, writer, known) if isinstance(group, Stream) else group
            if failure is not None:
                _leave_out(failure, writer, notes)
            task.advance()


def _append(item: Item, tokens: torch.Tensor, writer: TokenWriter, known: AboutItems) -> Failure | None:
    """Append an item; or why it is left out: it lacks what others have."""
    try:
        about = known.find(item.name, item.about, item.lacks)
    except InputError as error:
        return Failure(item.name, str(error))
    writer.append(item.name, tokens, item.original_size, item.signal.shape[1:], about)
    return None


def _leave_out(failure: Failure, writer: TokenWriter, notes: FailureNotes) -> None:
    writer.fail(failure.item, failure.reason)
    notes.add(f"cannot encode {failure.item}: {failure.reason}")


def encode_what_fits(model: Model, group: Sequence[Item]) -> Iterator[torch.Tensor | Failure]:
    """The tokens of each item of one shape; where memory is short, item by item, or why one has none."""
    try:
        tokens = encode_group(model, group)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        tokens = None
    if tokens is not None:
        yield from tokens
    elif len(group) > 1:
        for item in group:
            yield from encode_what_fits(model, [item])
    else:
        size = "×".join(map(str, group[0].signal.shape[1:]))
        yield Failure(group[0].name, f"there is not enough memory to encode it at {size}; give it a --size")


def encode_group(model: Model, group: Sequence[Item]) -> torch.Tensor:
    """Tokens (batch, *grid, groups) of items of one shape, on the CPU."""
    signals = torch.stack([item.signal for item in group]).to(model.device)
    return model.tokenizer.encode(signals).cpu()


def encode_stream(model: Model, stream: Stream, writer: TokenWriter, known: AboutItems) -> Failure | None:
    """Append the item that a stream is, which is read while it is encoded; or what went wrong with it.

    Its size is known at its end.
    """
    size = 0

    def count_samples() -> Iterator[torch.Tensor]:
        nonlocal size
        for block in stream.blocks():
            size += block.shape[1]
            yield block

    try:
        about = known.find(stream.name, stream.about, stream.lacks)
        tokens = model.tokenizer.encode_stream(count_samples()).cpu()
    except InputError as error:
        return make_failure(stream.name, error)
    writer.append(stream.name, tokens, (size,), (size,), about)
    return None


def _summarize(reader: TokenReader, path: pathlib.Path, items_per_second: float, model: Model) -> Encoded:
    """Count over the whole file, so that a resumed encode reports what an uninterrupted one would."""
    header = reader.header
    counts = functools.reduce(torch.add, (count_tokens(item.tokens, header.codebook_size) for item in reader))
    samples = sum(math.prod(record.signal_size) for record in reader.records)
    return Encoded(
        output=path,
        items=len(reader),
        failed=reader.failed,
        tokens=int(counts.sum()),
        codebook_size=header.codebook_size,
        grid=reader.grid,
        dtype=str(header.dtype),
        entropy_bits_per_token=entropy_bits(counts),
        packed=compute_rate(packed_bits(counts), samples, header.sample_rate),
        empirical=compute_rate(empirical_bits(counts), samples, header.sample_rate),
        items_per_second=items_per_second,
        model=model.short_name,
    )
