"""`tok pull`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.console import print_json
from tokcli.cli.options import Force
from tokcli.cli.verb import Run, verb

if TYPE_CHECKING:
    from tokcli.commands.pull import Pulled


@verb("tok pull USER/NAME -o mine.safetensors")
def pull(
    name: Annotated[str, typer.Argument(metavar="USER/NAME[@REVISION]", help="The repository.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="A .safetensors file, or a folder. [default: by its name]"),
    ] = None,
    force: Force = False,
) -> Run:
    """Bring a shared tokenizer here, as a file of your own."""
    return Run("tokcli.commands.pull:pull", _show)


def _show(result: "Pulled", json: bool) -> int:
    if json:
        print_json(result.to_json())
    else:
        print(f"{result.output} is {result.model}, under the licence {result.licence}")
        print(f"next: tok info {result.output}")
    return 0
