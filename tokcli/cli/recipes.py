"""`tok recipes`: list, show, copy, explain."""

import itertools
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tokcli.cli.completion import complete_named
from tokcli.cli.console import print_entry, print_json, print_prose, print_table
from tokcli.cli.options import Force
from tokcli.cli.verb import Run, verb
from tokcli.recipe.shipped import START_HERE, Shipped, read_guide

if TYPE_CHECKING:
    from tokcli.commands.recipes import Copy, Explained, Listing, Text

GROUPS = {"also for a CPU": "small", "what comes with tok": "in the box", "as published, for GPUs": "published"}
"""Those that are listed by their names alone, by their headings."""


@verb("tok recipes explain quantizer vpvae", quiet=False)
def recipes(
    action: Annotated[
        Literal["list", "show", "copy", "explain"],
        typer.Argument(metavar="list|show|copy|explain", help="What to do."),
    ] = "list",
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Of a recipe or sweep; image, audio or sweeps to list; a key to explain.",
            autocompletion=complete_named,
        ),
    ] = None,
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help="Of the part to explain.", autocompletion=complete_named)
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Where to copy it. [default: NAME.yaml]")
    ] = None,
    force: Force = False,
) -> Run:
    """List, show or copy recipes and sweeps; explain their keys."""
    show = {"list": show_listing, "show": _show_text, "copy": _show_copy, "explain": _show_explained}[action]
    return Run("tokcli.commands.recipes:recipes", show)


def show_listing(listing: "Listing", json: bool) -> int:
    """Print what there is, the first to try with their facts, and what to do with them."""
    if json:
        print_json(listing.to_json())
        return 0
    if "recipes" not in listing.kinds:
        for kind, entries in listing.kinds.items():
            print_table(kind, ["name", "what it is"], [(each.name, each.summary) for each in entries])
        print("run one with: tok sweep NAME     edit one with: tok recipes copy NAME")
        return 0
    entries = {entry.name: entry for entry in listing.kinds["recipes"]}
    if listing.whole:
        _print_guides("recipes", sorted(entries.values(), key=_rank))
    else:
        _print_guides("start here", [entries[name] for name in START_HERE])
        for title, group in GROUPS.items():
            names = [entry.name for entry in entries.values() if read_guide(entry).group == group]
            if names:
                print_entry(title, ", ".join(_fold(names)))
        print_entry("sweeps", f"{len(listing.kinds['sweeps'])} tables and figures of papers: tok recipes list sweeps")
        print("with these facts: tok recipes list image; what keys mean: tok recipes explain")
    print("train one: tok train NAME   read: tok recipes show NAME   edit: tok recipes copy")
    return 0


def _fold(names: list[str]) -> list[str]:
    """Sorted names, where several begin with the same two words written once: image-small-{fsp, fsq}."""
    folded = []
    for start, group in itertools.groupby(names, lambda name: "-".join(name.split("-")[:2])):
        same = list(group)
        ends = ", ".join(name.removeprefix(f"{start}-") for name in same)
        folded += [f"{start}-{{{ends}}}"] if len(same) > 2 and start not in same else same
    return folded


def _rank(entry: Shipped) -> tuple[int, str]:
    return ["start here", *GROUPS.values()].index(read_guide(entry).group), entry.name


def _print_guides(title: str, entries: list[Shipped]) -> None:
    guides = [(entry.name, read_guide(entry)) for entry in entries]
    rows = [(name, each.codebook_size, each.stride, each.time, each.needs) for name, each in guides]
    print_table(title, ["name", "K", "stride", "time", "needs"], rows)


def _show_text(text: "Text", json: bool) -> int:
    print_json(text.to_json()) if json else print(text.shipped.text, end="")
    return 0


def _show_copy(copy: "Copy", json: bool) -> int:
    print_json(copy.to_json()) if json else print(f"{copy.output}: edit it, then tok {copy.verb} {copy.output}")
    return 0


def _show_explained(explained: "Explained", json: bool) -> int:
    if json:
        print_json(explained.to_json())
        return 0
    for entry in explained.entries:
        if not entry.arguments:
            print_entry(entry.name, entry.summary)
            continue
        place = "" if entry.place == entry.name else f" ({entry.place})"
        print_prose(f"{entry.name}{place}: {entry.summary}")
        for argument in entry.arguments:
            default = "needed" if argument.default is None else f"default {argument.default}"
            print_entry(f"  {argument.name}", f"{argument.meaning} [{argument.values}; {default}]")
        print()
    if explained.section is None:
        print("more: tok recipes explain quantizer vpvae, or training.learning_rate")
    elif not any(entry.arguments for entry in explained.entries):
        print(f"its keys: tok recipes explain {explained.section} {explained.entries[0].name}")
    return 0
