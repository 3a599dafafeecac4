"""`tok recipes`: list, show, copy."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tokcli.cli.console import print_json, print_table
from tokcli.cli.options import Force
from tokcli.cli.verb import Run, verb

if TYPE_CHECKING:
    from tokcli.commands.recipes import Copy, Listing, Text


@verb("tok recipes copy image-small-fsp", quiet=False)
def recipes(
    action: Annotated[
        Literal["list", "show", "copy"], typer.Argument(metavar="list|show|copy", help="What to do.")
    ] = "list",
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Of a recipe or a sweep.")] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Where to copy it. [default: NAME.yaml]")
    ] = None,
    force: Force = False,
) -> Run:
    """List, show or copy the shipped recipes and sweeps."""
    show = {"list": show_listing, "show": _show_text, "copy": _show_copy}[action]
    return Run("tokcli.commands.recipes:recipes", show)


def show_listing(listing: "Listing", json: bool) -> int:
    """Print names and summaries, and what to do with them."""
    if json:
        print_json(listing.to_json())
        return 0
    for kind, entries in listing.kinds.items():
        print_table(kind, ["name", "what it is"], [(entry.name, entry.summary) for entry in entries])
    if "recipes" in listing.kinds:
        print("train one with: tok train NAME     run a sweep with: tok sweep NAME")
        print("edit one with:  tok recipes copy NAME")
    else:
        print("run one with: tok sweep NAME     edit one with: tok recipes copy NAME")
    return 0


def _show_text(text: "Text", json: bool) -> int:
    print_json(text.to_json()) if json else print(text.shipped.text, end="")
    return 0


def _show_copy(copy: "Copy", json: bool) -> int:
    print_json(copy.to_json()) if json else print(f"{copy.output}: edit it, then tok {copy.verb} {copy.output}")
    return 0
