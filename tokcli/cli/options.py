"""The flags that several commands share, said once."""

import sys
from typing import Annotated

import typer

from tokcli import __version__


def shared_by(processes: int) -> int | None:
    """Run this command in several processes and return its exit code; None where it is to run in this one."""
    if processes == 1:
        return None
    from tokcli.commands.launch import launch, launched

    return None if launched() else launch(sys.argv[1:], processes)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"tok {__version__}")
        raise typer.Exit


Json = Annotated[bool, typer.Option("--json", help="Print nothing but one line of JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite what is there.")]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Seed of everything random.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
]
Processes = Annotated[int, typer.Option("--processes", help="Processes on this machine that share the work.", min=1)]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="MODEL", help="An artifact or run folder. [default: $TOK_MODEL, else the last run]"
    ),
]
