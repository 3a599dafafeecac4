"""`tok probe`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.completion import complete_model
from tokcli.cli.console import print_json, print_table
from tokcli.cli.options import Device, Force, Processes
from tokcli.cli.verb import Run, verb
from tokcli.errors import PARTIAL_FAILURE

if TYPE_CHECKING:
    from tokcli.commands.probe import Probed


@verb("tok probe train.npy --val val.npy -o probes/")
def probe(
    tokens: Annotated[list[str], typer.Argument(metavar="TOKENS", help="Token files, one for each tokenizer.")],
    val: Annotated[
        list[str] | None,
        typer.Option(metavar="TOKENS", help="What to judge on, once for each of them. [default: a tenth, held out]"),
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", metavar="OUT", help="A folder for the probes.")] = "probes",
    protocol: Annotated[str, typer.Option(help="probe-small (two cores) or probe-base (a GPU).")] = "probe-small",
    steps: Annotated[int | None, typer.Option(help="Instead of the protocol's.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of weights and order.", min=0)] = 0,
    about: Annotated[
        str | None, typer.Option(metavar="FILE", help="Labels by item: CSV or JSONL with a column 'name'.")
    ] = None,
    labels: Annotated[
        str, typer.Option(help="Where labels come from: auto, about, folder (that an item lies in), none.")
    ] = "auto",
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="The tokenizers. [default: the finished runs in ./runs, photo, speech]",
            autocompletion=complete_model,
        ),
    ] = None,
    scores: Annotated[
        str | None, typer.Option(metavar="FILE.json", help="What `tok eval --json` printed, to stand beside.")
    ] = None,
    samples: Annotated[int, typer.Option(help="To draw from each probe and decode.", min=0)] = 0,
    temperature: Annotated[float, typer.Option(metavar="T", help="Of sampling.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Sample one of the K most probable. [default: all]", min=1)] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on, and keep the probes that are finished already.")
    ] = False,
    force: Force = False,
    processes: Processes = "1",
    device: Device = "auto",
) -> Run:
    """Find out how well tokens can be predicted."""
    return Run("tokcli.commands.probe:probe", _show)


def _show(result: "Probed", json: bool) -> int:
    from tokcli.probing.scores import make_table

    if json:
        print_json(result.to_json())
    else:
        headings, cells = make_table(result.rows)
        print_table(str(result.output), headings, cells)
        for remark in result.remarks:
            print(remark)
        for row in result.rows:
            if row.samples is not None:
                print(f"samples: {row.samples['sheet']}")
    return PARTIAL_FAILURE if any(row.failed for row in result.rows) else 0
