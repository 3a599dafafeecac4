"""`tok evaluate`, also called `tok eval`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.console import make_reporter, print_json, print_table
from tokcli.cli.options import Device, Json, Model, Quiet, Version
from tokcli.errors import PARTIAL_FAILURE, UsageError

if TYPE_CHECKING:
    from tokcli.workflows.evaluate import Codebooks
    from tokcli.workflows.evaluation import Evaluation

EXAMPLE = "tok eval runs/a runs/b --data photos/val --against jpeg,webp --report report.html"


def evaluate(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Artifacts or run folders. [default: the last run]")
    ] = None,
    model: Model = None,
    data: Annotated[str | None, typer.Option(help="What to judge on. [default: the recipe's evaluation data]")] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Names of metrics. [default: the recipe's]")
    ] = None,
    codebook: Annotated[
        str | None, typer.Option(metavar="K[,K...]|all", help="Judge with these of the built codebooks, by their size.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Resize and crop --data to N samples.", min=1)] = None,
    items: Annotated[int | None, typer.Option(help="Only the first so many.", min=1)] = None,
    against: Annotated[
        str | None, typer.Option(metavar="A,B", help="Codecs at the models' rates beside them: jpeg, webp; opus.")
    ] = None,
    report: Annotated[
        str | None, typer.Option(metavar="FILE.html", help="Save a page with tables, charts and items, side by side.")
    ] = None,
    report_items: Annotated[int, typer.Option(help="Items on that page: worst, best and some between.", min=0)] = 12,
    sheet: Annotated[str | None, typer.Option(metavar="FILE.png", help="Save originals over reconstructions.")] = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    version: Version = False,
) -> int:
    """Judge one tokenizer or several by the same measures."""
    from tokcli.workflows.evaluate import evaluate as run

    named = [*(models or []), *([model] if model else [])]
    results = run(
        named,
        data=data,
        metrics=_words(metrics) or None,
        codebooks=_sizes(codebook),
        size=size,
        items=items,
        against=_words(against),
        sheet=sheet,
        report=report,
        report_items=report_items,
        device=device,
        reporter=make_reporter(quiet),
    )
    if json:
        reports = [result.to_json() for result in results]
        print_json(reports if len(reports) > 1 else reports[0])
    else:
        _print_figures(results)
    return PARTIAL_FAILURE if any(result.failed for result in results) else 0


def _print_figures(results: list["Evaluation"]) -> None:
    """One table of all, the best model of a column in bold, and below it what a careful reader should know."""
    from tokcli.metrics import METRICS

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
        if len(known) > 1 and name not in (*results[0].rate, "entropy_bits_per_token"):
            choose = max if METRICS[name].higher_is_better else min
            best |= {(place, column) for value, place in known if value == choose(known)[0]}
    places = dict.fromkeys(f"{result.data} ({result.split})" for result in results)
    columns = ["model", "items", *(name.replace("_", " ") for name in (*metrics, *rates))]
    print_table(f"on {'; '.join(places)}", columns, rows, best)
    for result in results:
        owner = f"{result.label}: " if len(results) > 1 else ""
        for remark in result.remarks:
            print(f"{owner}{remark}")
    if len({result.protocol["dataset_sha256"] for result in results}) > 1:
        print("these models were not judged on the same signals, so their figures do not compare; --data and --size do")


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in text.split(",")] if text else []


def _sizes(text: str | None) -> "Codebooks | None":
    if text is None or text == "all":
        return text
    if not all(word.isdecimal() and int(word) > 0 for word in _words(text)):
        raise UsageError(f"--codebook: expected sizes separated by commas, such as 256,1024, or all; got '{text}'")
    return [int(word) for word in _words(text)]
