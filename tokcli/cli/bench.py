"""`tok bench`."""

from typing import Annotated

import typer

from tokcli.cli.console import make_reporter, print_json, print_table
from tokcli.cli.options import Device, Json, Quiet, Version
from tokcli.errors import UsageError

EXAMPLE = "tok bench runs/image-small-fsp --size 256 --threads 1,2"


def bench(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="An artifact or run folder. [default: the last run]")
    ] = None,
    items: Annotated[int, typer.Option(help="Signals to time.", min=1)] = 64,
    size: Annotated[int | None, typer.Option(help="Samples along each axis. [default: the recipe's]", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Items at a time. [default: by device]", min=1)] = None,
    threads: Annotated[
        str | None, typer.Option(metavar="N[,N...]", help="Threads of arithmetic, each timed. [default: all]")
    ] = None,
    codebook: Annotated[int | None, typer.Option(metavar="K", help="Which built codebook, by its size.")] = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    version: Version = False,
) -> int:
    """Time a tokenizer on this machine. Beside it stands its bare autoencoder."""
    from tokcli.commands.bench import bench as run

    result = run(
        model,
        items=items,
        size=size,
        batch_size=batch_size,
        threads=_counts(threads),
        codebook=codebook,
        device=device,
        reporter=make_reporter(quiet),
    )
    if json:
        print_json(result.to_json())
        return 0
    sound = any(speed.real_time_factor is not None for speed in result.speeds)
    columns = ["", "threads", "items/s", "bare items/s", "tokens/s", *(["× real time"] if sound else [])]
    columns += ["latency ms", "p95 ms", "peak MiB"]
    rows = [
        (
            speed.direction,
            speed.threads,
            speed.items_per_second,
            speed.bare_items_per_second,
            speed.tokens_per_second,
            *([speed.real_time_factor] if sound else []),
            1000 * speed.latency_median,
            1000 * speed.latency_p95,
            speed.peak_memory_mib,
        )
        for speed in result.speeds
    ]
    size_text = "×".join(map(str, result.size))
    print_table(f"{result.model} on {result.device} ({result.machine}): {result.items} of {size_text}", columns, rows)
    print(f"in batches of {result.batch_size}, {result.tokens_per_item} tokens each; latency: one item by itself")
    return 0


def _counts(text: str | None) -> list[int]:
    if text is None:
        return []
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--threads: expected numbers separated by commas, such as 1,2; got '{text}'")
    return [int(part) for part in parts]
