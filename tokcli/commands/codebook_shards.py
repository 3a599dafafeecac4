"""`tok build-codebook --shards FOLDER`: the sample of latents is made by a plan that any number of workers share.

A shard is a share of the sample: of its items' latents those with the smallest keys, which follow from seed and item
alone. So the sample, and with it the codebooks, are the same whatever the number of workers.
"""

import json
import math
import pathlib
import platform
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from tokcli.artifacts.artifact import lock_of, use_codebook
from tokcli.artifacts.storage import Storage
from tokcli.artifacts.tensors import parse_tensors, write_tensors
from tokcli.codebooks import LatentSample, build_codebooks, offer_items
from tokcli.commands.build_codebook import (
    BuiltCodebooks,
    choose_target,
    open_data,
    prepare,
    save_codebooks,
)
from tokcli.commands.encode_shards import open_output
from tokcli.commands.shard_encoder import describe_device
from tokcli.contracts import CodebookReport, Source
from tokcli.data.items import Failure, default_workers, require_reached
from tokcli.data.places import is_remote
from tokcli.errors import MismatchError, TokError, UsageError
from tokcli.files import try_output
from tokcli.locking import wait
from tokcli.models import TrainedModel, find_model, open_trained, pick_own_device, require_trained
from tokcli.progress import SILENT, FailureNotes, Reporter, Task
from tokcli.recipe.recipe import change_record
from tokcli.shards.folder import Folder, write_whole
from tokcli.shards.ledger import Ledger, NotDone, Record, clear_shards, digest_file
from tokcli.shards.plan import PLAN, choose_shard_items, make_plan, read_plan
from tokcli.shards.share import read_share
from tokcli.shards.work import Progress, ShardWork, begin_ledger, finish_now, see_done
from tokcli.shards.workers import count_local, joins

CODEBOOKS = "codebooks.json"

LARGEST_SHARD = 1 << 34
"""Bytes of a shard that are read: 200,000 latents of 16 numbers are 14 MB."""


@dataclass(frozen=True)
class Building:
    """What is built, of what: the same for every worker.

    Attributes:
        model: whose codebooks they are.
        source: that latents are sampled of.
        target: the file of the artifact with the codebooks.
        sizes: of these.
        evenness: of the codes' use.
        samples: latents at most.
        passes: over the source.
        seed: of the sample and of the building.
        codebook: used where nobody names one.
        output: the target, where it was named.
        storage: of the weights in it, where it was named.
        record: what its recipe says in the place of the old one's.
    """

    model: TrainedModel
    source: Source
    target: pathlib.Path
    sizes: Sequence[int]
    evenness: float
    samples: int
    passes: int
    seed: int
    codebook: int | None
    output: str | None
    storage: Storage | None
    record: Sequence[str]

    @property
    def batch_size(self) -> int:
        """Items that are encoded at a time."""
        return self.model.artifact.recipe.evaluation.batch_size


