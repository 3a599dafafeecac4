"""`tok train`."""

import dataclasses
from typing import Annotated

import typer

from tokcli.cli.console import make_reporter, print_json, print_table
from tokcli.cli.options import Device, Force, Json, Processes, Quiet, Version, shared_by
from tokcli.distributed import first_process
from tokcli.errors import UsageError

EXAMPLE = "tok train image-small-fsp data.train.path=photos/train data.eval.path=photos/val training.steps=2000"


def train(
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE", help="A file or a name (tok recipes).")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY.PATH=VALUE", help="Changes to the recipe.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FOLDER", help="The run's folder. [default: runs/NAME]")
    ] = None,
    resume: Annotated[
        str,
        typer.Option(
            metavar="auto|never|FILE",
            help="auto goes on from an interrupted run; never starts anew; or a checkpoint file.",
        ),
    ] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Two steps of everything, then delete them.")] = False,
    processes: Processes = 1,
    force: Force = False,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", metavar="N", help="Seed of everything random; the same as seed=N. [default: the recipe's]"
        ),
    ] = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    version: Version = False,
) -> int:
    """Train a tokenizer from a recipe."""
    if recipe is None:
        raise UsageError("which recipe? tok train quickstart is a start, tok recipes lists them all")
    if (code := shared_by(processes)) is not None:
        return code
    from tokcli.commands.train import train as run

    reporter = make_reporter(quiet)
    result = run(
        recipe,
        overrides or [],
        out=out,
        resume=resume,
        dry_run=dry_run,
        force=force,
        seed=seed,
        device=device,
        reporter=reporter,
    )
    if not first_process():
        return 0
    if json:
        report = dataclasses.asdict(result) | {"run": str(result.run), "artifact": str(result.artifact)}
        print_json(report | {"sheet": str(result.sheet) if result.sheet else None})
        return 0
    rows = list(result.metrics.items())
    if dry_run:
        print_table(f"dry run: {result.steps} steps, deleted", ["metric", "value"], rows)
        print("these figures mean nothing after so few steps; they show that the recipe trains, is judged and is saved")
        return 0
    print_table(f"{result.run.name}: {result.steps} steps", ["metric", "value"], rows)
    print(f"tokenizer: {result.artifact}")
    if result.sheet:
        print(f"look at:   {result.sheet} (originals over reconstructions)")
    print(f"next:      tok encode FOLDER -o tokens.npy -m {result.run}")
    return 0
