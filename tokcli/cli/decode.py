"""`tok decode`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.console import print_failed, print_json
from tokcli.cli.options import BatchSize, Codebook, Compiled, Device, Force, Groups, Model, lengths
from tokcli.cli.verb import Run, verb
from tokcli.errors import PARTIAL_FAILURE

if TYPE_CHECKING:
    from tokcli.commands.decode import Decoded


@verb("tok decode tokens.npy -o out/")
def decode(
    tokens: Annotated[
        str,
        typer.Argument(
            metavar="TOKENS", help="What `tok encode` wrote, or integers of a generator: .npy, .safetensors, .bin."
        ),
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="OUT", help="A folder for the files.")],
    model: Model = None,
    codebook: Codebook = None,
    groups: Groups = None,
    grid: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Tokens of an item, where the file has no header. [default: the model's]"),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW|N",
            callback=lengths,
            help="Pixels or samples of an item, likewise. [default: all that its grid covers]",
        ),
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="Of the files: png, jpg, webp; wav, flac. [default: png, wav]"),
    ] = None,
    batch_size: BatchSize = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted decode.")] = False,
    force: Force = False,
    compiled: Compiled = False,
    device: Device = "auto",
) -> Run:
    """Turn tokens back into files."""
    return Run("tokcli.commands.decode:decode", _show)


def _show(result: "Decoded", json: bool) -> int:
    if json:
        print_json(result.to_json())
    else:
        print(f"{result.items} files in {result.output}")
        print_failed(result.failed)
    return PARTIAL_FAILURE if result.failed else 0
