"""One worker's part of `tok encode -o FOLDER`: the items of a shard become its tokens, and the shard is published."""

import pathlib
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from tokcli.commands.encode_items import encode_items
from tokcli.contracts import Source
from tokcli.data.items import Failure
from tokcli.data.readers import Readers
from tokcli.errors import TokError
from tokcli.exchange.about import AboutItems
from tokcli.models import Model
from tokcli.progress import FailureNotes, Reporter, Task
from tokcli.shards.ledger import Ledger, Record
from tokcli.shards.plan import PLAN
from tokcli.shards.workers import count_local
from tokcli.tokens import TokenHeader
from tokcli.tokens.header import TokenRecord
from tokcli.tokens.stacked import write_shard
from tokcli.tokens.tally import Tally
from tokcli.tokens.writing import check_tokens


@dataclass(frozen=True)
class Encoding:
    """What is encoded, and by what: the same for every worker.

    Attributes:
        model: that encodes.
        source: of the items.
        known: what is kept about them.
        inputs: as they were typed.
        reporter: is told what happens.
        compiled: whether the model's network is; a few tokens may be others by that.
    """

    model: Model
    source: Source
    known: AboutItems
    inputs: Sequence[str]
    reporter: Reporter
    compiled: bool = False


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
        self._header = read_header_of(ledger)
        self._readers = Readers(count_local())
        self._notes = FailureNotes(work.reporter, "the shards list all of them with their reasons")

    def encode(self, shard: int, task: Task) -> int:
        """Encode a shard and publish it; how many items that were.

        Raises:
            MismatchError: where its inputs are not those of the plan any more.
            UnreachableError: where they cannot be read now; the shard is left to be made.
        """
        started = time.perf_counter()
        work, plan, content = self._work, self._ledger.plan, ShardContent(self._header)
        span = plan.span(shard)
        at_once, readers = plan.work["batch_size"], self._readers
        encode_items(
            work.model, work.source, span, content, work.known, at_once, self._notes, task, readers, again=True
        )
        self._ledger.require_mark(shard, work.source.mark(span))
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


def describe_device(device: torch.device) -> str:
    """The device by the name of its maker, which its tokens can depend on."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def read_header_of(ledger: Ledger) -> TokenHeader:
    """What holds for all tokens of a folder. Raises TokError where its plan is of other work."""
    work = ledger.plan.work
    if work.get("command") != "encode":
        raise TokError(f"{ledger.folder} is no folder of tokens: its plan is of tok {work.get('command')}")
    return TokenHeader.from_json(work, pathlib.Path(f"{ledger.folder}/{PLAN}"))
