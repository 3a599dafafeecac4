"""`tok import`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.console import print_json, print_table
from tokcli.cli.export import OPTIONS as FORMAT_OPTIONS
from tokcli.cli.export import Bos, Columns, Dtype, Eos, LabelToken, Layout, Offset, Order, Preset
from tokcli.cli.options import Codebook, Force, Model
from tokcli.cli.verb import Run, verb
from tokcli.errors import UsageError

if TYPE_CHECKING:
    from tokcli.commands.import_tokens import Imported
    from tokcli.commands.import_weights import ImportedWeights


@verb("tok import samples.bin -m runs/a --grid 16x16 -o tokens.npy")
def import_tokens(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="What a generator or export wrote; with --as a checkpoint.")
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="OUT", help="tokens.npy, tokens.safetensors, a folder; of weights m.safetensors."
        ),
    ],
    publisher: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="llamagen|taming", help="FILE is such a tokenizer's weights: .pt, .ckpt, .safetensors."
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of those weights, as mit. [default: unknown]")
    ] = None,
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
    """Turn a generator's tokens, or foreign weights, into ours."""
    given = {name: value for name, value in locals().items() if name in FORMAT_OPTIONS and value is not None}
    if publisher is not None:
        for_tokens = {"model": model, "codebook": codebook, "from": kind, "grid": grid, **given}
        _refuse([name for name, value in for_tokens.items() if value is not None], "goes with tokens, not with --as")
        return Run("tokcli.commands.import_weights:import_weights", _show_weights)
    _refuse(["licence"] if licence is not None else [], "goes with weights: name whose they are with --as")
    return Run("tokcli.commands.import_tokens:import_tokens", _show, {"options": given})


def _refuse(names: list[str], reason: str) -> None:
    """Raise UsageError where flags were given that mean nothing here."""
    if names:
        raise UsageError(f"--{names[0].replace('_', '-')} {reason}")


def _show_weights(result: "ImportedWeights", json: bool) -> int:
    if json:
        print_json(result.to_json())
        return 0
    rows = [
        ("weights of", result.publisher),
        ("tensors", result.tensors),
        ("left out", result.ignored),
        ("parameters", f"{result.parameters:,}"),
        ("codes", result.codebook_size),
        ("pixels of a token", f"{result.stride} × {result.stride}"),
        ("licence", result.licence),
    ]
    print_table(str(result.output), ["", "value"], rows)
    print(f"next: tok encode FOLDER -o tokens.npy -m {result.output}")
    return 0


def _show(result: "Imported", json: bool) -> int:
    if json:
        print_json(result.to_json())
    else:
        print(f"{result.items} items of {result.format} in {result.output}, as tokens of {result.model}")
        print(f"next: tok decode {result.output} -o out/ -m {result.model}")
    return 0
