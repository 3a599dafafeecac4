"""`tok eval -o FOLDER`: an evaluation by a plan that any number of workers share, wherever they run.

A shard is what the metrics have seen of its items: states, which add, and scores by item. Whole batches are in it, so
that an item is computed with the same others as in one process, and the figures are those of one process.
"""

import json
import math
import pathlib
import platform
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokcli.artifacts.tensors import parse_tensors, write_tensors
from tokcli.commands.evaluation_entries import (
    Entry,
    choose_limit,
    choose_title,
    describe_scores,
    require_same_data,
)
from tokcli.commands.shard_encoder import describe_device
from tokcli.data.items import default_workers, require_reached
from tokcli.errors import InputError, MismatchError, TokError, UsageError
from tokcli.evaluation.compare import compare_all
from tokcli.evaluation.run import Evaluation, Scores
from tokcli.evaluation.seen import Seen, add_up, pack_seen, take_seen, unpack_seen
from tokcli.progress import SILENT, Reporter, Task
from tokcli.shards.folder import Folder, write_whole
from tokcli.shards.ledger import Ledger, NotDone, Record, clear_shards, digest_file
from tokcli.shards.plan import PLAN, choose_shard_items, make_plan, read_plan
from tokcli.shards.work import Progress, ShardWork, begin_ledger, finish_now
from tokcli.shards.workers import count_local, joins

SCORES = "scores.json"

LARGEST_SHARD = 1 << 32
"""Bytes of a shard that are read; rFID's moments are 64 MB a model."""


@dataclass(frozen=True)
class Evaluating:
    """What is evaluated: the same for every worker.

    Attributes:
        entries: the models, all on the same data.
        data: that was named for all; None: that of the recipes.
        items: that were asked for.
        typed: words of the command, for people.
        examples: items to keep for a sheet.
        reporter: is told what happens.
    """

    entries: Sequence[Entry]
    data: str | None
    items: int | None
    typed: Sequence[str]
    examples: int
    reporter: Reporter

    @property
    def limit(self) -> int:
        """Items that are evaluated. Raises UsageError where the models' recipes differ in it."""
        limits = {choose_limit(entry, self.data, self.items) for entry in self.entries}
        if len(limits) > 1:
            raise UsageError(
                f"the recipes evaluate on {min(limits)} to {max(limits)} items, and workers share one set: say how "
                "many with --items"
            )
        return limits.pop()


class EvaluationWork(ShardWork[list[Scores]]):
    """Evaluation by a plan.

    Args:
        work: what is evaluated.
        evaluations: of each model.
        ledger: of the folder.
    """

    doing = "evaluating"
    whole = SCORES

    def __init__(self, work: Evaluating, evaluations: Sequence[Evaluation], ledger: Ledger) -> None:
        super().__init__(ledger, work.reporter)
        self._work = work
        self._evaluations = evaluations
        self._rows: list[Scores] | None = None

    def do(self, shard: int, task: Task) -> int:
        """As declared."""
        started, span = time.perf_counter(), self.ledger.plan.span(shard)
        source = self._work.entries[0].source
        readers = default_workers(len(span), count_local())
        parts = []
        for entry, evaluation in zip(self._work.entries, self._evaluations, strict=True):
            bar = task if entry is self._work.entries[-1] else SILENT.task(self.doing, None, "items")
            walk = evaluation.walk(span, entry.model.settings.batch_size, readers, bar)
            parts.append(take_seen(walk).cpu())
        require_reached(failure for part in parts for failure in part.failed.values())
        self.ledger.require_mark(shard, source.mark(span))
        seconds = time.perf_counter() - started
        self.ledger.publish(shard, lambda path: self._write(path, shard, parts, seconds))
        return len(span)

    def _write(self, path: pathlib.Path, shard: int, parts: Sequence[Seen], seconds: float) -> Record:
        packed = [pack_seen(part) for part in parts]
        tensors = {f"{row}/{name}": value for row, (own, _) in enumerate(packed) for name, value in own.items()}
        write_tensors(path, tensors, {"failed": json.dumps([failed for _, failed in packed], ensure_ascii=False)})
        size, digest = digest_file(path)
        return Record(
            plan=self.ledger.plan.digest,
            shard=shard,
            items=len(parts[0].indices),
            failed=[{"item": failure.item, "reason": failure.reason} for failure in parts[0].list_failed()],
            bytes=size,
            sha256=digest,
            device=describe_device(self._work.entries[0].model.device),
            host=platform.node(),
            seconds=round(seconds, 3),
        )

    def finish(self) -> int | None:
        """As declared. Raises InputError, and leaves nothing, where none of the items could be read."""
        folder = self.ledger.folder

        def write(records: Iterator[Record]) -> None:
            self._rows = self._score(records)
            plain = [row.to_json() for row in self._rows]
            content = json.dumps(plain if len(plain) > 1 else plain[0], ensure_ascii=False) + "\n"
            write_whole(folder, SCORES, content.encode())

        try:
            return self.ledger.finish(write, lambda: folder.exists(SCORES))
        except InputError:
            folder.remove(PLAN)
            clear_evaluation(folder)
            folder.tidy()
            raise

    def summarize(self, items_per_second: float) -> list[Scores]:
        """As declared. Raises MismatchError where somebody else put them together and a shard was damaged since."""
        if self._rows is None:
            try:
                self._rows = self._score(self.ledger.read_all())
            except NotDone as error:
                raise MismatchError(
                    f"{self.ledger.folder}: shard {error.shard} is damaged; {SCORES} there has the scores, and --force "
                    "starts over"
                ) from None
        count = self._work.examples
        pairs = zip(self._work.entries, self._rows, strict=True)
        return [self._show(*pair, count) for pair in pairs] if count else self._rows

    def describe(self) -> Progress:
        """As declared."""
        return describe_evaluation(self.ledger)

    def _score(self, records: Iterator[Record]) -> list[Scores]:
        """The scores of all models. Raises NotDone where a shard is damaged."""
        parts = [self._read(record) for record in records]
        rows = []
        for row, (entry, evaluation) in enumerate(zip(self._work.entries, self._evaluations, strict=True)):
            scores = evaluation.score(add_up(part[row] for part in parts))
            rows.append(describe_scores(entry, scores, choose_title(entry, self._work.data)))
        return compare_all(rows)

    def _read(self, record: Record) -> list[Seen]:
        """What each model's metrics have seen of a shard. Raises NotDone where it is damaged."""
        content = self.ledger.folder.read(self.ledger.output(record.shard), LARGEST_SHARD)
        try:
            file = parse_tensors(content, record.sha256)
            failed = json.loads(file.metadata["failed"])
            own: list[dict[str, Any]] = [{} for _ in self._evaluations]
            for name, value in file.tensors.items():
                row, _, key = name.partition("/")
                own[int(row)][key] = value
            return [unpack_seen(tensors, each) for tensors, each in zip(own, failed, strict=True)]
        except (TokError, ValueError, KeyError, IndexError, TypeError, RuntimeError):
            raise NotDone(record.shard) from None

    def _show(self, entry: Entry, scores: Scores, count: int) -> Scores:
        """The scores with the first items before and after, which no shard keeps."""
        first = range(min(self._work.limit, count + len(scores.failed)))
        bare = Evaluation(entry.candidate, entry.source, {})
        walk = bare.walk(first, entry.model.settings.batch_size, 0, SILENT.task(self.doing, None, "items"), count)
        return replace(scores, examples=walk.examples)