class CodebookWork(ShardWork[BuiltCodebooks]):
    """Building by a plan.

    Args:
        work: what is built.
        ledger: of the folder.
        reporter: is told what happens.
    """

    doing = "encoding"
    whole = CODEBOOKS

    def __init__(self, work: Building, ledger: Ledger, reporter: Reporter) -> None:
        super().__init__(ledger, reporter)
        self._work = work

    def do(self, shard: int, task: Task) -> int:
        """As declared."""
        work, started, span = self._work, time.perf_counter(), self.ledger.plan.span(shard)
        sample, failures = LatentSample(work.samples, work.seed), dict[str, Failure]()
        notes = FailureNotes(self.reporter, "the shards list all of them with their reasons")
        readers, every = default_workers(len(span), count_local()), range(self.ledger.plan.items)
        for turn in range(work.passes):
            bar = SILENT.task(self.doing, None, "items") if turn else task
            for failure in offer_items(
                work.model.tokenizer, sample, work.source, every, span, turn, work.batch_size, readers, bar
            ):
                failures[failure.item] = failure
                notes.add(f"cannot read {failure.item}, left out: {failure.reason}")
        require_reached(failures.values())
        self.ledger.require_mark(shard, work.source.mark(span))
        seconds = time.perf_counter() - started
        self.ledger.publish(shard, lambda path: self._write(path, shard, sample, failures, seconds))
        return len(span)

    def _write(
        self, path: pathlib.Path, shard: int, sample: LatentSample, failures: Mapping[str, Failure], seconds: float
    ) -> Record:
        latents, keys = sample.keyed()
        write_tensors(path, {"latents": latents, "keys": keys}, {})
        size, digest = digest_file(path)
        return Record(
            plan=self.ledger.plan.digest,
            shard=shard,
            items=len(self.ledger.plan.span(shard)) - len(failures),
            failed=[{"item": failure.item, "reason": failure.reason} for failure in failures.values()],
            bytes=size,
            sha256=digest,
            device=describe_device(self._work.model.device),
            host=platform.node(),
            seconds=round(seconds, 3),
        )

    def finish(self) -> int | None:
        """As declared. Raises InputError where there is not one latent."""
        folder = self.ledger.folder

        def write(records: Iterator[Record]) -> None:
            built = self._build(self._join(records))
            write_whole(folder, CODEBOOKS, json.dumps(built.to_json(), ensure_ascii=False).encode() + b"\n")

        return self.ledger.finish(write, lambda: folder.exists(CODEBOOKS))

    def summarize(self, items_per_second: float) -> BuiltCodebooks:
        """As declared."""
        path = f"{self.ledger.folder}/{CODEBOOKS}"
        try:
            plain = json.loads(self.ledger.folder.read(CODEBOOKS, 1 << 24))
            reports = [CodebookReport(**each) for each in plain["codebooks"].values()]
            return BuiltCodebooks(pathlib.Path(plain["artifact"]), reports)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise MismatchError(f"{path} is damaged; remove it, and the same command builds them again") from None

    def describe(self) -> Progress:
        """As declared."""
        return describe_building(self.ledger)

    def _join(self, records: Iterator[Record]) -> torch.Tensor:
        """The sample of all shards, (count, input_dim). Raises NotDone where one is damaged."""
        sample = LatentSample(self._work.samples, self._work.seed)
        for record in records:
            content = self.ledger.folder.read(self.ledger.output(record.shard), LARGEST_SHARD)
            try:
                tensors = parse_tensors(content, record.sha256).tensors
                sample.take(tensors["latents"], tensors["keys"])
            except (TokError, ValueError, KeyError, RuntimeError):
                raise NotDone(record.shard) from None
        return sample.latents.to(self._work.model.device)

    def _build(self, latents: torch.Tensor) -> BuiltCodebooks:
        """Codebooks of the sample, added to the artifact as it is by now."""
        work = self._work
        with wait(lock_of(work.target), work.target, self.reporter):
            model = open_trained(str(work.model.path), work.model.device, SILENT, need_tokens=False)
            storage = work.storage or model.artifact.storage
            prepare(model, work.sizes, work.evenness, storage, work.codebook, replaces=True)
            reports = build_codebooks(
                model.tokenizer, latents, work.sizes, evenness=work.evenness, seed=work.seed, reporter=self.reporter
            )
            use_codebook(model.tokenizer, work.codebook)
            save_codebooks(work.target, model, reports, work.output, work.storage, work.record)
        return BuiltCodebooks(work.target, reports)


