"""`tok encode`: files become tokens, in a file that names its tokenizer, resumable after any interruption.

files -> source -> signals -> tokens -> token file
"""

import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any, Literal

from tokcli.commands.encode_items import encode_items
from tokcli.commands.encode_shards import EncodingWork, begin_folder, finish_folder, open_output, read_progress
from tokcli.commands.encoded import Encoded, summarize
from tokcli.commands.shard_encoder import Encoding
from tokcli.contracts import Source
from tokcli.data.files import describe_skipped
from tokcli.data.image.views import COUNTS, ImageViews, Views
from tokcli.data.places import is_remote
from tokcli.data.readers import Readers
from tokcli.errors import InterruptedRunError, UsageError
from tokcli.exchange.about import AboutItems
from tokcli.files import try_output
from tokcli.models import Model, compile_and_compare, open_model, pick_batch_size, pick_own_device
from tokcli.progress import SILENT, FailureNotes, Reporter
from tokcli.shards.plan import PLAN
from tokcli.shards.share import read_share
from tokcli.shards.work import Progress, see_done
from tokcli.tokens import TokenHeader, format_of, has_header, open_tokens, open_writer
from tokcli.tokens.shards import Shards


def encode(
    inputs: Sequence[str],
    output: str,
    *,
    model: str | None = None,
    codebook: int | None = None,
    groups: int | None = None,
    size: int | Literal["native"] | None = None,
    about: str | None = None,
    views: Views | None = None,
    batch_size: int | None = None,
    processes: int | None = None,
    shard: str | None = None,
    shard_items: int | None = None,
    status: bool = False,
    finish: bool = False,
    resume: bool = False,
    force: bool = False,
    compiled: bool = False,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> Encoded | Progress:
    """Encode folders, files, archives and lists into one token file.

    Items that cannot be read are listed in the result and in the file. A folder is written shard by shard, by any
    number of these at the same time, on any machines that share the disk; one that was interrupted goes on.

    Args:
        inputs: folders, files, archives and .txt lists of these.
        output: of the token file; its ending picks the format.
        model: a file, a run folder or a shipped name; None takes $TOK_MODEL, else the last finished run, else what is
            shipped for such files.
        codebook: which of the built ones, by its size.
        groups: encode to so many of the first tokens of a position, where the model has several; None: to all.
        size: items are resized and cropped to so many samples; native keeps each whole; None takes the size that the
            model's recipe evaluates at, and audio whole.
        about: what to keep about each item: `folder`, the name of its folder as its label, or a CSV or JSONL file of
            labels, captions and more, joined by item name; None: what the data itself says.
        views: encode several views of each image, as items of their own: flip or ten-crop.
        batch_size: items at a time; None chooses by the device.
        processes: of a folder, how many of this machine make its shards; the command line starts them.
        shard: of a folder, which of its shards this one makes: I/N takes every N-th from I on, `auto` asks what started
            it (Slurm, Kubernetes, torchrun); None: whatever nobody else is at, until all are done.
        shard_items: of a folder, the items of each shard; None chooses by how many items there are.
        status: of a folder, say how far it is, and do nothing.
        finish: of a folder whose shards are all done, make it one token file.
        resume: go on with an interrupted encode.
        force: overwrite.
        compiled: compile the network first, and say how many tokens of the first items are others by that.
        device: auto, cpu, cuda or mps.
        reporter: is told what happens.

    Raises:
        TokError: where nothing can be done.
    """
    path = pathlib.Path(output)
    # A name of no format is refused before anything is opened.
    in_shards = isinstance(format_of(path), Shards)
    _require_folder(output, in_shards)
    share = read_share(shard)
    if (shard or shard_items or status or finish or (processes or 1) > 1) and not in_shards:
        raise UsageError(
            f"{path} is one file; --processes, --shard, --shard-items, --status and --finish are of a folder, "
            f"such as -o {path.with_suffix('')}"
        )
    if status or finish:
        return finish_folder(open_output(output)) if finish else read_progress(open_output(output))
    how = {
        "model": model,
        "codebook": codebook,
        "groups": groups,
        "size": size,
        "about": about,
        "views": views,
        "compiled": compiled,
        "device": device,
    }
    if in_shards and not (resume and path.exists() and not (path / PLAN).exists()):
        shape = {"batch_size": batch_size, "shard_items": shard_items, "force": force}
        begun = begin_encoding(inputs, output, **how, **shape, reporter=reporter)
        return see_done(begun, share.of(begun.ledger.plan.shards))
    try_output(path, folder=path.is_dir())
    work = open_encoding(inputs, **how, reporter=reporter)
    opened, source, known = work.model, work.source, work.known
    if resume and _is_complete(path, opened.describe_tokens(source.protocol()), source.names, known):
        reporter.note(f"{path} is complete, there is nothing to do")
        return summarize(open_tokens(path), 0.0, opened.short_name)
    if in_shards:
        ledger = begin_folder(work, open_output(output), batch_size=batch_size, shard_items=shard_items, force=force)
        return see_done(EncodingWork(work, ledger), share.of(ledger.plan.shards))
    return _encode_into_file(opened, source, path, known, batch_size, resume, force, reporter)


def open_encoding(
    inputs: Sequence[str],
    *,
    model: str | None = None,
    codebook: int | None = None,
    groups: int | None = None,
    size: int | Literal["native"] | None = None,
    about: str | None = None,
    views: Views | None = None,
    compiled: bool = False,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> Encoding:
    """What is to be encoded, and the model for it, by the arguments of `encode`. Raises TokError as that does."""
    opened = open_model(model, pick_own_device(device), reporter, codebook, inputs=inputs)
    opened = opened if groups is None else opened.with_groups(groups)
    known = AboutItems(about)
    source = _open_source(opened, inputs, None if size == "native" else size or opened.default_size, views)
    if (skipped := describe_skipped(source.files)) is not None:
        reporter.note(skipped)
    if size is None and opened.default_size is not None:
        _tell_size(opened.default_size, reporter)
    if compiled:
        compile_and_compare(opened, source, reporter)
    return Encoding(opened, source, known, inputs, reporter, compiled)


def begin_encoding(
    inputs: Sequence[str],
    output: str,
    *,
    batch_size: int | None,
    shard_items: int | None,
    force: bool,
    reporter: Reporter,
    **arguments: Any,
) -> EncodingWork:
    """The work on a folder, with no shard encoded yet: for workers started elsewhere.

    Raises:
        TokError: as `encode` does; its other arguments are `arguments`.
    """
    if not is_remote(output):
        try_output(pathlib.Path(output), folder=True)
    work = open_encoding(inputs, **arguments, reporter=reporter)
    how = {"batch_size": batch_size, "shard_items": shard_items, "force": force}
    return EncodingWork(work, begin_folder(work, open_output(output), **how))


def _require_folder(output: str, in_shards: bool) -> None:
    """Raises UsageError for a file that is to be elsewhere than on a disk."""
    if is_remote(output) and not in_shards:
        raise UsageError(f"{output}: elsewhere than on a disk tokens are a folder, such as {output.rpartition('.')[0]}")


def _encode_into_file(
    model: Model,
    source: Source,
    path: pathlib.Path,
    known: AboutItems,
    batch_size: int | None,
    resume: bool,
    force: bool,
    reporter: Reporter,
) -> Encoded:
    """Encode all items, or those that an interrupted encode did not come to, into one file."""
    header = model.describe_tokens(source.protocol())
    started = time.perf_counter()
    with open_writer(path, header, source.names, resume=resume, force=force, about=known.digest) as writer:
        first = len(writer.done)
        if writer.abandoned_by:
            reporter.note(f"the lock of a command that was killed is taken over: {writer.abandoned_by}")
        if first:
            reporter.note(f"going on behind {first} items that were encoded before")
        notes = FailureNotes(reporter, "the token file lists all of them with their reasons")
        rest, at_once = range(len(source))[first:], batch_size or pick_batch_size(model.device)
        try:
            with reporter.task("encoding", len(source), "items", done=first) as task:
                encode_items(model, source, rest, writer, known, at_once, notes, task, Readers())
        except KeyboardInterrupt:
            done = f"{len(writer.done)} of {len(source)} items"
            raise InterruptedRunError(f"stopped after {done}; the same command with --resume goes on") from None
        seconds = time.perf_counter() - started
    return summarize(open_tokens(path), (len(source) - first) / seconds, model.short_name)


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
