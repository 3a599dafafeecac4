"""Seconds and memory of a shard plan at the size of large sets: its making, a look at it, and its end.

    python tests/benchmarks/bench_plan.py --inputs 1000000 --items 1000 --shards 20000

The listing is made up: so many input files of so many items each, each asked about as a file on the disk would be. The
shards' records are written as workers write them, without tokens; that is not counted.
"""

import argparse
import hashlib
import json
import pathlib
import resource
import tempfile
import time
from dataclasses import asdict
from typing import Any

from tokcli.contracts import make_mark
from tokcli.data.items import NumberedNames
from tokcli.shards.folder import LocalFolder
from tokcli.shards.ledger import FORMAT, Ledger, Record
from tokcli.shards.plan import Plan, make_plan, read_plan
from tokcli.tokens.header import TokenHeader
from tokcli.tokens.manifest import Shard, add_up, write_manifest


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


def measure(what: str, started: float) -> None:
    """Print seconds since `started`, and the most memory so far."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:34} {time.perf_counter() - started:8.2f} s   {memory:7.0f} MB at most", flush=True)


def fill(folder: pathlib.Path, plan: Plan, header: TokenHeader) -> None:
    """The records of all shards but the last, each with an empty output."""
    counts = [plan.shard_items * 256 // header.codebook_size] * header.codebook_size
    facts = {"grid": [16, 16], "samples": plan.shard_items * 65536, "histogram": [counts]}
    digest = hashlib.sha256(b"").hexdigest()
    for shard in range(plan.shards):
        items = len(plan.span(shard))
        record = Record(plan.digest, shard, items, [], 0, digest, facts, "cpu", "here", 1.0)
        (folder / f"shard-{shard:05d}.safetensors").touch()
        (folder / f"shard-{shard:05d}.json").write_text(json.dumps({"format": FORMAT, **asdict(record)}))


def describe(record: Record) -> tuple[Shard, Any]:
    """A shard's line of the manifest, and what it adds up."""
    name = f"shard-{record.shard:05d}.safetensors"
    return Shard(name, record.items, 0, record.bytes, record.sha256), record.facts


def main() -> None:
    """Measure all of it, in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, usual in (("inputs", 1_000_000), ("items", 1000), ("shards", 20_000), ("codebook", 1024)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    asked = parser.parse_args()
    header = TokenHeader(asked.codebook, 1, "image", "ab" * 32, "cd" * 32, "ema")
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        started = time.perf_counter()
        source = Listing(asked.inputs, asked.items)
        work = {"command": "encode", **header.to_json()}
        plan = make_plan(work, ["*.tar"], source, -(-len(source) // asked.shards))  # pyright: ignore[reportArgumentType]
        measure(f"plan of {len(source):,} items, {plan.shards:,} shards", started)
        started = time.perf_counter()
        plan.create(LocalFolder(folder))
        plan = read_plan(LocalFolder(folder))
        measure(f"written and read, {(folder / 'plan.json').stat().st_size / 1e6:.1f} MB", started)
        fill(folder, plan, header)
        started = time.perf_counter()
        ledger = Ledger(LocalFolder(folder), plan)
        assert len(ledger.list_done()) == plan.shards
        measure("what is left to do", started)
        started = time.perf_counter()
        assert ledger.describe(False).items == plan.items
        measure("status", started)
        started = time.perf_counter()

        def write(records) -> None:
            shards, tally = add_up(header, (describe(record) for record in records))
            write_manifest(LocalFolder(folder), header, shards, tally)

        assert ledger.finish(write, (folder / "manifest.json").exists) is None
        measure(f"finish, {(folder / 'manifest.json').stat().st_size / 1e6:.1f} MB", started)


if __name__ == "__main__":
    main()
