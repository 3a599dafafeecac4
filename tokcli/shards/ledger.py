"""Which shards of a plan are done, claimed or missing, by the files of their folder alone."""

import hashlib
import json
import pathlib
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from tokcli import untrusted
from tokcli.errors import MismatchError, TokError
from tokcli.files import sync
from tokcli.locking import BusyError, describe
from tokcli.shards.folder import Folder, remove_all, write_whole
from tokcli.shards.leases import EXPIRY, Lease, claim, is_expired, read_claim
from tokcli.shards.plan import PLAN, Plan, read_plan, require_same

T = TypeVar("T")

CLAIMS = "claims"
FORMAT = "tok-shard/1"
LONGEST_RECORD = 1 << 28
GLANCE = 0.5
"""Seconds between looks at shards that others work on."""

HEAD = 4096
"""Bytes in which a record says all but its facts, unless many items failed."""

FACTS = b', "facts": '
"""What a record says its facts behind; within its words there is no quote without a backslash."""

AHEAD = 4
"""Rounds of questions that are asked before the answers to the first are used up."""

UNREADABLE = (TokError, OSError, ValueError, TypeError, KeyError, AttributeError)
"""What a damaged record raises, or one that is gone."""

OUTPUT = re.compile(r"shard-(\d{5,})\.(safetensors|json)")


@dataclass(frozen=True)
class Record:
    """What is known of a shard that is done.

    Attributes:
        plan: the digest of its plan.
        shard: its number.
        items: in it.
        failed: `{"item": NAME, "reason": WORDS}` of those that are not.
        bytes: of its output.
        sha256: of its output.
        facts: what the work adds up over shards; plain JSON values.
        device: that computed it.
        host: whose device that is.
        seconds: that it took.
    """

    plan: str
    shard: int
    items: int
    failed: Sequence[Mapping[str, str]]
    bytes: int
    sha256: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    device: str = ""
    host: str = ""
    seconds: float = 0.0


class NotDone(Exception):
    """A shard that is missing or damaged."""

    def __init__(self, shard: int) -> None:
        super().__init__(shard)
        self.shard = shard


@dataclass(frozen=True)
class Status:
    """How far the work is.

    Attributes:
        shards: of the plan.
        done: shards that are done.
        claimed: shards that a living worker is at.
        expired: shards whose worker died or fell silent; the next one takes them.
        missing: shards that nobody is at.
        items: in shards that are done.
        all_items: of the plan.
        failed: items in shards that are done which could not be read.
        finished: whether the whole can be read.
    """

    shards: int
    done: int
    claimed: int
    expired: int
    missing: int
    items: int
    all_items: int
    failed: int
    finished: bool


