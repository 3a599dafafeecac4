"""`tok encode -o FOLDER`: shards by a plan that any number of workers share, wherever they run.

plan -> a shard nobody is at -> its items -> signals -> tokens -> the shard, and its record -> the next one
"""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tokcli.commands.encoded import Encoded, describe_encoded, summarize
from tokcli.commands.shard_encoder import Encoding, ShardEncoder, read_header_of
from tokcli.data.items import Failure
from tokcli.data.places import is_remote
from tokcli.data.remote_folder import RemoteFolder
from tokcli.errors import InputError, InterruptedRunError, MismatchError, UsageError
from tokcli.models import pick_batch_size
from tokcli.progress import Task
from tokcli.shards.folder import Folder, LocalFolder
from tokcli.shards.ledger import Ledger, NotDone, Record, Status, begin, clear_shards
from tokcli.shards.plan import PLAN, make_plan, read_plan
from tokcli.shards.share import Share
from tokcli.shards.workers import joins, tell_begun
from tokcli.tokens import TokenHeader, open_tokens
from tokcli.tokens.manifest import MANIFEST, Shard, add_up, read_tally, write_manifest
from tokcli.tokens.shards import Shards, clear_manifest
from tokcli.tokens.tally import Tally, is_counted


@dataclass(frozen=True)
class Progress:
    """How far a folder of shards is.

    Attributes:
        output: the folder.
        status: of its shards.
    """

    output: Folder
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
    encoder = ShardEncoder(work, ledger)

    def encode(shards: Sequence[int], task: Task) -> int:
        return sum(encoder.encode(shard, task) for shard in ledger.pull(shards, work.reporter.note))

    return see_done(work, ledger, share.of(ledger.plan.shards), encode)


def see_done(
    work: Encoding, ledger: Ledger, own: Sequence[int], encode: Callable[[Sequence[int], Task], int]
) -> Encoded | Progress:
    """Have shards encoded, by whomever, and finish the folder where nothing is left to do.

    Args:
        work: what is encoded, and by what.
        ledger: of the folder.
        own: the shards that are to be done.
        encode: does them, and says how many items it encoded.

    Raises:
        TokError: as `encode_into_folder` does.
    """
    folder, started, encoded = ledger.folder, time.perf_counter(), 0
    try:
        while not folder.exists(MANIFEST):
            done = sum(len(ledger.plan.span(shard)) for shard in ledger.list_done())
            with work.reporter.task("encoding", ledger.plan.items, "items", done=done) as task:
                encoded += encode(own, task)
            if len(ledger.list_done()) < ledger.plan.shards:
                return Progress(folder, ledger.describe(finished=False))
            damaged = finish_ledger(ledger)
            if damaged is not None:
                work.reporter.note(f"shard {damaged} of {folder} is damaged, and is made again")
                own = range(ledger.plan.shards)
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            done = len(ledger.list_done())
            raise InterruptedRunError(
                f"stopped after {done} of {ledger.plan.shards} shards; the same command goes on"
            ) from None
        raise
    if not encoded:
        work.reporter.note(f"{folder} is complete, there is nothing to do")
    return summarize_folder(ledger, encoded / (time.perf_counter() - started), work.model.short_name)


def begin_folder(
    work: Encoding, folder: Folder, *, batch_size: int | None, shard_items: int | None, force: bool
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
        UsageError: where it holds something else.
    """
    force = force and not joins()
    is_begun = folder.exists(PLAN)
    header = work.model.describe_tokens(work.source.protocol())
    _check_free(folder, header, force or is_begun)
    begun = read_plan(folder) if is_begun and not force else None
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


def read_progress(folder: Folder) -> Progress:
    """How far a folder is. Raises InputError where nothing was begun there, MismatchError for a damaged plan."""
    return Progress(folder, Ledger(folder, read_plan(folder)).describe(folder.exists(MANIFEST)))


def finish_folder(folder: Folder) -> Encoded:
    """Make a folder whose shards are done a token file.

    Raises:
        InputError: where shards are missing, or nothing was begun there.
        MismatchError: where what is there is damaged.
    """
    ledger = Ledger(folder, read_plan(folder))
    missing = ledger.plan.shards - len(ledger.list_done())
    if missing and not folder.exists(MANIFEST):
        raise InputError(
            f"{folder} cannot be finished yet: {missing} of its {ledger.plan.shards} shards are missing; the command "
            "that began it makes them"
        )
    damaged = finish_ledger(ledger)
    if damaged is not None:
        raise MismatchError(f"{folder}: shard {damaged} is damaged; the command that began it makes it again")
    return summarize_folder(ledger, 0.0, read_header_of(ledger).model or "MODEL")


def finish_ledger(ledger: Ledger) -> int | None:
    """Write the manifest of a folder whose shards are done; the first that is damaged, or None.

    Raises:
        InputError: where none of the items could be encoded; the folder is as it was before.
    """
    header, folder = read_header_of(ledger), ledger.folder
    first: list[Mapping[str, str]] = []

    def write(records: Iterator[Record]) -> None:
        def take() -> Iterator[tuple[Shard, Any]]:
            for record in records:
                first.extend(record.failed[: 1 - len(first)])
                name = ledger.output(record.shard)
                line = Shard(name, record.items, len(record.failed), record.bytes, record.sha256)
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
        return ledger.finish(write, lambda: folder.exists(MANIFEST))
    except InputError:
        folder.remove(PLAN)
        _clear(folder)
        folder.tidy()
        raise


def summarize_folder(ledger: Ledger, items_per_second: float, model: str) -> Encoded:
    """What a finished folder holds, by its manifest and, where items failed, by the records of their shards."""
    _, tally, shards = read_tally(ledger.folder)
    if tally.counts is None:
        assert isinstance(ledger.folder, LocalFolder)
        return summarize(open_tokens(ledger.folder.path), items_per_second, model)
    records = [ledger.read(number) for number, shard in enumerate(shards) if shard.failed]
    failed = [Failure(each["item"], each["reason"]) for record in records if record for each in record.failed]
    return describe_encoded(tally, tally.counts, failed, str(ledger.folder), items_per_second, model)


def open_output(output: str) -> Folder:
    """The folder that shards go to, on a disk or, by its URL, elsewhere."""
    return RemoteFolder(output) if is_remote(output) else LocalFolder(pathlib.Path(output))


def _check_free(folder: Folder, header: TokenHeader, replaces: bool) -> None:
    """Raises UsageError where a folder holds other things than tokens, or tokens that are not to be replaced."""
    if isinstance(folder, LocalFolder):
        Shards().check_free(folder.path, replaces)
    elif not is_counted(header):
        raise UsageError(
            f"{folder}: of a codebook of {header.codebook_size:,} codes, tokens can be written to a disk only; encode "
            "into a folder there and copy that"
        )
    elif not replaces and (names := folder.list()):
        raise UsageError(f"{folder} is a folder with other things in it, as {names[0]}; choose another for the tokens")


def _clear(folder: Folder) -> None:
    clear_manifest(folder)
    clear_shards(folder)
