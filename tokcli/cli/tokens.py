"""`tok encode` and `tok decode`."""

from typing import Annotated

import typer

from tokcli.cli.console import make_reporter, print_json, print_table
from tokcli.cli.options import Device, Force, Json, Model, Quiet, Version
from tokcli.errors import PARTIAL_FAILURE, UsageError

ENCODE_EXAMPLE = "tok encode photos/ -o tokens.npy"
DECODE_EXAMPLE = "tok decode tokens.npy -o out/"


def encode(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Folders, files, or .txt lists of files.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="tokens.npy, tokens.safetensors, or a folder.")
    ],
    model: Model = None,
    codebook: Annotated[int | None, typer.Option(metavar="K", help="Which built codebook, by its size.")] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|native",
            help="Resize and crop to N samples, or 'native' for each item's own. [default: the recipe's]",
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Items at a time. [default: by device]", min=1)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted encode.")] = False,
    force: Force = False,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    version: Version = False,
) -> int:
    """Turn files into tokens."""
    from tokcli.commands.encode import encode as run

    if size is not None and size != "native" and not (size.isdecimal() and int(size) > 0):
        raise UsageError(f"--size: expected a number of samples or 'native', got '{size}'")
    result = run(
        inputs,
        output,
        model=model,
        codebook=codebook,
        size=int(size) if size and size != "native" else size,
        batch_size=batch_size,
        resume=resume,
        force=force,
        device=device,
        reporter=make_reporter(quiet),
    )
    if json:
        print_json(result.to_json())
    else:
        print_table(str(result.output), ["", "value"], result.rows())
        _print_failed(result.failed)
        print(f"next: tok decode {result.output} -o out/")
    return PARTIAL_FAILURE if result.failed else 0


def decode(
    tokens: Annotated[str, typer.Argument(metavar="TOKENS", help="What `tok encode` wrote.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="OUT", help="A folder for the files.")],
    model: Model = None,
    file_format: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="Of the files: wav or flac, png. [default: wav, png]")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Items at a time. [default: by device]", min=1)] = None,
    force: Force = False,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    version: Version = False,
) -> int:
    """Turn tokens back into files."""
    from tokcli.commands.decode import decode as run

    result = run(
        tokens,
        output,
        model=model,
        file_format=file_format,
        batch_size=batch_size,
        force=force,
        device=device,
        reporter=make_reporter(quiet),
    )
    if json:
        failed = [{"item": failure.item, "reason": failure.reason} for failure in result.failed]
        print_json({"output": str(result.output), "items": result.items, "failed": failed})
    else:
        print(f"{result.items} files in {result.output}")
        _print_failed(result.failed)
    return PARTIAL_FAILURE if result.failed else 0


def _print_failed(failed) -> None:
    if failed:
        print_table(f"{len(failed)} failed", ["item", "reason"], [(each.item, each.reason) for each in failed])
