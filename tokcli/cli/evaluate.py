"""`tok evaluate`, also called `tok eval`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.completion import complete_model
from tokcli.cli.console import print_json, print_table
from tokcli.cli.elsewhere import (
    Address,
    DryRun,
    Elsewhere,
    Finish,
    Jobs,
    On,
    Shard,
    ShardItems,
    Status,
    Time,
    find_launcher,
    print_progress,
    refuse_without,
)
from tokcli.cli.launch import launched
from tokcli.cli.options import (
    Compiled,
    Device,
    Force,
    Model,
    Processes,
    names,
    numbers,
    read_pairs,
    read_samples,
    size_in_bytes,
)
from tokcli.cli.verb import Run, verb
from tokcli.errors import PARTIAL_FAILURE, UsageError
from tokcli.evaluation.compare import (
    CONFIDENCE,
    COVERS,
    UNKNOWN,
    Difference,
    choose_arrow,
    find_best_rows,
    format_difference,
    format_name,
    list_compared,
    list_metrics,
)

if TYPE_CHECKING:
    from tokcli.evaluation.run import Scores
    from tokcli.shards.work import Progress

GROUPS = numbers("numbers separated by commas, such as 1,2,4, or all", word="all")
CODEBOOKS = numbers("sizes separated by commas, such as 256,1024, or all", word="all")


@verb("tok eval runs/a runs/b --data photos/val --against jpeg,webp --report report.html")
def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Artifacts, run folders, photo, speech. [default: the last run]",
            autocompletion=complete_model,
        ),
    ] = None,
    model: Model = None,
    data: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="What to judge on. [default: the recipe's evaluation data]")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Originals, to judge what other tools made of them (--reconstruction)."),
    ] = None,
    reconstruction: Annotated[
        list[str] | None,
        typer.Option(metavar="FOLDER", help="What another tool made, matched by name; several times for several."),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="A,B,C", callback=names, help="Names of metrics. [default: the recipe's]")
    ] = None,
    codebooks: Annotated[
        str | None,
        typer.Option(
            "--codebook",
            metavar="K[,K...]|all",
            callback=CODEBOOKS,
            help="Judge with these of the built codebooks, by their size.",
        ),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N...]|all",
            callback=GROUPS,
            help="Judge with the first so many tokens of a position, where it has several: a curve from one model.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|native",
            callback=read_samples,
            help="Resize and crop --data to N samples, or 'native' for each item's own. [default: the recipe's]",
        ),
    ] = None,
    sample_rate: Annotated[
        int | None,
        typer.Option(
            "--sample-rate", metavar="HZ", help="Judge sound at this rate, resampling for models of another.", min=1000
        ),
    ] = None,
    items: Annotated[int | None, typer.Option(help="Only the first so many.", min=1)] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="A,B", callback=names, help="Codecs at the models' rates beside them: jpeg, webp; opus."),
    ] = None,
    report: Annotated[
        str | None, typer.Option(metavar="FILE.html", help="Save a page with tables, charts and items, side by side.")
    ] = None,
    report_items: Annotated[
        int, typer.Option(help="Items on that page, for each metric: worst, best and some between.", min=0)
    ] = 12,
    report_budget: Annotated[
        str | None,
        typer.Option(
            metavar="5MB",
            callback=size_in_bytes,
            help="Keep that page this small: thumbnails in it, whole pictures in a folder beside it.",
        ),
    ] = None,
    sheet: Annotated[
        str | None, typer.Option(metavar="FILE.png", help="Save originals over all reconstructions.")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="lpips=FILE",
            help="Local weights (safetensors) of a metric's network, in the place of fetched ones.",
        ),
    ] = None,
    processes: Processes = "1",
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Work in this folder, with any number of workers; scores.json."
        ),
    ] = None,
    shard: Shard = None,
    shard_items: ShardItems = None,
    on: On = None,
    address: Address = None,
    jobs: Jobs = 8,
    time: Time = None,
    dry_run: DryRun = False,
    status: Status = False,
    finish: Finish = False,
    force: Force = False,
    compiled: Compiled = False,
    device: Device = "auto",
) -> Run:
    """Judge one tokenizer or several by the same measures."""
    named = [*(models or []), *([model] if model else [])]
    local = read_pairs("--weights", weights, "NAME=FILE, such as lpips=squeezenet1_1.safetensors")
    flags = {"models": named, "output": output, "data": data, "metrics": metrics, "codebooks": codebooks}
    flags |= {"groups": groups, "size": size, "sample_rate": sample_rate, "items": items, "weights": local}
    if on is not None and (report or sheet or reference or reconstruction or against):
        raise UsageError(
            f"--on {on} makes the scores of models in a folder: give --report and --sheet with the same command "
            "without it afterwards, and the other flags in one of their own"
        )
    count = int(processes)
    launcher = find_launcher(
        Elsewhere(on, address, time, dry_run),
        output,
        "tokcli.commands.evaluate_folder:begin_evaluating",
        _show,
        flags | {"shard_items": shard_items, "compiled": compiled, "device": device},
        verb="eval -o",
        shared=shard is not None or count > 1,
        force=force,
    )
    if launcher is not None:
        return launcher
    changes = {"weights": local, "models": named}
    if output is None:
        refuse_without("-o", shard=shard, shard_items=shard_items, status=status, finish=finish, force=force)
        return Run("tokcli.commands.evaluate:evaluate", _show, changes)
    if status:
        return Run("tokcli.commands.evaluate_folder:read_evaluation", _show, workers=1)
    if reference or reconstruction or against:
        raise UsageError(
            "-o FOLDER shares out what models do: leave --reference, --reconstruction and --against to a command "
            "without it (a codec is brought to the rate of the whole set)"
        )
    return Run(
        "tokcli.commands.evaluate_folder:evaluate_in_folder", _show, changes, 1 if finish or launched() else count
    )


def _show(rows: "list[Scores] | Progress", json: bool) -> int:
    if not isinstance(rows, list):
        print_progress(rows, json)
        return 0
    if json:
        reports = [row.to_json() for row in rows]
        print_json(reports if len(reports) > 1 else reports[0])
    else:
        _print_figures(rows)
        _print_groups(rows)
        _print_differences(rows)
        _print_remarks(rows)
    return PARTIAL_FAILURE if any(row.failed for row in rows) else 0


def _print_figures(rows: list["Scores"]) -> None:
    """All figures in one table, the best of each column marked."""
    metrics = list_metrics(rows)
    rates = list(dict.fromkeys(name for row in rows for name in row.rates if name not in metrics))
    cells = []
    for row in rows:
        figures = row.rate_figures | row.figures
        cells.append((row.title.label, row.items, *(figures.get(name) for name in (*metrics, *rates))))
    best = {(index, column) for column, name in enumerate(metrics, start=2) for index in find_best_rows(rows, name)}
    data = dict.fromkeys(f"{row.title.data} ({row.title.split})" for row in rows)
    columns = ["model", "items", *map(_heading, metrics), *map(format_name, rates)]
    print_table(f"on {'; '.join(data)}", columns, cells, best)
    if best:
        print(f"↑ more is better, ↓ less is better; {_mark()} the best model of its column")


def _print_groups(rows: list["Scores"]) -> None:
    """How each group of a model's tokens uses its codes, and all together, by the row that has most of them."""
    from tokcli.evaluation.run import select_grouped

    for row in select_grouped(rows):
        names = list(row.by_group)
        cells = [(number, *figures) for number, figures in enumerate(zip(*row.by_group.values(), strict=True), 1)]
        means = [sum(figures) / len(figures) for figures in row.by_group.values()]
        print()
        print_table(f"{row.title.label}, by group", ["group", *map(format_name, names)], [*cells, ("mean", *means)])


