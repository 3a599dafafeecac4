"""How a command describes what it takes: by the words of its users, not by the types of its programmers."""

from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperOption


class Command(TyperCommand):
    """A command whose help says `--size N` and `MODEL`, where typer writes `<int range>` and `<list[str]>`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for parameter in self.params:
            if isinstance(parameter, TyperArgument):
                parameter.display_type_rich = lambda ctx: None  # its name says it
            elif isinstance(parameter, TyperOption) and parameter.metavar is None and not parameter.is_flag:
                parameter.metavar = "N" if parameter.min is not None else parameter.name.upper()
