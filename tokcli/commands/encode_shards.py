"""`tok encode -o FOLDER`: shards by a plan that any number of workers share, wherever they run.

plan -> a shard nobody is at -> its items -> signals -> tokens -> the shard, and its record -> the next one
"""

import contextlib
import pathlib
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from tokcli.commands.encode_items import encode_items
from tokcli.commands.encoded import Encoded, summarize
from tokcli.contracts import Source
from tokcli.data.items import Failure, default_workers
from tokcli.errors import InputError, InterruptedRunError, MismatchError, TokError
from tokcli.exchange.about import AboutItems
from tokcli.models import Model, pick_batch_size
from tokcli.progress import FailureNotes, Reporter, Task
from tokcli.shards.ledger import Ledger, NotDone, Record, Status, begin, clear_shards
from tokcli.shards.plan import PLAN, make_plan, read_plan
from tokcli.shards.share import Share
from tokcli.shards.workers import count_local, joins, tell_begun
from tokcli.tokens import TokenHeader, open_tokens
from tokcli.tokens.header import TokenRecord
from tokcli.tokens.manifest import MANIFEST, Shard, add_up, read_tally, write_manifest
from tokcli.tokens.shards import clear_manifest
from tokcli.tokens.stacked import write_shard
from tokcli.tokens.tally import Tally
from tokcli.tokens.writing import check_tokens


@dataclass(frozen=True)
class Progress:
    """How far a folder of shards is.

    Attributes:
        output: the folder.
        status: of its shards.
    """

    output: pathlib.Path
    status: Status
    failed: Sequence[Failure] = ()

    @property
    def next_step(self) -> str:
        """A command that goes on from here."""
        if self.status.finished:
            return f"tok info {self.output}"
        whole = self.status.done == self.status.shards
        return f"tok encode -o {self.output} --{'finish' if whole else 'status'}"

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {"output": str(self.output), **asdict(self.status)}

    def rows(self) -> list[tuple[str, Any]]:
        """What a person wants to know."""
        status = self.status
        return [
            ("shards", status.shards),
            ("done", status.done),
            ("claimed by a worker", status.claimed),
            ("claimed by a dead one", status.expired),
            ("missing", status.missing),
            ("items done", f"{status.items + status.failed} of {status.all_items}"),
            ("failed", status.failed),
            ("finished", "yes" if status.finished else "no"),
        ]


@dataclass(frozen=True)
class Encoding:
    """What is encoded, and by what: the same for every worker.

    Attributes:
        model: that encodes.
        source: of the items.
        known: what is kept about them.
        inputs: as they were typed.
        reporter: is told what happens.
    """

    model: Model
    source: Source
    known: AboutItems
    inputs: Sequence[str]
    reporter: Reporter