def begin_evaluation(
    work: Evaluating, folder: Folder, shard_items: int | None, force: bool, compiled: bool = False
) -> EvaluationWork:
    """The work on a folder, whose plan is made where there is none.

    Args:
        work: what is to be evaluated.
        folder: that is written.
        shard_items: items in each shard, rounded up to whole batches; None: as the folder was begun, else by how many
            there are.
        force: start over.
        compiled: whether networks are; a few tokens may be others by that.

    Raises:
        MismatchError: where the folder is of another plan.
        UsageError: where it holds something else, or the models have different data.
    """
    require_same_data([entry.source for entry in work.entries])
    force = force and not joins()
    begun = read_plan(folder) if folder.exists(PLAN) else None
    if begun is not None and begun.work.get("command") != "evaluate":
        raise UsageError(f"{folder} is of tok {begun.work.get('command')}; choose another folder for the scores")
    if begun is None and (names := folder.list()):
        raise UsageError(f"{folder} is a folder with other things in it, as {names[0]}; choose another for the scores")
    evaluations = [
        Evaluation(entry.candidate, entry.source, entry.metrics, rates=True, weights=entry.weights)
        for entry in work.entries
    ]
    batch = math.lcm(*(entry.model.settings.batch_size for entry in work.entries))
    each = shard_items or (begun.shard_items if begun and not force else choose_shard_items(work.limit))
    plan = make_plan(
        {
            "command": "evaluate",
            "fingerprints": [
                [entry.model.network_fingerprint, entry.model.codebook_fingerprint, entry.model.codec.groups]
                for entry in work.entries
            ],
            "preprocessing": work.entries[0].source.protocol(),
            "metrics": [list(entry.metrics) for entry in work.entries],
            "protocols": [
                {name: metric.protocol() for name, metric in evaluation.metrics.items()} for evaluation in evaluations
            ],
            "batch_sizes": [entry.model.settings.batch_size for entry in work.entries],
            **({"compiled": True} if compiled else {}),
        },
        work.typed,
        work.entries[0].source,
        batch * -(-each // batch),
        work.limit,
    )
    ledger = begin_ledger(folder, plan, force, lambda: clear_evaluation(folder), work.reporter)
    return EvaluationWork(work, evaluations, ledger)


def finish_evaluation(work: EvaluationWork) -> list[Scores]:
    """Put shards that are all done together. Raises InputError where some are missing, MismatchError for damage."""
    finish_now(work.ledger, SCORES, work.finish)
    return work.summarize(0.0)


def describe_evaluation(ledger: Ledger) -> Progress:
    """How far the folder of a ledger is."""
    folder = ledger.folder
    whole = shlex.join(["tok", "eval", *ledger.plan.inputs, "-o", str(folder)])
    status = ledger.describe(folder.exists(SCORES))
    return Progress(folder, status, f"tok eval -o {folder} --status", f"{whole} --finish", whole)


def clear_evaluation(folder: Folder) -> None:
    """Remove the scores of a folder and its shards."""
    folder.remove(SCORES)
    clear_shards(folder)