def build_in_folder(
    model: str | None,
    shards: str,
    *,
    sizes: Sequence[int] | None = None,
    data: str | None = None,
    evenness: float = 0.0,
    samples: int = 200_000,
    passes: int = 1,
    seed: int = 0,
    codebook: int | None = None,
    output: str | None = None,
    storage: Storage | None = None,
    record: Sequence[str] = (),
    shard: str | None = None,
    shard_items: int | None = None,
    finish: bool = False,
    force: bool = False,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> BuiltCodebooks | Progress:
    """What `build_codebook` does, its sample by any number of these at the same time, on machines that share a folder.

    `shards` is the folder. `shard` says which of its shards this one does: I/N takes every N-th from I on, `auto` asks
    what started it (Slurm, Kubernetes, torchrun), None takes whatever nobody else is at, until all are done; who finds
    all done builds the codebooks. A shard has `shard_items` items, rounded up to whole batches; None chooses by how
    many items there are. `finish` builds from shards that are all done, `force` starts over too. All else is as for
    `build_codebook`.

    Raises:
        TokError: as `build_codebook` does, and where the folder is of something else.
    """
    share = read_share(shard)
    work = begin_building(
        model, shards, sizes=sizes, data=data, evenness=evenness, samples=samples, passes=passes, seed=seed,
        codebook=codebook, output=output, storage=storage, record=record, shard_items=shard_items, force=force,
        device=device, reporter=reporter,
    )  # fmt: skip
    if not finish:
        return see_done(work, share.of(work.ledger.plan.shards))
    finish_now(work.ledger, CODEBOOKS, work.finish)
    return work.summarize(0.0)


def begin_building(
    model: str | None,
    shards: str,
    *,
    sizes: Sequence[int] | None,
    data: str | None,
    evenness: float,
    samples: int,
    passes: int,
    seed: int,
    codebook: int | None,
    output: str | None,
    storage: Storage | None,
    record: Sequence[str] | None,
    shard_items: int | None,
    force: bool,
    device: str,
    reporter: Reporter,
) -> CodebookWork:
    """The work on a folder with no shard done yet, for workers started elsewhere too. Raises TokError."""
    if not is_remote(shards):
        try_output(pathlib.Path(shards), folder=True)
    folder = open_output(shards)
    force, record = force and not joins(), list(record or ())
    begun = read_plan(folder) if folder.exists(PLAN) else None
    path = require_trained(find_model(model))
    # What another worker of this work has written by now is not in the way.
    target = choose_target(path, output, storage, record, force or begun is not None)
    opened = open_trained(str(path), pick_own_device(device), reporter, need_tokens=False)
    change_record(opened.artifact.recipe, record)  # a wrong one is refused before the work
    replaces = force or output is not None or begun is not None
    sizes = prepare(opened, sizes, evenness, storage or opened.artifact.storage, codebook, replaces)
    source = open_data(opened, data, reporter)
    typed = [str(path), *(["--data", data] if data else []), *(["-o", output] if output else [])]
    work = Building(opened, source, target, sizes, evenness, samples, passes, seed, codebook, output, storage, record)
    return CodebookWork(work, _begin(work, folder, typed, shard_items, force, reporter), reporter)


def _begin(
    work: Building, folder: Folder, typed: Sequence[str], shard_items: int | None, force: bool, reporter: Reporter
) -> Ledger:
    """The ledger of the folder, whose plan is made where there is none."""
    begun = read_plan(folder) if folder.exists(PLAN) else None
    if begun is not None and begun.work.get("command") != "build-codebook":
        raise UsageError(f"{folder} is of tok {begun.work.get('command')}; choose another folder for the sample")
    if begun is None and (names := folder.list()):
        raise UsageError(f"{folder} is a folder with other things in it, as {names[0]}; choose another for the sample")
    each = shard_items or (begun.shard_items if begun and not force else choose_shard_items(len(work.source)))
    plan = make_plan(
        {
            "command": "build-codebook",
            "fingerprint": work.model.network_fingerprint,
            "preprocessing": dict(work.source.protocol()),
            "sizes": list(work.sizes),
            "evenness": work.evenness,
            "samples": work.samples,
            "passes": work.passes,
            "seed": work.seed,
            "batch_size": work.batch_size,
        },
        typed,
        work.source,
        work.batch_size * math.ceil(each / work.batch_size),
    )

    def clear() -> None:
        folder.remove(CODEBOOKS)
        clear_shards(folder)

    return begin_ledger(folder, plan, force, clear, reporter)


def read_building(shards: str) -> Progress:
    """How far a folder is. Raises InputError where nothing was begun there, MismatchError for a damaged plan."""
    folder = open_output(shards)
    return describe_building(Ledger(folder, read_plan(folder)))


def describe_building(ledger: Ledger) -> Progress:
    """How far the folder of a ledger is."""
    folder, model = ledger.folder, ledger.plan.inputs[:1]
    whole = shlex.join(["tok", "build-codebook", *ledger.plan.inputs, "--shards", str(folder)])
    status = ledger.describe(folder.exists(CODEBOOKS))
    again = f"tok build-codebook --shards {folder} --status"
    return Progress(folder, status, again, f"{whole} --finish", shlex.join(["tok", "eval", *model]))
