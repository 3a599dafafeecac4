"""`tok encode`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.console import print_failed, print_json, print_table
from tokcli.cli.options import BatchSize, Codebook, Device, Force, Model, is_number
from tokcli.cli.verb import Run, verb
from tokcli.errors import PARTIAL_FAILURE, UsageError
from tokcli.tokens import FORMATS

if TYPE_CHECKING:
    from tokcli.commands.encode_shards import Progress
    from tokcli.commands.encoded import Encoded


*_files, _folder = FORMATS


def _size(text: str | None) -> int | str | None:
    if text is None or text == "native":
        return text
    if not (is_number(text) and int(text) > 0):
        raise UsageError(f"--size: expected a number of samples or 'native', got '{text[:40]}'")
    return int(text)


@verb("tok encode photos/ -o tokens.npy")
def encode(
    output: Annotated[str, typer.Option("--output", "-o", metavar="OUT", help=f"{', '.join(_files)}, or {_folder}.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Folders, files, patterns, .txt lists; - for a list on stdin."),
    ] = None,
    model: Model = None,
    codebook: Codebook = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|native",
            callback=_size,
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
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N|auto", help="Of a folder, make every N-th shard from I on; auto asks the scheduler."),
    ] = None,
    shard_items: Annotated[
        int | None, typer.Option("--shard-items", help="Of a folder, items in a shard. [default: by how many]", min=1)
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Of a folder, say how far it is.")] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Of a folder, put its shards together.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted encode.")] = False,
    force: Force = False,
    device: Device = "auto",
) -> Run:
    """Turn files into tokens."""
    if not inputs and not (status or finish):
        raise UsageError("Missing argument 'INPUT...'. (tok encode --help says more)")
    return Run("tokcli.commands.encode:encode", _show, {"inputs": inputs or []})


def _show(result: "Encoded | Progress", json: bool) -> int:
    if json:
        print_json(result.to_json())
    else:
        print_table(str(result.output), ["", "value"], result.rows())
        print_failed(result.failed)
        print(f"next: {result.next_step}")
    return PARTIAL_FAILURE if result.failed else 0
