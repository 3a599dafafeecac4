"""`tok train`."""

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.completion import complete_key, complete_model, complete_recipe
from tokcli.cli.console import clock, print_json, print_table
from tokcli.cli.options import Compiled, Device, Force, Processes
from tokcli.cli.verb import Run, verb
from tokcli.errors import UsageError

if TYPE_CHECKING:
    from tokcli.commands.train import TrainResult
    from tokcli.training.estimate import Estimate


@verb("tok train image-small-fsp data.train.path=photos/train data.eval.path=photos/val training.steps=2000")
def train(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="A file or a name (tok recipes).", autocompletion=complete_recipe),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY.PATH=VALUE", help="Changes to the recipe.", autocompletion=complete_key),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FOLDER", help="The run's folder. [default: runs/NAME]")
    ] = None,
    resume: Annotated[
        str,
        typer.Option(
            metavar="auto|never|FILE",
            help="auto goes on from an interrupted run, or one of fewer steps; never; or a checkpoint.",
        ),
    ] = "auto",
    init_from: Annotated[
        str | None,
        typer.Option(
            "--init-from",
            metavar="RUN",
            help="Begin with another run's weights, or with photo or speech: fine-tune it.",
            autocompletion=complete_model,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Two steps of everything, and what the whole takes; then delete them."),
    ] = False,
    processes: Processes = "1",
    force: Force = False,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Seed of everything random; the same as seed=N. [default: the recipe's]"),
    ] = None,
    compiled: Compiled = False,
    device: Device = "auto",
) -> Run:
    """Train a tokenizer from a recipe."""
    if recipe is None:
        raise UsageError("which recipe? tok train quickstart is a start, tok recipes lists them all")
    return Run("tokcli.commands.train:train", _show)


def _show(result: "TrainResult", json: bool) -> int:
    rows = list(result.metrics.items())
    if json:
        print_json(result.to_json())
    elif result.dry_run:
        print_table(f"dry run: {result.steps} steps, deleted", ["metric", "value"], rows)
        print("these figures mean nothing after so few steps; they show that the recipe trains, is judged and is saved")
        if result.estimate is not None:
            _print_estimate(result.estimate)
    else:
        print_table(f"{result.run.name}: {result.steps} steps", ["metric", "value"], rows)
        print(f"tokenizer: {result.artifact}")
        print(f"time:      {clock(result.seconds)}, {result.steps} steps in all")
        print(f"command:   {shlex.join(['tok', *sys.argv[1:]])}")
        if result.sheet:
            print(f"look at:   {result.sheet} (originals over reconstructions)")
            if clips := sorted(result.sheet.parent.glob(f"{result.sheet.stem}-*.wav")):
                print(f"listen to: {clips[0]} (of original-1.wav beside it, and so on)")
        if result.provisional:
            print("figures:   provisional, of a codebook made for them alone; one is still to be built")
            print(f"next:      tok build-codebook {result.run}")
        else:
            print(f"next:      tok encode FOLDER -o tokens.npy -m {result.run}")
    return 0


def _print_estimate(estimate: "Estimate") -> None:
    """What the whole training would take here, without the codebooks built after it."""
    count = estimate.evaluations
    print(
        f"the whole: {estimate.steps} steps of {estimate.seconds_per_step:.3g} s and {count} "
        f"evaluation{'s' * (count != 1)} of {estimate.seconds_per_evaluation:.3g} s: about {clock(estimate.seconds)}"
    )
    print(f"memory:    {estimate.memory_bytes / 1e9:.2g} GB at most so far")
    print(f"tokens:    {estimate.rate}")
