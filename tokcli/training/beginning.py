"""What a training begins with: nothing, an interrupted run, a run of fewer steps, a checkpoint, another run's weights.

A run is never overwritten. One that differs in nothing but a larger number of steps goes on, finished or not.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from accelerate import Accelerator

from tokcli.artifacts import load_artifact
from tokcli.artifacts.fingerprint import compute_network_fingerprint
from tokcli.artifacts.tensors import read_metadata
from tokcli.errors import InputError, MismatchError, RecipeError, UsageError, quote
from tokcli.files import write_bytes, write_text
from tokcli.models import name_model
from tokcli.progress import Reporter
from tokcli.quantizers.nearest import BuiltCodebooks
from tokcli.recipe.recipe import REQUIRED, Recipe
from tokcli.recipe.text import parse
from tokcli.training.checkpoint import DamagedCheckpointError, list_checkpoints, load_checkpoint
from tokcli.training.parts import Training
from tokcli.training.run_folder import RunFolder, set_aside
from tokcli.untrusted import parse_json

NAMED = 6
"""Differences that a message lists."""

STEPS = "training.steps"


def make_way(
    run: RunFolder, recipe: Recipe, resume: str, force: bool, accelerator: Accelerator, reporter: Reporter
) -> None:
    """Refuse to overwrite a run, or clear it away where that was asked for.

    Raises:
        UsageError: with what is there, how it differs, and the ways on.
    """
    if run.in_the_way:
        raise UsageError(
            f"{run.in_the_way[0]} is there, and no run of tok made it: nothing is overwritten, also not by --force; "
            "choose another folder with --out"
        )
    if force and run.started:
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            run.clear()
        accelerator.wait_for_everyone()
    if not run.started or force:
        return
    if not run.recipe.exists() and not run.artifact.exists():
        return  # stopped before it began
    choices = "--force starts it anew, --out FOLDER trains beside it"
    finished = _find_finished_steps(run)
    begun = _read_begun(run, accelerator, reporter)
    differing = None if begun is None else find_differences(begun, recipe.to_dict())
    more = differing is not None and differing.keys() == {STEPS} and recipe.training.steps > differing[STEPS][0]
    if resume == "auto" and more and differing is not None:
        if finished is not None:
            steps, kept = differing[STEPS], run.former_artifact(differing[STEPS][0])
            if accelerator.is_main_process and not kept.exists():
                kept.parent.mkdir(exist_ok=True)
                write_bytes(kept, run.artifact.read_bytes())  # codebooks built for it, and tokens, stay of use
            reporter.note(
                f"{run.path} is finished: it goes on from {steps[0]} to {steps[1]} steps, {kept} is it so far"
            )
        return
    words = f" of another recipe ({describe_differences(differing)})" if differing else ""
    if finished is not None and (differing or finished >= recipe.training.steps):
        longer = "" if words else f"; {STEPS}=N goes on to N steps, more than its {finished}"
        raise UsageError(f"{run.path} already holds a finished run{words}; {choices}{longer}")
    if resume == "never":
        raise UsageError(f"{run.path} holds an interrupted run; --resume auto goes on with it, {choices}")
    if resume == "auto" and differing:
        raise UsageError(f"{run.path} holds an interrupted run{words}; {choices}")


def find_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys at which two recipes differ, as `autoencoder.width`, each with both values; None where it is absent."""
    old, new = dict(_flatten(before)), dict(_flatten(after))
    return {key: (old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)}


def describe_differences(differing: Mapping[str, tuple[Any, Any]]) -> str:
    """`autoencoder.width 24 -> 16, seed 0 -> 1 and 3 more`."""
    listed = [f"{key} {quote(old)} -> {quote(new)}" for key, (old, new) in list(differing.items())[:NAMED]]
    more = f" and {len(differing) - NAMED} more" if len(differing) > NAMED else ""
    return ", ".join(listed) + more


def begin(training: Training, run: RunFolder, resume: str, init_from: pathlib.Path | None, reporter: Reporter) -> None:
    """Restore what the run goes on from: its latest whole checkpoint, the one that was named, or other weights.

    Args:
        training: is changed in place.
        run: where its own checkpoints are.
        resume: auto, never or a checkpoint file.
        init_from: an artifact whose weights a new run begins with; one that goes on has them already.
        reporter: is told which.

    Raises:
        TokError: what is named cannot be used.
    """
    if resume not in ("auto", "never"):
        training.step = load_checkpoint(pathlib.Path(resume), training.state, None)
        reporter.note(f"going on from {resume}, step {training.step}")
        return
    if resume == "auto" and _go_on(training, run, reporter):
        return
    main = training.accelerator.is_main_process
    if init_from is not None:
        origin = _take_weights(training, init_from, reporter)
        if main:
            write_text(run.origin, json.dumps(origin) + "\n")
    elif main:
        run.origin.unlink(missing_ok=True)


