"""Flags of verbs that work in shards: which of them this worker does, or `--on`, who starts workers elsewhere."""

import pathlib
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokcli.cli.console import print_json, print_table
from tokcli.cli.verb import Run
from tokcli.errors import UsageError

if TYPE_CHECKING:
    from tokcli.shards.work import Progress

Shard = Annotated[
    str | None,
    typer.Option(metavar="I/N|auto", help="Of a folder, make every N-th shard from I on; auto asks the scheduler."),
]
ShardItems = Annotated[
    int | None, typer.Option("--shard-items", help="Of a folder, items in a shard. [default: by how many]", min=1)
]
Status = Annotated[bool, typer.Option("--status", help="Of a folder, say how far it is.")]
Finish = Annotated[bool, typer.Option("--finish", help="Of a folder, put its shards together.")]
On = Annotated[
    str | None,
    typer.Option(metavar="slurm|ray", help="Of a folder, hand the work to Slurm as an array of jobs, or to Ray."),
]
Address = Annotated[
    str | None,
    typer.Option(metavar="auto|HOST:PORT", help="With --on ray, the cluster. [default: one on this machine]"),
]
Jobs = Annotated[int, typer.Option("--jobs", help="With --on slurm, how many.", min=1)]
Time = Annotated[str | None, typer.Option(metavar="H:MM", help="With --on slurm, how long each may take.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="With --on slurm, print the script instead.")]


@dataclass(frozen=True)
class Elsewhere:
    """What was typed of who starts the workers.

    Attributes:
        on: slurm or ray; None: nobody, they are started here.
        address: of a Ray cluster.
        time: that a job may take.
        dry_run: only show the script.
    """

    on: str | None
    address: str | None
    time: str | None
    dry_run: bool


def find_launcher(
    typed: Elsewhere,
    folder: str | None,
    begun_by: str,
    show: Callable[[Any, bool], int],
    flags: Mapping[str, Any],
    *,
    verb: str,
    shared: bool,
    force: bool,
) -> Run | None:
    """The launcher that was asked for, ready to run; None where this process does the work.

    Args:
        typed: the flags.
        folder: of the shards; None where none was named.
        begun_by: `module:function` that begins the work, by `flags`.
        show: prints what the work gives.
        flags: of the work; plain JSON values.
        verb: and the flag before the folder: `encode -o`.
        shared: whether it was said who does which shards.
        force: start over.

    Raises:
        UsageError: for what workers elsewhere cannot do.
    """
    if typed.on is not None:
        _require_folder(typed.on, verb, folder)
    if typed.on == "slurm":
        if force:
            raise UsageError("--on slurm starts jobs that go on with each other: remove the folder instead of --force")
        words = {"arguments": sys.argv[1:], "output": folder, "again": f"tok {verb} {shlex.quote(folder or '')}"}
        return Run("tokcli.cli.slurm:submit", _show_script, words, 1)
    if typed.dry_run or typed.time is not None:
        raise UsageError("--dry-run, --jobs and --time go with --on slurm")
    if typed.on == "ray":
        if shared:
            raise UsageError("--on ray shares the shards out itself: leave --shard and --processes out")
        return Run("tokcli.cli.ray:run_on_ray", show, {"begin": begun_by, "flags": flags}, 1)
    if typed.address is not None:
        raise UsageError("--address goes with --on ray")
    return None


def refuse_without(folder: str, **named: object) -> None:
    """Raises UsageError for flags of a folder where there is none.

    Args:
        folder: the flag that names one.
        named: the flags by name, with their values.
    """
    given = [f"--{name.replace('_', '-')}" for name, value in named.items() if value]
    if given:
        raise UsageError(f"{', '.join(given)}: of a folder that workers share; name one with {folder} FOLDER")


def print_progress(progress: "Progress", json: bool) -> None:
    """Say how far a folder of shards is."""
    if json:
        print_json(progress.to_json())
    else:
        print_table(str(progress.output), ["", "value"], progress.rows())
        print(f"next: {progress.next_step}")


def _require_folder(on: str, verb: str, folder: str | None) -> None:
    """Raises UsageError for what workers elsewhere cannot write to."""
    if on not in ("slurm", "ray"):
        raise UsageError(f"--on: expected slurm or ray, got '{on[:40]}'")
    flag = verb.split()[-1]
    if folder is None:
        raise UsageError(f"--on {on} makes a folder of shards: name it with {flag} FOLDER")
    if pathlib.Path(folder).suffix and not pathlib.Path(folder).is_dir():
        raise UsageError(f"--on {on} makes a folder of shards: {flag} {pathlib.Path(folder).with_suffix('')}")


def _show_script(text: str, json: bool) -> int:
    if json:
        print_json({"slurm": text})
    else:
        print(text, end="")
    return 0