class Ledger:
    """The shards of one plan in their folder.

    Args:
        folder: that holds the plan.
        plan: which it holds.
    """

    def __init__(self, folder: Folder, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        self._stamp = folder.measure(PLAN)

    def output(self, shard: int) -> str:
        """The name of a shard's output."""
        return f"shard-{shard:05d}.safetensors"

    def record(self, shard: int) -> str:
        """The name of a shard's record, whose presence means done."""
        return f"shard-{shard:05d}.json"

    def is_done(self, shard: int) -> bool:
        """Whether record and output are there."""
        return self.folder.exists(self.record(shard)) and self.folder.exists(self.output(shard))

    def list_done(self) -> set[int]:
        """The numbers of all shards that are done, by one look into the folder."""
        found: dict[str, set[int]] = {"safetensors": set(), "json": set()}
        for name in self.folder.list():
            if match := OUTPUT.fullmatch(name):
                found[match[2]].add(int(match[1]))
        return found["safetensors"] & found["json"]

    def read(self, shard: int) -> Record | None:
        """The record of a shard; None where it is not done, or what is there is damaged or of another plan."""
        try:
            return self._check(shard, untrusted.parse_json(self.folder.read(self.record(shard), LONGEST_RECORD)))
        except UNREADABLE:
            return None

    def read_without_facts(self, shard: int) -> Record | None:
        """The same without what the work adds up, the longest part of a record by far, which is not even fetched."""
        try:
            head, found, _ = self.folder.read_head(self.record(shard), HEAD).partition(FACTS)
            return self._check(shard, untrusted.parse_json(head + b"}")) if found else self.read(shard)
        except UNREADABLE:
            return None

    def _check(self, shard: int, values: Any) -> Record | None:
        """The record that values of JSON are; None where it is not a whole one of this plan. Raises UNREADABLE."""
        if values.pop("format") != FORMAT:
            return None
        record = Record(**values)
        output = self.folder.measure(self.output(shard))
        same = record.plan == self.plan.digest and record.shard == shard
        whole = output is not None and output[0] == record.bytes
        return record if same and whole and _is_complete(record, len(self.plan.span(shard))) else None

    def publish(self, shard: int, write: Callable[[pathlib.Path], Record]) -> None:
        """Put the output of a shard into its place, then its record.

        Args:
            shard: its number.
            write: writes the output to the path that it is given, and returns the record.

        Raises:
            MismatchError: where the folder was given another plan meanwhile.
        """
        self.require_plan()
        try:
            with self.folder.write(self.output(shard)) as unfinished:
                record = write(unfinished)
            content = {"format": FORMAT, **asdict(record)}
            write_whole(self.folder, self.record(shard), json.dumps(content, ensure_ascii=False).encode() + b"\n")
        except FileNotFoundError:
            if not self.is_done(shard):  # else it was tidied away behind somebody who had done the same
                raise

    def require_plan(self) -> None:
        """Raises MismatchError where the folder has another plan by now."""
        if self.folder.measure(PLAN) != self._stamp:
            if not self.folder.exists(PLAN) or read_plan(self.folder).digest != self.plan.digest:
                raise MismatchError(f"{self.folder} was begun anew by another command while this one worked on it")
            self._stamp = self.folder.measure(PLAN)

    def require_mark(self, shard: int, mark: str) -> None:
        """Raises MismatchError where the inputs of a shard have another mark by now than in the plan."""
        if mark != self.plan.marks[shard]:
            raise MismatchError(
                f"{self.folder}: the inputs of shard {shard} changed while they were read; bring them back, or start "
                "over with --force"
            )

    def pull(self, own: Collection[int], note: Callable[[str], None]) -> Iterator[int]:
        """Shards to be done, each claimed while the caller works on it, until all are done by whomever.

        Waits for those that others are at, and takes over what they leave.

        Args:
            own: the shards that this worker is to see done.
            note: is told of work that is taken over.
        """
        done = self.list_done()
        waiting = [shard for shard in own if shard not in done]
        while waiting:
            self.require_plan()
            busy = []
            for shard in waiting:
                if self.is_done(shard):
                    continue
                lease = claim(self.folder, f"{CLAIMS}/{shard:05d}")
                if not isinstance(lease, Lease):
                    busy.append(shard)
                    continue
                try:
                    if not self.is_done(shard):
                        if lease.former is not None:
                            note(f"shard {shard} is taken over from {lease.former}, which ended or fell silent")
                        yield shard
                finally:
                    lease.release()
            if len(busy) == len(waiting):
                time.sleep(GLANCE)
            waiting = busy
        self.folder.tidy(CLAIMS)

    def finish(self, write: Callable[[Iterator[Record]], object], is_finished: Callable[[], bool]) -> int | None:
        """Make the whole of all shards, once; of several workers, one does it.

        Args:
            write: makes it, of the records in order.
            is_finished: whether it is there.

        Returns:
            None, or the first shard that is not done: what is left of it is as good as missing from now on.
        """
        while not is_finished():
            lease = claim(self.folder, f"{CLAIMS}/finish")
            if isinstance(lease, Lease):
                try:
                    write(self.read_all())
                except NotDone as error:
                    self.folder.remove(self.record(error.shard))
                    return error.shard
                finally:
                    lease.release()
            else:
                time.sleep(GLANCE)
        return None

    def tidy(self) -> None:
        """Remove what killed workers left, once the whole is there: nobody's claim on a shard matters any more."""
        remove_all(self.folder, CLAIMS)
        self.folder.tidy()

    def read_all(self) -> Iterator[Record]:
        """The records of all shards, in order. Raises NotDone at the first that is missing or damaged."""
        for shard, record in self._ask_about(self.read, range(self.plan.shards)):
            if record is None:
                raise NotDone(shard)
            yield record

    def _ask_about(self, question: Callable[[int], T], shards: Sequence[int]) -> Iterator[tuple[int, T]]:
        """Each shard with what a question about it gives, in order; few answers are held at a time."""
        if self.folder.at_once == 1:
            yield from ((shard, question(shard)) for shard in shards)
            return
        with ThreadPoolExecutor(self.folder.at_once) as askers:
            for first in range(0, len(shards), AHEAD * self.folder.at_once):
                some = shards[first : first + AHEAD * self.folder.at_once]
                yield from zip(some, askers.map(question, some), strict=True)

    def describe(self, finished: bool) -> Status:
        """How far the work is."""
        done = self.list_done()
        claimed, expired = set(), set()
        for number in self.folder.list(CLAIMS):
            if number.isdecimal() and int(number) not in done:
                name = f"{CLAIMS}/{number}"
                (expired if is_expired(self.folder, name, read_claim(self.folder, name)) else claimed).add(int(number))
        whole = items = failed = 0
        for _, record in self._ask_about(self.read_without_facts, sorted(done)):
            if record is not None:
                whole, items, failed = whole + 1, items + record.items, failed + len(record.failed)
        return Status(
            shards=self.plan.shards,
            done=whole,
            claimed=len(claimed),
            expired=len(expired),
            missing=self.plan.shards - whole - len(claimed) - len(expired),
            items=items,
            all_items=self.plan.items,
            failed=failed,
            finished=finished,
        )


def begin(folder: Folder, plan: Plan, force: bool, clear: Callable[[], None]) -> tuple[Ledger, bool]:
    """The ledger of a plan in its folder, and whether the work was begun before, by this command or another.

    Args:
        folder: need not be there.
        plan: of the work.
        force: start over, whatever the folder's plan is.
        clear: removes what is there, except the plan.

    Raises:
        MismatchError: where the folder has another plan, and `force` is not given.
        BusyError: where somebody is at work on what `force` would remove.
    """
    if force and folder.list():
        with folder.alone():
            require_idle(folder)
            with folder.write(PLAN) as unfinished:
                with open(unfinished, "wb") as file:  # a full disk is noticed before anything is removed
                    file.write(json.dumps(plan.to_json(), ensure_ascii=False).encode())
                    sync(file)
                clear()
        return Ledger(folder, plan), False
    created = plan.create(folder)
    if not created:
        require_same(folder, read_plan(folder), plan)
    return Ledger(folder, plan), not created


def require_idle(folder: Folder) -> None:
    """Raises BusyError where a living worker is at a shard of the folder."""
    for name in folder.list(CLAIMS):
        holder = read_claim(folder, f"{CLAIMS}/{name}")
        if not is_expired(folder, f"{CLAIMS}/{name}", holder):
            raise BusyError(
                f"{folder} is being written by {describe(holder)}; wait for it to end (one that died "
                f"on another machine is believed alive for {EXPIRY:.0f} seconds), or write to another place"
            )


def digest_file(path: pathlib.Path) -> tuple[int, str]:
    """The size of a shard's output in bytes, and its sha256 sum, for its record."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def clear_shards(folder: Folder) -> None:
    """Remove all shards, records and claims of a folder."""
    for name in folder.list():
        if OUTPUT.fullmatch(name):
            folder.remove(name)
    remove_all(folder, CLAIMS)


def _is_complete(record: Record, planned: int) -> bool:
    try:
        failed = [(each["item"], each["reason"]) for each in record.failed]
        words = all(isinstance(word, str) for each in failed for word in each)
        return words and record.items + len(failed) == planned and isinstance(record.facts, dict)
    except (TypeError, KeyError):
        return False