def _go_on(training: Training, run: RunFolder, reporter: Reporter) -> bool:
    """Load the run's latest whole checkpoint; whether there was one."""
    accelerator = training.accelerator
    known = {_fingerprint_of(training.recipe, steps) for steps in _list_former_steps(training.recipe, run)}
    for checkpoint in reversed(list_checkpoints(run.checkpoints)):
        try:
            expected = None if _read_fingerprint(checkpoint) in known else training.recipe.fingerprint()
            training.step = load_checkpoint(checkpoint, training.state, expected)
        except DamagedCheckpointError as error:
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                reporter.note(f"{error}; it was set aside as {set_aside(checkpoint)}")
            continue
        reporter.note(f"resuming {run.path} at step {training.step} of {training.recipe.training.steps}")
        return True
    return False


def _read_fingerprint(checkpoint: pathlib.Path) -> str | None:
    """Of the recipe that a checkpoint carries; None where it cannot be read."""
    try:
        return read_metadata(checkpoint).get("recipe")
    except MismatchError:
        return None


def _list_former_steps(recipe: Recipe, run: RunFolder) -> set[int]:
    """The numbers of steps that the run had before it was prolonged, as far as its files tell."""
    content = _parse_recipe(run)
    begun = content["training"].get("steps") if content is not None and isinstance(content["training"], dict) else None
    former = {begun, _find_finished_steps(run)}
    return {steps for steps in former if type(steps) is int and 0 < steps < recipe.training.steps}


def _fingerprint_of(recipe: Recipe, steps: int) -> str:
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, steps=steps)).fingerprint()


def _find_finished_steps(run: RunFolder) -> int | None:
    """How many steps the run's artifact has had; None where there is none. One that says nothing has had them all."""
    if not run.artifact.exists():
        return None
    try:
        steps = parse_json(read_metadata(run.artifact)["training"])["steps"]
        return steps if type(steps) is int else 2**63
    except (InputError, MismatchError, KeyError, ValueError, TypeError):
        return 2**63


def _read_begun(run: RunFolder, accelerator: Accelerator, reporter: Reporter) -> dict[str, Any] | None:
    """The recipe of the run; None where it is damaged, and the checkpoints alone say what they are of."""
    content = _parse_recipe(run)
    if content is None and run.recipe.exists():
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            reporter.note(f"{run.recipe} is damaged and was set aside as {set_aside(run.recipe)}; it is written again")
    return content


def _parse_recipe(run: RunFolder) -> dict[str, Any] | None:
    try:
        content = parse(run.recipe.read_bytes().decode(), str(run.recipe))
    except (RecipeError, UnicodeDecodeError, OSError):
        return None
    return content if isinstance(content, dict) and content.keys() >= set(REQUIRED) else None


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of plain values by their paths; a list of numbers or words is one leaf."""
    nested = isinstance(value, list) and any(isinstance(inner, dict) for inner in value)
    if isinstance(value, dict) or nested:
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in entries:
            yield from _flatten(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _take_weights(training: Training, path: pathlib.Path, reporter: Reporter) -> dict[str, Any]:
    """Begin with the weights of the artifact at `path`, and with no codebook that was built for it.

    Returns what the run keeps of their origin.

    Raises:
        MismatchError: the autoencoder is of other shapes.
    """
    artifact = load_artifact(path)
    tokenizer = training.tokenizer
    own, theirs = tokenizer.state_dict(), artifact.tokenizer.state_dict()
    fitting = {name for name, value in own.items() if name in theirs and theirs[name].shape == value.shape}
    networks = [name for name in own if name.startswith("autoencoder.")]
    unfit = [name for name in networks if name not in fitting]
    if unfit or any(name not in own for name in theirs if name.startswith("autoencoder.")):
        former = {"autoencoder": dict(artifact.recipe.autoencoder)}
        differing = find_differences(former, {"autoencoder": dict(training.recipe.autoencoder)})
        words = describe_differences(differing) or ", ".join(unfit[:NAMED])
        raise MismatchError(f"{name_model(path)} has another autoencoder than the recipe ({words}); make them alike")
    parts = set(networks)
    modules = tokenizer.quantizer.named_modules()
    built = tuple(f"quantizer.{name}." for name, module in modules if isinstance(module, BuiltCodebooks))
    quantizer = [name for name in own if name.startswith("quantizer.") and name in theirs]
    quantizer = [name for name in quantizer if not name.startswith(built)]
    kind = training.recipe.quantizer["kind"]
    if artifact.recipe.quantizer["kind"] == kind and fitting.issuperset(quantizer):
        parts |= set(quantizer)
    else:
        reporter.note(f"the quantizer of {name_model(path)} is another one, so that of the recipe begins anew")
    tokenizer.load_state_dict({name: theirs[name] if name in parts else value for name, value in own.items()})
    if training.averages is not None:
        training.averages.restart()
    steps = artifact.training.get("steps", "?")
    reporter.note(f"beginning with the weights of {name_model(path)}, trained for {steps} steps")
    network = compute_network_fingerprint(artifact.tokenizer, artifact.recipe)
    return {"path": name_model(path), "network_fingerprint": network, "steps": artifact.training.get("steps")}
