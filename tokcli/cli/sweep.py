"""`tok sweep`."""

from typing import Annotated

import typer

from tokcli.cli.console import make_reporter, print_json, print_table
from tokcli.cli.options import Device, Json, Quiet, Version
from tokcli.errors import PARTIAL_FAILURE, UsageError

EXAMPLE = "tok sweep vpvae-tables1-2-image-small data.train.path=photos/train data.eval.path=photos/val"


def sweep(
    table: Annotated[str | None, typer.Argument(metavar="TABLE", help="A file or a name (--list).")] = None,
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
    list_them: Annotated[bool, typer.Option("--list", help="List the shipped sweeps.")] = False,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    version: Version = False,
) -> int:
    """Train and judge a table of tokenizers. Its rows: method × codebook size × seed."""
    if list_them:
        return list_sweeps(json)
    if table is None:
        raise UsageError("which sweep? tok sweep --list names the shipped ones")
    from tokcli.commands.sweep import sweep as run

    result = run(
        table,
        overrides or [],
        out=out,
        jobs=jobs,
        render_only=render_only,
        device=device,
        reporter=make_reporter(quiet),
    )
    if json:
        print_json({"folder": str(result.folder), **result.report})
    else:
        print(result.markdown)
        print(f"table: {result.folder / 'table.md'} (.csv, .json)")
    return PARTIAL_FAILURE if result.unwell else 0


def list_sweeps(json: bool) -> int:
    """Print the shipped sweeps."""
    from tokcli.recipe.shipped import SWEEPS, names, shipped

    found = [shipped(name, SWEEPS) for name in names(SWEEPS)]
    if json:
        print_json({"sweeps": [{"name": each.name, "summary": each.summary} for each in found]})
    else:
        print_table("sweeps", ["name", "what it is"], [(each.name, each.summary) for each in found])
        print("run one with: tok sweep NAME     edit one with: tok recipes copy NAME")
    return 0


def judge_cell(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A cell of a sweep.")],
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Make the further evaluations of a cell; `tok sweep` calls this."""
    from tokcli.commands.judge_cell import judge_cell as run

    done = run(folder, device=device, reporter=make_reporter(quiet))
    print_json({"judged": done}) if json else print(f"{done} evaluations in {folder}")
    return 0
