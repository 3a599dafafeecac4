"""`tok encode`."""

import pathlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.console import print_failed, print_json, print_table
from tokcli.cli.launch import launched
from tokcli.cli.options import BatchSize, Codebook, Device, Force, Groups, Model, read_samples
from tokcli.cli.verb import Run, verb
from tokcli.cli.workers import count_workers
from tokcli.errors import PARTIAL_FAILURE, UsageError
from tokcli.tokens import FORMATS

if TYPE_CHECKING:
    from tokcli.commands.encode_shards import Progress
    from tokcli.commands.encoded import Encoded


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
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N|auto", help="Of a folder, make every N-th shard from I on; auto asks the scheduler."),
    ] = None,
    shard_items: Annotated[
        int | None, typer.Option("--shard-items", help="Of a folder, items in a shard. [default: by how many]", min=1)
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(metavar="slurm|ray", help="Of a folder, hand the work to Slurm as an array of jobs, or to Ray."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="auto|HOST:PORT", help="With --on ray, the cluster. [default: one on this machine]"),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="With --on slurm, how many.", min=1)] = 8,
    time: Annotated[str | None, typer.Option(metavar="H:MM", help="With --on slurm, how long each may take.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --on slurm, print the script instead.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Of a folder, say how far it is.")] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Of a folder, put its shards together.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted encode.")] = False,
    force: Force = False,
    device: Device = "auto",
) -> Run:
    """Turn files into tokens."""
    if not inputs and not (status or finish):
        raise UsageError("Missing argument 'INPUT'. (tok encode --help says more)")
    if on is not None:
        _require_launcher(on, output, "-" in (inputs or []))
    if on == "slurm":
        if force:
            raise UsageError("--on slurm starts jobs that go on with each other: remove the folder instead of --force")
        return Run("tokcli.cli.slurm:submit", _show_script, {"arguments": sys.argv[1:]}, 1)
    if dry_run or time is not None:
        raise UsageError("--dry-run, --jobs and --time go with --on slurm")
    if on == "ray":
        if shard is not None or processes is not None:
            raise UsageError("--on ray shares the shards out itself: leave --shard and --processes out")
        flags = {"inputs": inputs, "output": output, "model": model, "codebook": codebook, "size": size}
        flags |= {
            "groups": groups,
            "about": about,
            "views": views,
            "batch_size": batch_size,
            "shard_items": shard_items,
        }
        return Run("tokcli.cli.ray:encode_on_ray", _show, {"flags": {**flags, "device": device}}, 1)
    if address is not None:
        raise UsageError("--address goes with --on ray")
    workers = count_workers(processes) if not launched() else None
    changes = {"inputs": inputs or [], "processes": workers}
    return Run("tokcli.commands.encode:encode", _show, changes, 1 if status or finish else workers or 1)


def _require_launcher(on: str, output: str, piped: bool) -> None:
    """Raises UsageError for what workers elsewhere cannot do."""
    if on not in ("slurm", "ray"):
        raise UsageError(f"--on: expected slurm or ray, got '{on[:40]}'")
    if pathlib.Path(output).suffix and not pathlib.Path(output).is_dir():
        raise UsageError(f"--on {on} makes a folder of shards: -o {pathlib.Path(output).with_suffix('')}")
    if piped:
        raise UsageError(f"--on {on} starts workers that read their inputs again: name a list instead of '-'")


def _show_script(text: str, json: bool) -> int:
    if json:
        print_json({"slurm": text})
    else:
        print(text, end="")
    return 0


def _show(result: "Encoded | Progress", json: bool) -> int:
    if json:
        print_json(result.to_json())
    else:
        print_table(str(result.output), ["", "value"], result.rows())
        print_failed(result.failed)
        print(f"next: {result.next_step}")
    return PARTIAL_FAILURE if result.failed else 0
