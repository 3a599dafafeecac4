"""`tok evaluate`, also called `tok eval`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.console import print_json, print_table
from tokcli.cli.options import Device, Model, names, numbers
from tokcli.cli.verb import Run, verb
from tokcli.errors import PARTIAL_FAILURE

if TYPE_CHECKING:
    from tokcli.evaluation.run import Difference
    from tokcli.evaluation.scores import Evaluation

CODEBOOKS = numbers("sizes separated by commas, such as 256,1024, or all", word="all")


@verb("tok eval runs/a runs/b --data photos/val --against jpeg,webp --report report.html")
def evaluate(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL", help="Artifacts or run folders. [default: the last run]")
    ] = None,
    model: Model = None,
    data: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="What to judge on. [default: the recipe's evaluation data]")
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
    size: Annotated[int | None, typer.Option(help="Resize and crop --data to N samples.", min=1)] = None,
    items: Annotated[int | None, typer.Option(help="Only the first so many.", min=1)] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="A,B", callback=names, help="Codecs at the models' rates beside them: jpeg, webp; opus."),
    ] = None,
    report: Annotated[
        str | None, typer.Option(metavar="FILE.html", help="Save a page with tables, charts and items, side by side.")
    ] = None,
    report_items: Annotated[int, typer.Option(help="Items on that page: worst, best and some between.", min=0)] = 12,
    sheet: Annotated[
        str | None, typer.Option(metavar="FILE.png", help="Save originals over all reconstructions.")
    ] = None,
    device: Device = "auto",
) -> Run:
    """Judge one tokenizer or several by the same measures."""
    named = [*(models or []), *([model] if model else [])]
    return Run("tokcli.commands.evaluate:evaluate", _show, {"models": named})


def _show(results: list["Evaluation"], json: bool) -> int:
    if json:
        reports = [result.to_json() for result in results]
        print_json(reports if len(reports) > 1 else reports[0])
    else:
        _print_figures(results)
    return PARTIAL_FAILURE if any(result.failed for result in results) else 0


def _print_figures(results: list["Evaluation"]) -> None:
    """One table of all, one of the differences to the first, and what a careful reader should know."""
    from tokcli.evaluation.scores import higher_is_better

    metrics = list(dict.fromkeys(name for result in results for name in result.metrics))
    rates = list(dict.fromkeys(name for result in results for name in result.rate if name not in metrics))
    rows, best = [], set()
    for result in results:
        figures = [result.metrics.get(name, result.rate.get(name)) for name in metrics]
        rows.append((result.label, result.items, *figures, *(result.rate.get(name) for name in rates)))
    for column, name in enumerate(metrics, start=2):
        known = [
            (row[column], place)
            for place, row in enumerate(rows)
            if row[column] is not None and not results[place].codec
        ]
        higher = higher_is_better(name)
        if len(known) > 1 and higher is not None:
            choose = max if higher else min
            best |= {(place, column) for value, place in known if value == choose(known)[0]}
    places = dict.fromkeys(f"{result.data} ({result.split})" for result in results)
    columns = ["model", "items", *map(_heading, metrics), *(name.replace("_", " ") for name in rates)]
    print_table(f"on {'; '.join(places)}", columns, rows, best)
    if best:
        print(f"↑ more is better, ↓ less is better; {_mark()} the best model of its column")
    _print_differences(results)
    for result in results:
        owner = f"{result.label}: " if len(results) > 1 else ""
        for remark in result.remarks:
            print(f"{owner}{remark}")
    if len({result.protocol["dataset_sha256"] for result in results}) > 1:
        print("these models were not judged on the same signals, so their figures do not compare; --data and --size do")


def _print_differences(results: list["Evaluation"]) -> None:
    """Whether the others differ from the first by more than the items would by chance."""
    from tokcli.evaluation.run import CONFIDENCE, COVERS

    others = [result for result in results if result.differences]
    if not others:
        return
    metrics = list(dict.fromkeys(name for result in others for name in result.differences))
    items = max(difference.items for result in others for difference in result.differences.values())
    rows, clear = [], set()
    for place, result in enumerate(others):
        found = [result.differences.get(name) for name in metrics]
        rows.append((result.label, *(_difference(each, items) for each in found)))
        clear |= {(place, column) for column, each in enumerate(found, start=1) if each is not None and each.clear}
    counted = f"{items} item{'s' * (items != 1)}"
    print()
    print_table(
        f"difference to {results[0].label}, paired over {counted}", ["model", *map(_heading, metrics)], rows, clear
    )
    print(f"± half of the {CONFIDENCE:.0%} interval (paired t); {_mark()} where it leaves out zero. {COVERS}")


def _difference(difference: "Difference | None", items: int) -> str:
    """Mean and margin; and how many items they are over, where those are not all the `items`."""
    if difference is None or difference.mean is None:
        return "–"
    margin = "" if difference.margin is None else f" ± {difference.margin:.2g}"
    return f"{difference.mean:+.3g}{margin}" + (f" ({difference.items})" if difference.items != items else "")


def _heading(metric: str) -> str:
    from tokcli.evaluation.scores import higher_is_better

    arrows = {True: "\N{NO-BREAK SPACE}↑", False: "\N{NO-BREAK SPACE}↓", None: ""}
    return metric.replace("_", " ") + arrows[higher_is_better(metric)]


def _mark() -> str:
    """How a table marks a cell, as its caption says it."""
    return "bold:" if sys.stdout.isatty() else "*"
