"""`tok export`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.console import print_failed, print_json, print_table
from tokcli.cli.options import Force
from tokcli.cli.verb import Run, verb
from tokcli.errors import PARTIAL_FAILURE, UsageError

if TYPE_CHECKING:
    from tokcli.commands.export import Exported


def _parse_columns(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    pairs = [pair.strip().partition("=") for pair in text.split(",")]
    if not all(name and equals and new for name, equals, new in pairs):
        raise UsageError(f"--columns: expected pairs such as tokens=speech_token,name=utt; got '{text}'")
    return {name.strip(): new.strip() for name, _, new in pairs}


def parse_identifier(parameter: typer.CallbackParam, text: str | None) -> int | str | None:
    """The number of a special id, or `auto`. For `typer.Option(callback=parse_identifier)`."""
    if text is None or text == "auto":
        return text
    if not text.isdecimal() or len(text) > 9:
        raise UsageError(f"{parameter.opts[0]}: expected the number of an id, or auto; got '{text[:40]}'")
    return int(text)


To = Annotated[
    str, typer.Option("--to", metavar="FORMAT", help="parquet, bin, webdataset, npy-tree or jsonl.", show_default=False)
]
Order = Annotated[
    str | None, typer.Option(help="Of positions in a row: raster, columns, snake, morton. [default: raster]")
]
Layout = Annotated[
    str | None, typer.Option(help="Of several tokens a position: parallel, interleaved, delay. [default: by format]")
]
Preset = Annotated[
    str | None,
    typer.Option(help="Whose files: maskgen, 4m (webdataset); llamagen, xcodec2, amphion, fish-speech (npy-tree)."),
]
Bos = Annotated[str | None, typer.Option(metavar="ID|auto", callback=parse_identifier, help="Begins each item (bin).")]
Eos = Annotated[str | None, typer.Option(metavar="ID|auto", callback=parse_identifier, help="Ends each item (bin).")]
LabelToken = Annotated[
    str | None,
    typer.Option(metavar="ID|auto", callback=parse_identifier, help="The id of label 0, ahead of the codes (bin)."),
]
Offset = Annotated[int | None, typer.Option(help="Ids kept free before the first code (bin).", min=0)]
Views = Annotated[
    str | None, typer.Option(metavar="flip|ten-crop", help="Which views of each item there must be (npy-tree).")
]
Dtype = Annotated[str | None, typer.Option(help="Of an id: auto, uint16, uint32 (bin).")]
Columns = Annotated[
    str | None, typer.Option(metavar="NAME=NEW,...", callback=_parse_columns, help="Other names of columns (parquet).")
]

OPTIONS = (
    "order",
    "layout",
    "preset",
    "views",
    "bos",
    "eos",
    "label_token",
    "offset",
    "dtype",
    "split",
    "columns",
    "fixed",
)
"""Flags that are arguments of a format, as far as it has them."""


@verb("tok export tokens.npy --to bin --eos auto --split .9 -o data/")
def export(
    tokens: Annotated[str, typer.Argument(metavar="TOKENS", help="What `tok encode` wrote.")],
    to: To,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="A folder; or NAME.parquet, NAME.jsonl.")
    ],
    about: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Labels, captions and more by item: CSV or JSONL with a column 'name'."),
    ] = None,
    labels: Annotated[
        str, typer.Option(help="Where labels come from: auto, about, folder (that an item lies in), none.")
    ] = "auto",
    split: Annotated[
        float | None, typer.Option(metavar="SHARE", help="The share of items that train, the others validate.", min=0.0)
    ] = None,
    order: Order = None,
    layout: Layout = None,
    preset: Preset = None,
    views: Views = None,
    bos: Bos = None,
    eos: Eos = None,
    label_token: LabelToken = None,
    offset: Offset = None,
    dtype: Dtype = None,
    columns: Columns = None,
    fixed: Annotated[bool, typer.Option("--fixed", help="Lists of one length where grids agree (parquet).")] = False,
    part_items: Annotated[
        int | None, typer.Option(help="Items of a tar, a parquet file or a step of a resumed export.", min=1)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted export.")] = False,
    force: Force = False,
) -> Run:
    """Turn tokens into files that generators read."""
    given = {name: value for name, value in locals().items() if name in OPTIONS and value not in (None, False)}
    return Run("tokcli.commands.export:export", _show, {"options": given})


def _show(result: "Exported", json: bool) -> int:
    if json:
        print_json(result.to_json())
    else:
        rows = [("items", result.items), ("failed", len(result.failed)), ("labels", result.labels)]
        told = ("dtype", "vocabulary_size", "ids_per_item", "bos", "eos", "label_base", "order", "layout", "preset")
        rows += [(name.replace("_", " "), result.meta[name]) for name in told if result.meta.get(name) is not None]
        print_table(f"{result.output} ({result.format})", ["", "value"], rows)
        print_failed(result.failed)
        print(f"and back: tok import {result.output} -o tokens.npy")
    return PARTIAL_FAILURE if result.failed else 0
