"""`tok import`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.console import print_json
from tokcli.cli.export import OPTIONS as FORMAT_OPTIONS
from tokcli.cli.export import Bos, Columns, Dtype, Eos, LabelToken, Layout, Offset, Order, Preset
from tokcli.cli.options import Codebook, Force, Model
from tokcli.cli.verb import Run, verb

if TYPE_CHECKING:
    from tokcli.commands.import_tokens import Imported


@verb("tok import samples.bin -m runs/a --grid 16x16 -o tokens.npy")
def import_tokens(
    source: Annotated[str, typer.Argument(metavar="FILE", help="A file or folder that a generator or export wrote.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="tokens.npy, tokens.safetensors, or a folder.")
    ],
    model: Model = None,
    codebook: Codebook = None,
    kind: Annotated[
        str | None, typer.Option("--from", metavar="FORMAT", help="Its format. [default: by its name and meta.json]")
    ] = None,
    grid: Annotated[
        str | None, typer.Option(metavar="HxW", help="Positions of an item, where the file does not say.")
    ] = None,
    order: Order = None,
    layout: Layout = None,
    preset: Preset = None,
    bos: Bos = None,
    eos: Eos = None,
    label_token: LabelToken = None,
    offset: Offset = None,
    dtype: Dtype = None,
    columns: Columns = None,
    force: Force = False,
) -> Run:
    """Turn a generator's files back into tokens."""
    given = {name: value for name, value in locals().items() if name in FORMAT_OPTIONS and value is not None}
    return Run("tokcli.commands.import_tokens:import_tokens", _show, {"options": given})


def _show(result: "Imported", json: bool) -> int:
    if json:
        print_json(result.to_json())
    else:
        print(f"{result.items} items of {result.format} in {result.output}, as tokens of {result.model}")
        print(f"next: tok decode {result.output} -o out/ -m {result.model}")
    return 0
