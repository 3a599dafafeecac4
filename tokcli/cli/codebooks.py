"""`tok build-codebook`."""

import dataclasses
from typing import Annotated

import typer

from tokcli.cli.console import make_reporter, print_json, print_table
from tokcli.cli.options import Device, Force, Json, Processes, Quiet, Seed, Version, shared_by
from tokcli.distributed import first_process
from tokcli.errors import UsageError

EXAMPLE = "tok build-codebook runs/image-small-vpvae --size 256,1024,4096"


def build_codebook(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="An artifact or run folder. [default: the last run]")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="K[,K...]", help="Codes; several sizes in one pass. [default: the recipe's]")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="What to encode. [default: the training data]")
    ] = None,
    samples: Annotated[int, typer.Option(help="Latents to build from.", min=1)] = 200_000,
    passes: Annotated[int, typer.Option(help="Over the data, each with other random crops.", min=1)] = 1,
    processes: Processes = 1,
    force: Force = False,
    seed: Seed = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    version: Version = False,
) -> int:
    """Build codebooks of any size for a trained tokenizer."""
    if (code := shared_by(processes)) is not None:
        return code
    from tokcli.commands.build_codebook import build_codebook as run

    result = run(
        model,
        sizes=_sizes(size),
        data=data,
        samples=samples,
        passes=passes,
        force=force,
        seed=seed or 0,
        device=device,
        reporter=make_reporter(quiet),
    )
    if not first_process():
        return 0
    if json:
        codebooks = {str(report.size): dataclasses.asdict(report) for report in result.reports}
        print_json({"artifact": str(result.artifact), "codebooks": codebooks})
        return 0
    rows = [(report.size, report.mse, report.perplexity, report.samples) for report in result.reports]
    print_table(str(result.artifact), ["codebook", "mse", "perplexity", "latents"], rows)
    return 0


def _sizes(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 1 for part in parts):
        raise UsageError(f"--size: expected numbers of codes separated by commas, such as 256,1024; got '{text}'")
    return [int(part) for part in parts]
