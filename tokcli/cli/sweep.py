"""`tok sweep`, and `tok judge-cell`, which it calls."""

from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.completion import complete_sweep
from tokcli.cli.console import print_json
from tokcli.cli.options import Device
from tokcli.cli.recipes import show_listing
from tokcli.cli.verb import Run, verb
from tokcli.errors import PARTIAL_FAILURE, UsageError

if TYPE_CHECKING:
    from tokcli.commands.pinned_bench import RenderedBench
    from tokcli.sweeps.render import RenderedSweep


@verb("tok sweep vpvae-tables1-2-image-small data.train.path=photos/train data.eval.path=photos/val")
def sweep(
    reference: Annotated[
        str | None, typer.Argument(metavar="SWEEP", help="A file or a name (--list).", autocompletion=complete_sweep)
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY.PATH=VALUE",
            help="Changes to every cell's recipe; seeds=[0], sizes=[256] and methods=[fsp] choose cells.",
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FOLDER", help="The sweep's folder. [default: runs/NAME]")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Cells trained at a time, each with its share of the cores; one for each GPU or for four cores.", min=1
        ),
    ] = None,
    render_only: Annotated[bool, typer.Option("--render-only", help="Run nothing; render what is there.")] = False,
    earlier: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Of a bench: say what changed since that run of it.")
    ] = None,
    list_them: Annotated[bool, typer.Option("--list", help="List the shipped sweeps.")] = False,
    device: Device = "auto",
) -> Run:
    """Train and judge a table of tokenizers. Its rows: method × codebook size × seed."""
    if list_them:
        return Run("tokcli.commands.recipes:list_sweeps", show_listing)
    if reference is None:
        raise UsageError("which sweep? tok sweep --list names the shipped ones")
    return Run("tokcli.commands.sweep:sweep", _show)


def _show(result: "RenderedSweep | RenderedBench", json: bool) -> int:
    if json:
        print_json({"folder": str(result.folder), **result.report})
    else:
        print(result.markdown)
        print(f"table: {result.folder / 'table.md'} and others beside it")
    return PARTIAL_FAILURE if result.unwell else 0


@verb("tok judge-cell runs/a-sweep/a-cell")
def judge_cell(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A cell of a sweep.")],
    device: Device = "auto",
) -> Run:
    """Make the further evaluations of a cell; `tok sweep` calls this."""
    return Run("tokcli.sweeps.judge_cell:judge_cell", _show_count)


def _show_count(count: int, json: bool) -> int:
    print_json({"judged": count}) if json else print(f"{count} further evaluations")
    return 0