class ShardContent:
    """The items of one shard, held until all are there.

    Args:
        header: of their tokens.
    """

    def __init__(self, header: TokenHeader) -> None:
        self._header = header
        self.records: list[TokenRecord] = []
        self.failures: list[Failure] = []
        self.tokens: list[np.ndarray] = []

    def append(
        self,
        name: str,
        tokens: torch.Tensor,
        original_size: Sequence[int],
        signal_size: Sequence[int],
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Take the next item. tokens: (*grid, groups)."""
        values = check_tokens(name, tokens, self._header).astype(self._header.dtype)
        sizes = tuple(map(int, original_size)), tuple(map(int, signal_size))
        self.records.append(TokenRecord(name, values.shape[:-1], *sizes, dict(about or {})))
        self.tokens.append(values)

    def fail(self, name: str, reason: str) -> None:
        """Take the news that the next item cannot be encoded."""
        self.failures.append(Failure(name, reason))


class ShardEncoder:
    """Encodes shards of a plan, one after the other: what a worker is, however it was started.

    Args:
        work: what is encoded, and by what.
        ledger: of the plan.
    """

    def __init__(self, work: Encoding, ledger: Ledger) -> None:
        self._work = work
        self._ledger = ledger
        self._header = _read_header(ledger)
        self._notes = FailureNotes(work.reporter, "the shards list all of them with their reasons")

    def encode(self, shard: int, task: Task) -> int:
        """Encode a shard and publish it; how many items that were.

        Raises:
            MismatchError: where its inputs are not those of the plan any more.
        """
        started = time.perf_counter()
        work, plan, content = self._work, self._ledger.plan, ShardContent(self._header)
        span = plan.span(shard)
        at_once, readers = plan.work["batch_size"], default_workers(len(span), count_local())
        encode_items(work.model, work.source, span, content, work.known, at_once, self._notes, task, readers)
        if work.source.mark(span) != plan.marks[shard]:
            raise MismatchError(
                f"{self._ledger.folder}: the inputs of shard {shard} changed while they were encoded; bring them "
                "back, or start over with --force"
            )
        seconds = time.perf_counter() - started
        self._ledger.publish(shard, lambda path: self._write(path, shard, content, seconds))
        return len(span)

    def _write(self, path: pathlib.Path, shard: int, content: ShardContent, seconds: float) -> Record:
        tally = Tally(self._header)
        tally.add(content.records, content.tokens)
        written = write_shard(path, self._header, content.records, content.failures, content.tokens)
        return Record(
            plan=self._ledger.plan.digest,
            shard=shard,
            items=len(content.records),
            failed=[asdict(failure) for failure in content.failures],
            bytes=written.bytes,
            sha256=written.sha256,
            facts=tally.to_json(),
            device=describe_device(self._work.model.device),
            host=platform.node(),
            seconds=round(seconds, 3),
        )


def encode_into_folder(work: Encoding, ledger: Ledger, share: Share) -> Encoded | Progress:
    """Do a worker's share of a folder of tokens, and finish the folder where nothing is left to do.

    Args:
        work: what is encoded, and by what.
        ledger: of the folder, as `begin_folder` made it.
        share: the worker's.

    Raises:
        MismatchError: where the folder was begun anew, or its inputs changed.
        InputError: where none of the items could be encoded.
    """
    folder, reporter = ledger.folder, work.reporter
    encoder = ShardEncoder(work, ledger)
    started, encoded = time.perf_counter(), 0
    own: Sequence[int] = share.of(ledger.plan.shards)
    try:
        while not (folder / MANIFEST).exists():
            done = sum(len(ledger.plan.span(shard)) for shard in ledger.list_done())
            with reporter.task("encoding", ledger.plan.items, "items", done=done) as task:
                for shard in ledger.pull(own, reporter.note):
                    encoded += encoder.encode(shard, task)
            if len(ledger.list_done()) < ledger.plan.shards:
                return Progress(folder, ledger.describe(finished=False))
            damaged = finish_ledger(ledger)
            if damaged is not None:
                reporter.note(f"shard {damaged} of {folder} is damaged, and is made again")
                own = range(ledger.plan.shards)
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            done = len(ledger.list_done())
            raise InterruptedRunError(
                f"stopped after {done} of {ledger.plan.shards} shards; the same command goes on"
            ) from None
        raise
    if not encoded:
        reporter.note(f"{folder} is complete, there is nothing to do")
    return summarize_folder(folder, encoded / (time.perf_counter() - started), work.model.short_name)


def begin_folder(
    work: Encoding, folder: pathlib.Path, *, batch_size: int | None, shard_items: int | None, force: bool
) -> Ledger:
    """The ledger of a folder, whose plan is made where there is none.

    Args:
        work: what is to be encoded, and by what.
        folder: that is written.
        batch_size: items at a time; None: as the folder was begun, else by the device.
        shard_items: items in each shard; None: as the folder was begun, else by how many there are.
        force: start over.

    Raises:
        MismatchError: where the folder is of another plan.
    """
    force = force and not joins()
    begun = read_plan(folder) if (folder / PLAN).exists() and not force else None
    header = work.model.describe_tokens(work.source.protocol())
    if begun is not None:  # what nobody asked for now is as it was then
        batch_size = batch_size or begun.work.get("batch_size")
        shard_items = shard_items or begun.shard_items
    at_once = batch_size or pick_batch_size(work.model.device)
    settings = {"about": work.known.digest, "batch_size": at_once}
    plan = make_plan({"command": "encode", **header.to_json(), **settings}, work.inputs, work.source, shard_items)
    ledger, joined = begin(folder, plan, force, lambda: _clear(folder))
    tell_begun()
    if joined and (done := len(ledger.list_done())):
        work.reporter.note(f"going on with {folder}: {done} of {plan.shards} shards are done")
    return ledger


def read_progress(folder: pathlib.Path) -> Progress:
    """How far a folder is. Raises InputError where nothing was begun there, MismatchError for a damaged plan."""
    return Progress(folder, Ledger(folder, read_plan(folder)).describe((folder / MANIFEST).exists()))


def finish_folder(folder: pathlib.Path) -> Encoded:
    """Make a folder whose shards are done a token file.

    Raises:
        InputError: where shards are missing, or nothing was begun there.
        MismatchError: where what is there is damaged.
    """
    ledger = Ledger(folder, read_plan(folder))
    missing = ledger.plan.shards - len(ledger.list_done())
    if missing and not (folder / MANIFEST).exists():
        raise InputError(
            f"{folder} cannot be finished yet: {missing} of its {ledger.plan.shards} shards are missing; the command "
            "that began it makes them"
        )
    damaged = finish_ledger(ledger)
    if damaged is not None:
        raise MismatchError(f"{folder}: shard {damaged} is damaged; the command that began it makes it again")
    return summarize_folder(folder, 0.0, _read_header(ledger).model or "MODEL")


def finish_ledger(ledger: Ledger) -> int | None:
    """Write the manifest of a folder whose shards are done; the first that is damaged, or None.

    Raises:
        InputError: where none of the items could be encoded; the folder is as it was before.
    """
    header, folder = _read_header(ledger), ledger.folder
    first: list[Mapping[str, str]] = []

    def write(records: Iterator[Record]) -> None:
        def take() -> Iterator[tuple[Shard, Any]]:
            for record in records:
                first.extend(record.failed[: 1 - len(first)])
                line = Shard(
                    ledger.output(record.shard).name, record.items, len(record.failed), record.bytes, record.sha256
                )
                try:
                    Tally(header).add_json(record.items, record.facts)
                except ValueError:
                    raise NotDone(record.shard) from None
                yield line, record.facts

        lines, tally = add_up(header, take())
        if not tally.items:
            raise InputError(
                f"none of the {ledger.plan.items} items could be encoded; the first, {first[0]['item']}: "
                f"{first[0]['reason']}"
            )
        write_manifest(folder, header, lines, tally)

    try:
        return ledger.finish(write, (folder / MANIFEST).exists)
    except InputError:
        (folder / PLAN).unlink(missing_ok=True)
        _clear(folder)
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise


def summarize_folder(folder: pathlib.Path, items_per_second: float, model: str) -> Encoded:
    """What a finished folder holds, by its manifest alone."""
    _, tally, _ = read_tally(folder)
    return summarize(open_tokens(folder), items_per_second, model, tally.counts, tally.samples)


def describe_device(device: torch.device) -> str:
    """The device by the name of its maker, which its tokens can depend on."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _read_header(ledger: Ledger) -> TokenHeader:
    work = ledger.plan.work
    if work.get("command") != "encode":
        raise TokError(f"{ledger.folder} is no folder of tokens: its plan is of tok {work.get('command')}")
    return TokenHeader.from_json(work, ledger.folder / PLAN)


def _clear(folder: pathlib.Path) -> None:
    clear_manifest(folder)
    clear_shards(folder)
