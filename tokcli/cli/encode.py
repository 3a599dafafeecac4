"""`tok encode`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.console import print_failed, print_json, print_table
from tokcli.cli.elsewhere import (
    Address,
    DryRun,
    Elsewhere,
    Finish,
    Jobs,
    On,
    Shard,
    ShardItems,
    Status,
    Time,
    find_launcher,
)
from tokcli.cli.launch import launched
from tokcli.cli.options import BatchSize, Codebook, Compiled, Device, Force, Groups, Model, read_samples
from tokcli.cli.verb import Run, verb
from tokcli.cli.workers import count_workers
from tokcli.errors import PARTIAL_FAILURE, UsageError
from tokcli.tokens import FORMATS

if TYPE_CHECKING:
    from tokcli.commands.encoded import Encoded
    from tokcli.shards.work import Progress


*_files, _folder = FORMATS


@verb("tok encode photos/ -o tokens.npy")
def encode(
    output: Annotated[str, typer.Option("--output", "-o", metavar="OUT", help=f"{', '.join(_files)}, or {_folder}.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Folders, files, patterns, .txt lists; - for a list on stdin."),
    ] = None,
    model: Model = None,
    codebook: Codebook = None,
    groups: Groups = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|native",
            callback=read_samples,
            help="Resize and crop to N samples, or 'native' for each item's own. [default: the recipe's]",
        ),
    ] = None,
    about: Annotated[
        str | None,
        typer.Option(
            metavar="folder|FILE", help="Keep labels: each item's folder, or a CSV or JSONL with a column 'name'."
        ),
    ] = None,
    views: Annotated[
        str | None, typer.Option(metavar="flip|ten-crop", help="Encode several views of each picture.")
    ] = None,
    batch_size: BatchSize = None,
    processes: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto", help="Of a folder, workers on this machine; auto: one for each GPU, else for each core."
        ),
    ] = None,
    shard: Shard = None,
    shard_items: ShardItems = None,
    on: On = None,
    address: Address = None,
    jobs: Jobs = 8,
    time: Time = None,
    dry_run: DryRun = False,
    status: Status = False,
    finish: Finish = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted encode.")] = False,
    force: Force = False,
    compiled: Compiled = False,
    device: Device = "auto",
) -> Run:
    """Turn files into tokens."""
    if not inputs and not (status or finish):
        raise UsageError("Missing argument 'INPUT'. (tok encode --help says more)")
    if on is not None and "-" in (inputs or []):
        raise UsageError(f"--on {on} starts workers that read their inputs again: name a list instead of '-'")
    flags = {"inputs": inputs, "output": output, "model": model, "codebook": codebook, "groups": groups, "size": size}
    flags |= {"about": about, "views": views, "batch_size": batch_size, "shard_items": shard_items}
    flags |= {"compiled": compiled, "device": device}
    launcher = find_launcher(
        Elsewhere(on, address, time, dry_run),
        output,
        "tokcli.commands.encode:begin_encoding",
        _show,
        flags,
        verb="encode -o",
        shared=shard is not None or processes is not None,
        force=force,
    )
    if launcher is not None:
        return launcher
    workers = count_workers(processes) if not launched() else None
    changes = {"inputs": inputs or [], "processes": workers}
    return Run("tokcli.commands.encode:encode", _show, changes, 1 if status or finish else workers or 1)


def _show(result: "Encoded | Progress", json: bool) -> int:
    if json:
        print_json(result.to_json())
    else:
        print_table(str(result.output), ["", "value"], result.rows())
        print_failed(result.failed)
        print(f"next: {result.next_step}")
    return PARTIAL_FAILURE if result.failed else 0
