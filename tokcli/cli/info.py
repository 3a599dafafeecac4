"""`tok info`."""

from typing import Annotated, Any

import typer

from tokcli.cli.console import print_json, print_table
from tokcli.cli.verb import Run, verb


@verb("tok info tokens.npy", quiet=False)
def info(
    path: Annotated[str, typer.Argument(metavar="PATH", help="An artifact, a run folder or a token file.")],
) -> Run:
    """Say what a tokenizer or a token file is."""
    return Run("tokcli.commands.info:info", _show)


def _show(facts: dict[str, Any], json: bool) -> int:
    from tokcli.models import WEIGHTS

    if json:
        print_json(facts)
        return 0
    tables = {key: value for key, value in facts.items() if isinstance(value, list) and value}
    if "weights" in facts:
        facts["weights"] = WEIGHTS[facts["weights"]]
    plain = [(key, value) for key, value in facts.items() if not isinstance(value, list | dict)]
    parts = [(key, value) for key, value in facts.items() if isinstance(value, dict) and key != "recipe"]
    nested = [(f"{key}.{name}", value) for key, part in parts for name, value in part.items()]
    named = next(iter(facts.values()))  # the path comes first
    print_table(named, ["", "value"], [*plain, *nested])
    for key, rows in tables.items():
        print_table(key, list(rows[0]), [list(row.values()) for row in rows])
    if "recipe" in facts:
        print("the recipe is under `recipe` with --json")
    return 0
