"""`tok encode -o FOLDER`: shards by a plan that any number of workers share, wherever they run.

plan -> a shard nobody is at -> its items -> signals -> tokens -> the shard, and its record -> the next one
"""

import pathlib
from collections.abc import Iterator, Mapping

from tokcli.commands.encoded import Encoded, describe_encoded, summarize
from tokcli.commands.shard_encoder import Encoding, ShardEncoder, read_header_of
from tokcli.data.items import Failure
from tokcli.data.places import is_remote
from tokcli.data.remote_folder import RemoteFolder
from tokcli.errors import InputError, UsageError
from tokcli.models import pick_batch_size
from tokcli.progress import Task
from tokcli.shards.folder import Folder, LocalFolder
from tokcli.shards.ledger import Ledger, NotDone, Record, clear_shards
from tokcli.shards.plan import PLAN, make_plan, read_plan
from tokcli.shards.work import Progress, ShardWork, begin_ledger, finish_now
from tokcli.shards.workers import joins
from tokcli.tokens import TokenHeader, open_tokens
from tokcli.tokens.manifest import MANIFEST, Shard, read_tally, write_manifest
from tokcli.tokens.shards import Shards, clear_manifest
from tokcli.tokens.tally import Tally, is_counted


class EncodingWork(ShardWork[Encoded]):
    """Encoding by a plan.

    Args:
        work: what is encoded, and by what.
        ledger: of the folder, as `begin_folder` made it.
    """

    doing = "encoding"
    whole = MANIFEST

    def __init__(self, work: Encoding, ledger: Ledger) -> None:
        super().__init__(ledger, work.reporter)
        self._encoder = ShardEncoder(work, ledger)
        self._model = work.model.short_name

    def do(self, shard: int, task: Task) -> int:
        """As declared."""
        return self._encoder.encode(shard, task)

    def finish(self) -> int | None:
        """As declared. Raises InputError where none of the items could be encoded."""
        return finish_ledger(self.ledger)

    def summarize(self, items_per_second: float) -> Encoded:
        """As declared."""
        return summarize_folder(self.ledger, items_per_second, self._model)

    def describe(self) -> Progress:
        """As declared."""
        return describe_progress(self.ledger)


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
    try:
        _check_free(folder, header, force or is_begun)
    except UsageError:
        is_begun = folder.exists(PLAN)  # by another worker, a moment ago
        if not is_begun:
            raise
    begun = read_plan(folder) if is_begun and not force else None
    if begun is not None:  # what nobody asked for now is as it was then
        batch_size = batch_size or begun.work.get("batch_size")
        shard_items = shard_items or begun.shard_items
    at_once = batch_size or pick_batch_size(work.model.device)
    settings = {"about": work.known.digest, "batch_size": at_once} | ({"compiled": True} if work.compiled else {})
    plan = make_plan({"command": "encode", **header.to_json(), **settings}, work.inputs, work.source, shard_items)
    return begin_ledger(folder, plan, force, lambda: _clear(folder), work.reporter)


def read_progress(folder: Folder) -> Progress:
    """How far a folder is. Raises InputError where nothing was begun there, MismatchError for a damaged plan."""
    return describe_progress(Ledger(folder, read_plan(folder)))


def describe_progress(ledger: Ledger) -> Progress:
    """How far the folder of a ledger is."""
    folder = ledger.folder
    again = f"tok encode -o {folder}"
    status = ledger.describe(folder.exists(MANIFEST))
    return Progress(folder, status, f"{again} --status", f"{again} --finish", f"tok info {folder}")


def finish_folder(folder: Folder) -> Encoded:
    """Make a folder whose shards are done a token file.

    Raises:
        InputError: where shards are missing, or nothing was begun there.
        MismatchError: where what is there is damaged.
    """
    ledger = Ledger(folder, read_plan(folder))
    finish_now(ledger, MANIFEST, lambda: finish_ledger(ledger))
    return summarize_folder(ledger, 0.0, read_header_of(ledger).model)


def finish_ledger(ledger: Ledger) -> int | None:
    """Write the manifest of a folder whose shards are done; the first that is damaged, or None.

    Raises:
        InputError: where none of the items could be encoded; the folder is as it was before.
    """
    header, folder = read_header_of(ledger), ledger.folder
    first: list[Mapping[str, str]] = []

    def write(records: Iterator[Record]) -> None:
        lines, tally = [], Tally(header)
        for record in records:
            first.extend(record.failed[: 1 - len(first)])
            try:
                tally.add_json(record.items, record.facts)
            except ValueError:
                raise NotDone(record.shard) from None
            name = ledger.output(record.shard)
            lines.append(Shard(name, record.items, len(record.failed), record.bytes, record.sha256))
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


def summarize_folder(ledger: Ledger, items_per_second: float, model: str | None) -> Encoded:
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
