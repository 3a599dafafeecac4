"""`tok bench`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.console import print_json, print_table
from tokcli.cli.options import BatchSize, Codebook, Device, Model, OneModel, choose_model, numbers
from tokcli.cli.verb import Run, verb

if TYPE_CHECKING:
    from tokcli.commands.bench import Bench


@verb("tok bench runs/image-small-fsp --size 256 --threads 1,2")
def bench(
    model: OneModel = None,
    named: Model = None,
    items: Annotated[int, typer.Option(help="Signals to time.", min=1)] = 64,
    size: Annotated[int | None, typer.Option(help="Samples along each axis. [default: the recipe's]", min=1)] = None,
    batch_size: BatchSize = None,
    threads: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N...]",
            callback=numbers("numbers separated by commas, such as 1,2"),
            help="Threads of arithmetic, each timed. [default: all]",
        ),
    ] = None,
    codebook: Codebook = None,
    device: Device = "auto",
) -> Run:
    """Time a tokenizer on this machine. Beside it stands its bare autoencoder."""
    return Run("tokcli.commands.bench:bench", _show, {"model": choose_model(model, named)})


def _show(result: "Bench", json: bool) -> int:
    if json:
        print_json(result.to_json())
        return 0
    audio = any(speed.real_time_factor is not None for speed in result.speeds)
    columns = ["", "threads", "items/s", "bare items/s", "tokens/s", *(["× real time"] if audio else [])]
    columns += ["latency ms", "p95 ms", "peak MiB"]
    rows = [
        (
            speed.direction,
            speed.threads,
            speed.items_per_second,
            speed.bare_items_per_second,
            speed.tokens_per_second,
            *([speed.real_time_factor] if audio else []),
            1000 * speed.latency_median,
            1000 * speed.latency_p95,
            speed.peak_memory_mib,
        )
        for speed in result.speeds
    ]
    size = "×".join(map(str, result.size))
    print_table(f"{result.model} on {result.device} ({result.machine}): {result.items} of {size}", columns, rows)
    print(f"in batches of {result.batch_size}, {result.tokens_per_item} tokens each; latency: one item by itself")
    return 0
