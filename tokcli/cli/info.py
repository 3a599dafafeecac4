"""`tok info`."""

from typing import Annotated, Any

import typer

from tokcli.cli.completion import complete_anything
from tokcli.cli.console import print_json, print_prose, print_table
from tokcli.cli.verb import Run, verb


@verb("tok info runs/", quiet=False)
def info(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH",
            help="A run, runs, a sweep, a tokenizer, a recipe, tokens. [default: all here]",
            autocompletion=complete_anything,
        ),
    ] = None,
) -> Run:
    """Say what something is; alone: the runs here, this machine."""
    return Run("tokcli.commands.info:info", _show)


def _show(facts: dict[str, Any], json: bool) -> int:
    from tokcli.models import WEIGHTS

    if json:
        print_json(facts)
        return 0
    tables = {key: value for key, value in facts.items() if isinstance(value, list) and value}
    if isinstance(facts.get("weights"), str):
        facts["weights"] = WEIGHTS[facts["weights"]]
    way_on = facts.pop("next", None)
    plain = [(key, value) for key, value in facts.items() if not isinstance(value, list | dict) and value is not None]
    parts = [(key, value) for key, value in facts.items() if isinstance(value, dict) and key != "recipe"]
    nested = [(f"{key}.{name}", value) for key, part in parts for name, value in part.items()]
    kind, named = next(iter(facts.items()))  # what it is comes first
    if kind == "runs":
        _print_rows("runs here", named) if named else print("no runs here yet: tok train quickstart")
        tables.pop("runs", None)
        named = "environment"
    if len(plain) > 1 or nested:
        print_table(str(named), ["", "value"], [*plain, *nested])
    for key, rows in tables.items():
        _print_rows(key, rows)
    if isinstance(facts.get("recipe"), dict):
        print("the recipe is under `recipe` with --json")
    if way_on:
        print_prose(f"next: {way_on}", indent=6)
    return 0


def _print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    """A table of maps, with a column for every key that one of them has, in the order of the fullest."""
    columns = list(max(rows, key=len))
    columns += [key for key in dict.fromkeys(key for row in rows for key in row) if key not in columns]
    print_table(title, columns, [[row.get(column) for column in columns] for row in rows])
