"""How a verb of `tok` is made: its flags are declared once, and reach a plain function by their names.

words typed -> flags, in the signature of the declaring function -> its body: which command -> that command -> show

The command is imported when it is called, so that help needs no torch. `--json`, `--quiet` and `--version` belong to
every verb and are declared here alone.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from tokcli import __version__
from tokcli.cli.console import make_reporter
from tokcli.cli.launch import launch, launched
from tokcli.cli.workers import launch_workers
from tokcli.distributed import first_process
from tokcli.progress import listening


@dataclass(frozen=True)
class Run:
    """What a verb does with its flags.

    Attributes:
        command: `module:function`. It gets every flag that it has a parameter for, under the same name; a flag that
            was not given and has no default here leaves the command its own.
        show: Prints the result of the command, as one JSON value or for people, and returns the exit code.
        changes: Arguments that are not what was typed.
        workers: Processes that each do the command and share its output; None: it is done here, or by `--processes`
            that share each batch.
    """

    command: str
    show: Callable[[Any, bool], int]
    changes: Mapping[str, Any] = field(default_factory=dict)
    workers: int | None = None


@dataclass(frozen=True)
class Verb:
    """A verb as typer registers it.

    Attributes:
        call: The function that typer calls; its signature holds all flags.
        example: A command line that works, for the end of its help.
    """

    call: Callable[..., int]
    example: str


def verb(example: str, quiet: bool = True) -> Callable[[Callable[..., Run]], Verb]:
    """Make a verb of a function that declares flags and returns the `Run` to do.

    Args:
        example: A command line that works.
        quiet: Whether the verb has `--quiet`; one that is done at once has nothing to silence.
    """

    def make(declare: Callable[..., Run]) -> Verb:
        declared = inspect.signature(declare)

        def call(json: bool, version: bool, quiet: bool = False, **flags: Any) -> int:
            del version  # its callback has printed it
            return _run(declare(**flags), flags, json, quiet)

        common = [_option("json", JSON), *([_option("quiet", QUIET)] if quiet else []), _option("version", VERSION)]
        signature = declared.replace(parameters=[*declared.parameters.values(), *common], return_annotation=int)
        call.__signature__ = signature  # pyright: ignore[reportFunctionMemberAccess] - inspect reads it
        call.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        call.__doc__ = declare.__doc__
        return Verb(call, example)

    return make


def _run(run: Run, flags: Mapping[str, Any], json: bool, quiet: bool) -> int:
    """Call the command with the flags that it knows, in several processes where that is asked for, and show."""
    if run.workers is not None:
        if run.workers > 1 and not launched():
            return launch_workers(sys.argv[1:], run.workers)
    elif (flags.get("processes") or 1) > 1 and not launched():
        return launch(sys.argv[1:], flags["processes"])
    module, _, name = run.command.partition(":")
    command = getattr(importlib.import_module(module), name)
    known = inspect.signature(command).parameters
    reporter = make_reporter(quiet)
    given = {**flags, "reporter": reporter, **run.changes}
    with listening(reporter):
        result = command(**{name: value for name, value in given.items() if name in known and value is not None})
    return run.show(result, json) if first_process() else 0


def _print_version(asked: bool) -> None:
    if asked:
        print(f"tok {__version__}")
        raise typer.Exit


JSON = Annotated[bool, typer.Option("--json", help="Print nothing but one line of JSON on stdout.")]
QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")]
VERSION = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
]


def _option(name: str, annotation: Any) -> inspect.Parameter:
    """A flag that is off unless it is given."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)


def _leave_as_typed(context: Any, parameters: Sequence[Any]) -> None:
    """Convert no value where a line is only completed: typer would import pydantic for it, longer than one waits."""
    if context.resilient_parsing:
        for parameter in parameters:
            parameter.process_value = lambda _, value: value


class Commands(TyperGroup):
    """The program, whose help lists its commands by their panels without drawing boxes, which would need rich."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read a line, or understand what there is of one."""
        _leave_as_typed(ctx, self.get_params(ctx))
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """A section for each panel, in the order in which the commands were declared."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for command in self.commands.values():
            if isinstance(command, TyperCommand) and not command.hidden:
                row = command.name or "", command.get_short_help_str(100)
                panels.setdefault(str(command.rich_help_panel), []).append(row)
        width = max((len(name) for rows in panels.values() for name, _ in rows), default=0)
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl([(name.ljust(width), words) for name, words in rows])


class Command(TyperCommand):
    """A command whose help says `--size N` and `MODEL`, where typer writes `<int range>` and `<list[str]>`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for parameter in self.params:
            if isinstance(parameter, TyperArgument):
                parameter.display_type_rich = lambda ctx: None  # its name says it
            elif isinstance(parameter, TyperOption) and parameter.metavar is None and not parameter.is_flag:
                parameter.metavar = "N" if parameter.min is not None else parameter.name.upper()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read a line, or understand what there is of one."""
        _leave_as_typed(ctx, self.get_params(ctx))
        return super().parse_args(ctx, args)
