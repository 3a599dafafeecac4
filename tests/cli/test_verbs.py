"""A flag reaches its command by its name: nothing declared is lost, and a default said twice is the same twice."""

import importlib
import inspect

import pytest
import typer

from tokcli.cli import sweep
from tokcli.cli.app import HIDDEN, VERBS
from tokcli.cli.export import OPTIONS as FORMAT_OPTIONS
from tokcli.cli.options import names, numbers
from tokcli.cli.verb import Run, Verb, verb
from tokcli.distributed import first_process
from tokcli.errors import UsageError

OWN = {"json", "quiet", "version", "processes"}
"""Flags that end in the command line itself."""

IN_FOLDER = {"output", "shard", "shard_items", "status", "finish", "force", "on", "jobs", "time", "dry_run", "address"}
"""Flags of verbs that work in a folder of shards by a function of its own."""

COMPLETED = {
    "build-codebook": {"named", "shards", *(IN_FOLDER - {"output", "force"})},
    "bench": {"named"},
    "evaluate": {"model", *IN_FOLDER},
    "eval": {"model", *IN_FOLDER},
    "encode": {"on", "jobs", "time", "dry_run", "address"},
    "sweep": {"list_them"},
    "export": set(FORMAT_OPTIONS),
    "import": {"publisher", "licence", *FORMAT_OPTIONS},
}
"""Flags that a verb turns into something else."""

NEEDED = {
    "train": {"recipe": "tiny.yaml"},
    "encode": {"inputs": ["photos"]},
    "sweep": {"reference": "table.yaml"},
}
"""Arguments without which a verb refuses to begin."""


def flags_of(made: Verb) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(made.call).parameters)


def run_of(name: str, made: Verb) -> Run:
    """What a verb runs when nothing but the necessary is given."""
    flags = {key: flag.default for key, flag in flags_of(made).items() if key not in OWN - {"processes"}}
    declared = inspect.getclosurevars(made.call).nonlocals["declare"]
    return declared(**flags | NEEDED.get(name, {}))


@pytest.mark.parametrize("name", VERBS | HIDDEN)
def test_every_flag_is_a_parameter_of_its_command_with_the_same_default(name: str) -> None:
    made = (VERBS | HIDDEN)[name]
    run = run_of(name, made)
    module, _, function = run.command.partition(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), function)).parameters
    for key, flag in flags_of(made).items():
        if key in OWN | COMPLETED.get(name, set()):
            continue
        assert key in parameters, f"tok {name} has a flag '{key}' that {run.command} does not take"
        if flag.default not in (None, inspect.Parameter.empty):
            assert flag.default == parameters[key].default, f"tok {name}: two defaults of '{key}'"


def test_a_flag_that_is_not_given_leaves_the_command_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def command(size: int = 7, words: tuple[str, ...] = ("a",), reporter: object = None) -> int:
        given.update(size=size, words=words, reporter=reporter)
        return 3

    monkeypatch.setattr(sweep, "command", command, raising=False)

    @verb("tok made")
    def made(size: int | None = None, words: str | None = None, another: int = 1) -> Run:
        """Declares a flag that the command does not know."""
        return Run("tokcli.cli.sweep:command", lambda result, json: result, {"words": ("b",)})

    assert first_process()
    assert made.call(size=None, words=None, another=1, json=False, version=False, quiet=True) == 3
    assert (given["size"], given["words"]) == (7, ("b",))
    assert given["reporter"] is not None


@pytest.mark.parametrize(
    ("text", "parsed"), [(None, None), ("8", [8]), ("8, 16,32", [8, 16, 32]), ("all", "all"), ("2", [2])]
)
def test_numbers_between_commas(text: str | None, parsed: object) -> None:
    assert numbers("sizes", least=2, word="all")(option("--size"), text) == parsed


@pytest.mark.parametrize("text", ["1", "8,", "8;16", "-8", "some", "1.5", ""])
def test_anything_else_is_refused_by_the_name_of_its_flag(text: str) -> None:
    with pytest.raises(UsageError, match=f"^--size: expected sizes such as 8; got '{text}'$"):
        numbers("sizes such as 8", least=2, word="all")(option("--size"), text)


def test_names_between_commas() -> None:
    assert names("psnr, ssim") == ["psnr", "ssim"]
    assert names(None) is names("") is None


def option(flag: str) -> typer.CallbackParam:
    """A parameter as typer hands it to a callback."""
    group = typer.main.get_command(app_with(flag))
    return group.params[0]  # type: ignore[return-value]


def app_with(flag: str) -> typer.Typer:
    app = typer.Typer(add_completion=False)

    @app.command()
    def run(size: str = typer.Option("", flag)) -> None: ...

    return app
