"""Seconds and memory of a shard plan at the size of large sets: its making, a look at it, and its end; bytes an item.

    python tests/benchmarks/bench_plan.py          # 10^6 tars, 10^9 items, 10^5 shards; --json

The listing is made up: so many input files of so many items each. The shards' records are written as workers write
them, with empty outputs; that is not counted. The bytes of an item are those of one real shard with its record, and of
its share of plan and manifest, beside the bits that its tokens are worth.
"""

import argparse
import hashlib
import json
import math
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

import numpy

from tokcli.commands.encode_shards import finish_ledger, read_progress
from tokcli.contracts import make_mark
from tokcli.data.items import NumberedNames
from tokcli.shards.folder import LocalFolder
from tokcli.shards.ledger import FORMAT, Ledger, Record
from tokcli.shards.plan import MOST_ITEMS, Plan, make_plan, read_plan
from tokcli.tokens.header import TokenHeader, TokenRecord
from tokcli.tokens.stacked import write_shard

T = TypeVar("T")

GRID = (16, 16)


class Listing:
    """The names of made-up archives of so many items each."""

    def __init__(self, inputs: int, items: int) -> None:
        self.names = NumberedNames("item-", inputs * items)
        self._items = items

    def __len__(self) -> int:
        return len(self.names)

    def mark(self, items: range) -> str:
        """What the archives' sizes and times would give."""
        archives = range(items.start // self._items, (items.stop - 1) // self._items + 1)
        return make_mark(f"{number:07d}.tar 1000000 {number}" for number in archives)


class Table:
    """What was measured, a row each.

    Args:
        quiet: Whether rows are kept for the JSON alone.
    """

    def __init__(self, quiet: bool) -> None:
        self.rows: dict[str, dict[str, float]] = {}
        self._quiet = quiet

    def measure(self, what: str, work: Callable[[], T]) -> T:
        """The seconds that some work takes, of the clock and of this process, and the most memory so far."""
        started, used = time.perf_counter(), time.process_time()
        result = work()
        seconds, own = time.perf_counter() - started, time.process_time() - used
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.rows[what] = {"seconds": round(seconds, 3), "cpu_seconds": round(own, 3), "peak_mb": round(memory)}
        if not self._quiet:
            print(f"{what:30} {seconds:8.2f} s {own:8.2f} s of the CPU {memory:7.0f} MB at most", flush=True)
        return result


def fill(folder: pathlib.Path, plan: Plan, header: TokenHeader) -> None:
    """The records of all shards, each with an empty output."""
    counts = [plan.shard_items * math.prod(GRID) // header.codebook_size] * header.codebook_size
    facts = {"grid": GRID, "samples": plan.shard_items * 65536, "histogram": [counts]}
    digest = hashlib.sha256(b"").hexdigest()
    for shard in range(plan.shards):
        items = len(plan.span(shard))
        record = Record(plan.digest, shard, items, [], 0, digest, facts, "cpu", "here", 1.0)
        (folder / f"shard-{shard:05d}.safetensors").touch()
        (folder / f"shard-{shard:05d}.json").write_text(json.dumps({"format": FORMAT, **asdict(record)}))


def measure_bytes(folder: pathlib.Path, plan: Plan, header: TokenHeader) -> dict[str, float]:
    """Bytes of an item: in a shard of real tokens, in the files beside it, and what its tokens are worth."""
    generator = numpy.random.default_rng(0)
    items = plan.shard_items
    tokens = list(generator.integers(0, header.codebook_size, (items, *GRID, 1)).astype(header.dtype))
    records = [TokenRecord(f"item-{number:06d}", GRID, (256, 256), (256, 256), {}) for number in range(items)]
    shard = write_shard(folder / "one.safetensors", header, records, [], tokens).bytes / items
    record = (folder / "shard-00000.json").stat().st_size / items
    shared = sum((folder / name).stat().st_size for name in ("plan.json", "manifest.json")) / plan.items
    packed = math.prod(GRID) * math.log2(header.codebook_size) / 8
    return {"shard": shard, "record": record, "plan and manifest": shared, "packed": packed}


def main() -> None:
    """Measure all of it, in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = (("inputs", 1_000_000), ("items", 1000), ("shard-items", MOST_ITEMS), ("codebook", 1024))
    for name, number in usual:
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    header = TokenHeader(asked.codebook, 1, "image", "ab" * 32, "cd" * 32, "ema")
    table, source = Table(asked.json), Listing(asked.inputs, asked.items)
    work: dict[str, Any] = {"command": "encode", **header.to_json()}
    with tempfile.TemporaryDirectory() as place:
        path, folder = pathlib.Path(place), LocalFolder(pathlib.Path(place))
        plan = table.measure(
            "plan",
            lambda: make_plan(work, ["*.tar"], source, asked.shard_items),  # pyright: ignore[reportArgumentType]
        )
        table.measure("plan written and read", lambda: (plan.create(folder), read_plan(folder)))
        fill(path, plan, header)
        ledger = Ledger(folder, plan)
        assert len(table.measure("what is left to do", ledger.list_done)) == plan.shards
        progress = table.measure("--status", lambda: read_progress(folder))
        assert progress.status.items == plan.items
        assert table.measure("--finish", lambda: finish_ledger(ledger)) is None
        sizes = measure_bytes(path, plan, header)
    if asked.json:
        size = {"inputs": asked.inputs, "items": plan.items, "shards": plan.shards, "codebook": asked.codebook}
        print(json.dumps({**size, "rows": table.rows, "bytes_per_item": sizes}))
        return
    whole = sum(value for name, value in sizes.items() if name != "packed")
    told = ", ".join(f"{value:.2f} in the {name}" for name, value in sizes.items() if name != "packed")
    packed = sizes["packed"]
    print(f"{whole:.1f} bytes an item ({told}), {whole / packed:.2f} of the packed rate of {packed:.0f}")


if __name__ == "__main__":
    main()
