"""What each export costs: 10^5 items of 256 tokens by default, each writer in a process of its own.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_export.py --items 100000 --json export.json

Memory is how far the process rose above what it had before, with all items and with a quarter of them. What a writer
holds beyond the first row, which merely opens the token file, is the same for both where it streams.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy

OPENING = "(opening the token file)"
"""A row for what every command that reads tokens pays: names and sizes of all items are held."""

KINDS = {
    OPENING: {},
    "parquet": {},
    "bin": {"eos": "auto", "split": 0.9},
    "webdataset": {},
    "npy-tree": {},
    "npy-tree llamagen": {"preset": "llamagen"},
    "jsonl": {},
}
CODES = 1000


def write_tokens(path: pathlib.Path, items: int) -> None:
    """A token file of items of 16×16 in ten classes."""
    from tokcli.tokens import TokenHeader, open_writer

    header = TokenHeader(CODES, 1, "image", "n" * 64, "c" * 64, "ema")
    generator = numpy.random.default_rng(0)
    names = [f"class-{number % 10}/photo-{number:07d}.jpg" for number in range(items)]
    with open_writer(path, header, names) as writer:
        for name in names:
            writer.append(name, generator.integers(0, CODES, (16, 16, 1)), (64, 64), (64, 64))


def measure(tokens: pathlib.Path, output: pathlib.Path, kind: str) -> dict[str, float]:
    """Seconds, MiB above the start, and bytes written, of one export in this process."""
    from tokcli.commands.export import export
    from tokcli.exchange import EXCHANGE_FORMATS
    from tokcli.tokens import open_tokens

    options = KINDS[kind]
    if kind != OPENING:
        EXCHANGE_FORMATS[kind.split()[0]]  # imports what the format needs
    if kind == "parquet":
        import pyarrow.parquet  # noqa: F401
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, cpu = time.perf_counter(), time.process_time()
    if kind == OPENING:
        open_tokens(tokens)
    else:
        export(str(tokens), str(output), to=kind.split()[0], options=options)
    written = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "memory_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "written_mib": written / 2**20,
    }


def measure_apart(tokens: pathlib.Path, folder: pathlib.Path, kind: str) -> dict[str, float]:
    """The same in a process of its own."""
    output = folder / kind.replace(" ", "-")
    command = [sys.executable, __file__, "--one", kind, "--tokens", str(tokens), "--output", str(output)]
    root = str(pathlib.Path(__file__).parents[2])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root}, check=True)
    subprocess.run(["rm", "-rf", str(output)], check=True)
    return json.loads(done.stdout)


def main() -> None:
    """Measure every writer, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--json")
    parser.add_argument("--kinds", default=",".join(KINDS), help="separated by commas")
    for name in ("--one", "--tokens", "--output"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    given = parser.parse_args()
    sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
    if given.one:
        print(json.dumps(measure(pathlib.Path(given.tokens), pathlib.Path(given.output), given.one)))
        return
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for file, items in (("all.npy", given.items), ("quarter.npy", given.items // 4)):
            write_tokens(folder / file, items)
        print("| format | s | CPU s | items/s | MiB written | MiB of memory | with a quarter of the items |")
        print("|---|---|---|---|---|---|---|")
        for kind in given.kinds.split(","):
            row, quarter = (measure_apart(folder / file, folder, kind) for file in ("all.npy", "quarter.npy"))
            rows[kind] = row | {"memory_mib_quarter": quarter["memory_mib"]}
            rate = given.items / row["seconds"]
            print(
                f"| {kind} | {row['seconds']:.1f} | {row['cpu_seconds']:.1f} | {rate:,.0f} | {row['written_mib']:.0f} "
                f"| {row['memory_mib']:.0f} | {quarter['memory_mib']:.0f} |",
                flush=True,
            )
    if given.json:
        pathlib.Path(given.json).write_text(json.dumps({"items": given.items, "formats": rows}, indent=1))


if __name__ == "__main__":
    main()
