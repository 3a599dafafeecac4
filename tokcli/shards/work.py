"""One worker's view of work in shards: do those that nobody is at, then make the whole of all of them.

What is done to the items of a shard, and what all of them make together, a subclass of `ShardWork` says.
"""

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Generic, TypeVar

from tokcli.errors import InputError, InterruptedRunError, MismatchError, UnreachableError
from tokcli.progress import Reporter, Task
from tokcli.shards.folder import Folder
from tokcli.shards.ledger import Ledger, Status, begin
from tokcli.shards.plan import Plan
from tokcli.shards.workers import joins, tell_begun

R = TypeVar("R")

MOST_UNMADE = 16
"""Shards whose inputs cannot be read before a worker gives up: it is not one archive, but the disk or the network."""

Do = Callable[[Sequence[int], Task], int]
"""Has shards done, by whomever, while a bar is shown; how many items that were."""


@dataclass(frozen=True)
class Progress:
    """How far a folder of shards is.

    Attributes:
        output: the folder.
        status: of its shards.
        to_ask: the command that says how far it is.
        to_finish: the command that puts shards that are all done together.
        to_use: a command that uses the whole of them.
        failed: nothing; items that could not be read are listed with the whole.
    """

    output: Folder
    status: Status
    to_ask: str
    to_finish: str
    to_use: str
    failed: tuple[()] = ()

    @property
    def next_step(self) -> str:
        """A command that goes on from here."""
        if self.status.finished:
            return self.to_use
        return self.to_finish if self.status.done == self.status.shards else self.to_ask

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


class ShardWork(ABC, Generic[R]):
    """Work on the items of a plan, whose shards are in a folder.

    Attributes:
        doing: what a bar calls it.
        whole: the name of the file that is there when all is done.
        ledger: of the folder.
        reporter: is told what happens.
    """

    doing: ClassVar[str]
    whole: ClassVar[str]

    def __init__(self, ledger: Ledger, reporter: Reporter) -> None:
        self.ledger = ledger
        self.reporter = reporter

    @abstractmethod
    def do(self, shard: int, task: Task) -> int:
        """Do a shard and publish it; how many items that were.

        Raises:
            MismatchError: where its inputs are not those of the plan any more.
            UnreachableError: where they cannot be read now; the shard is left to be made.
        """

    @abstractmethod
    def finish(self) -> int | None:
        """Make the whole of all shards, unless it is there; None, or the first shard that is damaged."""

    @abstractmethod
    def summarize(self, items_per_second: float) -> R:
        """What the whole is, once it is there."""

    @abstractmethod
    def describe(self) -> Progress:
        """How far it is."""

    def pull(self, shards: Sequence[int], task: Task) -> int:
        """See shards done: those that nobody else does, by this worker; how many items it did.

        Raises:
            InputError: at the end, where the inputs of some cannot be read now.
        """
        items, unmade = 0, UnmadeShards(self.ledger, self.reporter)
        for shard in self.ledger.pull(shards, self.reporter.note):
            try:
                items += self.do(shard, task)
            except UnreachableError as error:
                unmade.add(shard, error)
        unmade.require_made()
        return items


class UnmadeShards:
    """Shards that are left to be made, because their inputs cannot be read now.

    Args:
        ledger: of their plan.
        reporter: is told of each.
    """

    def __init__(self, ledger: Ledger, reporter: Reporter) -> None:
        self._ledger = ledger
        self._reporter = reporter
        self._reasons: dict[int, str] = {}

    def add(self, shard: int, error: UnreachableError) -> None:
        """Leave a shard for later. Raises InputError where too many are."""
        self._reasons[shard] = str(error)
        self._reporter.note(f"shard {shard} is left for later: {error}")
        if len(self._reasons) >= MOST_UNMADE:
            self.require_made()

    def require_made(self) -> None:
        """Raises InputError where nobody has made them meanwhile."""
        left = sorted(set(self._reasons) - self._ledger.list_done())
        if left:
            raise InputError(
                f"{self._ledger.folder}: {len(left)} of its {self._ledger.plan.shards} shards cannot be made now, for "
                f"their inputs cannot be read (shard {left[0]}: {self._reasons[left[0]]}); what is done stays, and the "
                "same command goes on"
            )


def begin_ledger(folder: Folder, plan: Plan, force: bool, clear: Callable[[], None], reporter: Reporter) -> Ledger:
    """The ledger of a plan in its folder, with news for who waits for it and who reads along.

    Args:
        folder: need not be there.
        plan: of the work.
        force: start over; what another worker of this command has begun is joined all the same.
        clear: removes what is there, except the plan.
        reporter: is told of shards that are done.

    Raises:
        MismatchError: where the folder has another plan, and `force` is not given.
        BusyError: where somebody is at work on what `force` would remove.
    """
    ledger, joined = begin(folder, plan, force and not joins(), clear)
    tell_begun()
    if joined and (done := len(ledger.list_done())):
        reporter.note(f"going on with {folder}: {done} of {plan.shards} shards are done")
    return ledger


def see_done(work: ShardWork[R], own: Sequence[int], do: Do | None = None) -> R | Progress:
    """Have shards done, and make the whole of all where nothing is left to do.

    Args:
        work: whose they are.
        own: the shards that are to be done.
        do: has them done; None: this worker pulls them.

    Raises:
        TokError: as the work does; InterruptedRunError by Ctrl-C, after which the same command goes on.
    """
    ledger, started, items = work.ledger, time.perf_counter(), 0
    plan, folder = ledger.plan, ledger.folder
    try:
        while not folder.exists(work.whole):
            done = sum(len(plan.span(shard)) for shard in ledger.list_done())
            with work.reporter.task(work.doing, plan.items, "items", done=done) as task:
                items += (do or work.pull)(own, task)
            if len(ledger.list_done()) < plan.shards:
                return work.describe()
            damaged = work.finish()
            if damaged is not None:
                work.reporter.note(f"shard {damaged} of {folder} is damaged, and is made again")
                own = range(plan.shards)
        ledger.tidy()  # here, not in the finishing alone: who was killed right behind that has left its claim
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            done = len(ledger.list_done())
            told = f"stopped after {done} of {plan.shards} shards; the same command goes on"
            raise InterruptedRunError(told) from None
        raise
    if not items:
        work.reporter.note(f"{folder} is complete, there is nothing to do")
    return work.summarize(items / (time.perf_counter() - started))


def finish_now(ledger: Ledger, whole: str, finish: Callable[[], int | None]) -> None:
    """Make the whole of shards that are all done.

    Args:
        ledger: of the folder.
        whole: the name of the file that is there when all is done.
        finish: makes it, as a `ShardWork` does.

    Raises:
        InputError: where some are missing.
        MismatchError: where one is damaged.
    """
    missing = ledger.plan.shards - len(ledger.list_done())
    if missing and not ledger.folder.exists(whole):
        raise InputError(
            f"{ledger.folder} cannot be finished yet: {missing} of its {ledger.plan.shards} shards are missing; the "
            "command that began it makes them"
        )
    damaged = finish()
    if damaged is not None:
        raise MismatchError(f"{ledger.folder}: shard {damaged} is damaged; the command that began it makes it again")
    ledger.tidy()