def _print_differences(rows: list["Scores"]) -> None:
    """Whether the others differ from the first by more than the items would by chance."""
    metrics = list_compared(rows)
    if not metrics:
        return
    others = [(row.title.label, row.comparison) for row in rows if row.comparison is not None]
    compared = [(label, comparison.differences) for label, comparison in others if comparison.differences]
    items = max(difference.items for _, differences in compared for difference in differences.values())
    cells, clear = [], set()
    for index, (label, differences) in enumerate(compared):
        found = [differences.get(name) for name in metrics]
        cells.append((label, *(_difference(difference, items) for difference in found)))
        clear |= {(index, column) for column, each in enumerate(found, start=1) if each is not None and each.clear}
    title = f"difference to {rows[0].title.label}, paired over {items} item{'s' * (items != 1)}"
    print()
    print_table(title, ["model", *map(_heading, metrics)], cells, clear)
    print(f"± half of the {CONFIDENCE:.0%} interval (paired t); {_mark()} where it leaves out zero. {COVERS}")


def _print_remarks(rows: list["Scores"]) -> None:
    """What a careful reader should know."""
    for row in rows:
        owner = f"{row.title.label}: " if len(rows) > 1 else ""
        for remark in row.remarks:
            print(f"{owner}{remark}")
    if len({row.protocol["dataset_sha256"] for row in rows}) > 1:
        print("these models were not judged on the same signals, so their figures do not compare; --data and --size do")


def _difference(difference: Difference | None, items: int) -> str:
    """Mean and margin; and how many items they are over, where those are not all the `items`."""
    if difference is None or difference.mean is None:
        return UNKNOWN
    return "".join(format_difference(difference)) + (f" ({difference.items})" if difference.items != items else "")


def _heading(metric: str) -> str:
    arrow = choose_arrow(metric)
    return format_name(metric) + (f"\N{NO-BREAK SPACE}{arrow}" if arrow else "")


def _mark() -> str:
    """How a table marks a cell, as its caption says it."""
    return "bold:" if sys.stdout.isatty() else "*"
