"""`tok push`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.completion import complete_model
from tokcli.cli.console import print_json, print_table
from tokcli.cli.verb import Run, verb

if TYPE_CHECKING:
    from tokcli.commands.push import Pushed


@verb("tok push runs/a USER/NAME --licence apache-2.0")
def push(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run or an artifact.", autocompletion=complete_model)],
    name: Annotated[str, typer.Argument(metavar="USER/NAME", help="The repository, made where it is absent.")],
    licence: Annotated[
        str | None, typer.Option(help="Of the weights, as apache-2.0. [default: the one that the artifact records]")
    ] = None,
    evaluation: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="What `tok eval --json` printed. [default: the run's own figures]"),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everybody see a repository that is new.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the card, and upload nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Also write into a repository that holds something else.")
    ] = False,
) -> Run:
    """Share a tokenizer on a Hugging Face hub, privately."""
    return Run("tokcli.commands.push:push", _show)


def _show(result: "Pushed", json: bool) -> int:
    if json:
        print_json(result.to_json())
    elif result.url is None:
        print(result.card)
    else:
        seen = "its owner alone" if result.private else "everybody"
        rows = [*result.files.items(), ("licence", result.licence), ("seen by", seen), ("commit", result.revision)]
        print_table(result.url, ["", "value"], rows)
        print(f"next: tok eval hf:{result.name} --data FOLDER     uses it from anywhere")
    return 0
