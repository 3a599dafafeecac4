"""`tok recipes`: list, show, copy."""

import pathlib
from typing import Annotated, Literal

import typer

from tokcli.cli.console import print_json, print_table
from tokcli.cli.options import Force, Json, Version
from tokcli.errors import UsageError
from tokcli.files import write_text

EXAMPLE = "tok recipes copy image-small-fsp"


def recipes(
    action: Annotated[
        Literal["list", "show", "copy"], typer.Argument(metavar="list|show|copy", help="What to do.")
    ] = "list",
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Of a recipe or a sweep.")] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Where to copy it. [default: NAME.yaml]")
    ] = None,
    force: Force = False,
    json: Json = False,
    version: Version = False,
) -> int:
    """List, show or copy the shipped recipes and sweeps."""
    from tokcli.recipe.shipped import SWEEPS, names, shipped

    if action == "list":
        found = {shelf: [shipped(each, shelf) for each in names(shelf)] for shelf in ("", SWEEPS)}
        if json:
            listed = {
                shelf or "recipes": [{"name": each.name, "summary": each.summary} for each in group]
                for shelf, group in found.items()
            }
            print_json(listed)
        else:
            for shelf, group in found.items():
                rows = [(each.name, each.summary) for each in group]
                print_table(shelf or "recipes", ["name", "what it is"], rows)
            print("train one with: tok train NAME     run a sweep with: tok sweep NAME")
            print("edit one with:  tok recipes copy NAME")
        return 0
    if name is None:
        raise UsageError(f"tok recipes {action} needs the name of a recipe; tok recipes lists them")
    recipe = shipped(name, SWEEPS if name in names(SWEEPS) else "")
    if action == "show":
        print_json({"name": recipe.name, "text": recipe.text}) if json else print(recipe.text, end="")
        return 0
    path = pathlib.Path(output or f"{name}.yaml")
    if path.exists() and not force:
        raise UsageError(f"{path} exists; --force overwrites it, -o FILE copies elsewhere")
    write_text(path, recipe.text)
    verb = "sweep" if name in names(SWEEPS) else "train"
    print_json({"output": str(path)}) if json else print(f"{path}: edit it, then tok {verb} {path}")
    return 0
