"""`tok train`: a recipe becomes a run folder with a tokenizer that is ready to use.

recipe -> parts -> loop -> codebook stage -> final scores -> artifact -> curves
"""

import contextlib
import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator

from tokcli.artifacts import Artifact, save_artifact
from tokcli.artifacts.artifact import codebook_ready
from tokcli.autoencoders.compiling import compile_autoencoder
from tokcli.codebooks import build_codebooks, require_builder, sample_latents
from tokcli.contracts import CodebookReport
from tokcli.errors import UsageError
from tokcli.files import try_output
from tokcli.locking import hold, tell_former
from tokcli.models import RUNS, find_model, pick_device, require_trained
from tokcli.numerics import lay_out
from tokcli.progress import SILENT, Reporter
from tokcli.recipe.recipe import Recipe, from_text
from tokcli.recipe.shipped import find_recipe_text
from tokcli.tokenizer import Tokenizer
from tokcli.training.announcement import announce, announce_codebook
from tokcli.training.beginning import begin, make_way
from tokcli.training.curves import draw_curves
from tokcli.training.estimate import Estimate, estimate_training
from tokcli.training.evaluation import evaluate_training, evaluate_weights, keep_evaluation, provisional_codebook
from tokcli.training.finetune import finetune_decoder
from tokcli.training.journal import keep_log
from tokcli.training.log import require_trackers, track
from tokcli.training.loop import train as run_loop
from tokcli.training.parts import Training, make_accelerator, prepare
from tokcli.training.run_folder import RunFolder


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        run: Its folder.
        artifact: The tokenizer in it.
        steps: Of training.
        seconds: Of this command, not of the runs it resumed.
        metrics: Of the final evaluation.
        codebooks: Built after training, and how well each fits.
        sheet: Originals over reconstructions, where the recipe asks for a sheet.
        dry_run: Whether this was two steps in a folder that is gone now.
        provisional: Whether the figures are of a codebook made for them alone: one is still to be built.
        estimate: Of a dry run: what the whole training would take.
    """

    run: pathlib.Path
    artifact: pathlib.Path
    steps: int
    seconds: float
    metrics: dict[str, float | None]
    codebooks: Sequence[CodebookReport]
    sheet: pathlib.Path | None
    dry_run: bool = False
    provisional: bool = False
    estimate: Estimate | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        paths = {"run": str(self.run), "artifact": str(self.artifact), "sheet": str(self.sheet) if self.sheet else None}
        own = {name: value for name, value in dataclasses.asdict(self).items() if name not in ("dry_run", "estimate")}
        return own | paths | ({} if self.estimate is None else {"estimate": self.estimate.to_json()})


def train(
    recipe: str,
    overrides: Sequence[str] = (),
    *,
    out: str | None = None,
    resume: str = "auto",
    init_from: str | None = None,
    dry_run: bool = False,
    force: bool = False,
    seed: int | None = None,
    compiled: bool = False,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> TrainResult:
    """Train what `recipe` (a file or a shipped name) describes.

    Args:
        recipe: A file or a shipped name.
        overrides: Changes to it, `key.path=value` each.
        out: The run's folder; None is runs/NAME.
        resume: auto goes on from an interrupted run of the same recipe; never starts anew; a path starts from that
            checkpoint, whatever the rest of the recipe says. A run of the same recipe with fewer steps is gone on with.
        init_from: A run, an artifact or a shipped name, whose weights a new run begins with: the autoencoder's, and
            the quantizer's where it is of the same kind and shape.
        dry_run: Two steps, one evaluation and one save in a folder that is deleted afterwards.
        force: Clear away a run that is in the way.
        seed: In the place of the recipe's; the override `seed=N` says the same.
        compiled: compile the network first; a run can go on with or without.
        device: auto, cpu, cuda or mps.
        reporter: Is told how far it has come.

    Example:
        >>> import tokcli
        >>> run = tokcli.train("quickstart", ["training.steps=1", "data.eval.items=2"], out="runs/one-step")
        >>> run.artifact.name
        'tokenizer.safetensors'

    Raises:
        RecipeError: With every problem of the recipe.
        InputError: Data is missing.
        UsageError: A run is in the way, or there are two seeds.
        DivergedError: A loss is not finite.
        InterruptedRunError: The user stopped it.
    """
    started = time.perf_counter()
    checked = _read(recipe, overrides, seed)
    weights = require_trained(find_model(init_from)) if init_from is not None else None
    where = pick_device(device).type
    if dry_run:
        result = _try_out(checked, weights, make_accelerator(where), compiled, reporter)
    else:
        result = _keep(checked, out, resume, weights, force, where, compiled, reporter)
    return dataclasses.replace(result, seconds=time.perf_counter() - started, dry_run=dry_run)


def _read(recipe: str, overrides: Sequence[str], seed: int | None) -> Recipe:
    """The recipe, changed and checked, with what it needs of libraries."""
    name, text = find_recipe_text(recipe)
    checked = from_text(text, name, overrides)
    if seed is not None:
        checked = _seed(checked, seed, named=any(each.partition("=")[0] == "seed" for each in overrides))
    require_trackers(checked.training.trackers)
    return checked


def _try_out(
    recipe: Recipe, weights: pathlib.Path | None, accelerator: Accelerator, compiled: bool, reporter: Reporter
) -> TrainResult:
    """A dry run: all that a run does, as little as possible of it, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tok-dry-run-") as folder:
        run = RunFolder(pathlib.Path(folder))
        run.warned = True  # two steps say nothing of a codebook
        result = _run(_shortened(recipe), run, "never", weights, accelerator, compiled, reporter, whole=recipe)
        reporter.note(f"dry run of {recipe.name}: built, trained, judged and saved; nothing was kept")
    return result


def _keep(
    recipe: Recipe,
    out: str | None,
    resume: str,
    weights: pathlib.Path | None,
    force: bool,
    device: str,
    compiled: bool,
    reporter: Reporter,
) -> TrainResult:
    """A run in a folder of its own, with its log and its curves; locked for as long as it takes."""
    run = RunFolder(pathlib.Path(out) if out else RUNS / recipe.name)
    accelerator = make_accelerator(device, recipe.training.trackers, run.tensorboard)
    try_output(run.path, folder=True)
    with hold(run.lock, run.path) if accelerator.is_main_process else contextlib.nullcontext() as lock:
        if lock is not None:
            tell_former(lock, reporter)
        make_way(run, recipe, resume, force, accelerator, reporter)
        if lock is not None:
            run.mark()  # a start that fails leaves a log, which must not be in the way of the next one
        with keep_log(run.log, reporter) if lock is not None else contextlib.nullcontext(reporter) as told:
            result = _run(recipe, run, resume, weights, accelerator, compiled, told)
            if accelerator.is_main_process:
                draw_curves(run, told)
    return result


def _run(
    recipe: Recipe,
    run: RunFolder,
    resume: str,
    weights: pathlib.Path | None,
    accelerator: Accelerator,
    compiled: bool,
    reporter: Reporter,
    whole: Recipe | None = None,
) -> TrainResult:
    """Train, build, judge and save. whole: the recipe that this is a trial of, which is then estimated."""
    training = prepare(recipe, accelerator)
    if compiled:
        compile_autoencoder(training.tokenizer.autoencoder, accelerator.device)
    _check_codebook_stage(training)
    begin(training, run, resume, weights, reporter)
    if accelerator.is_main_process:
        announce(training, reporter)
        announce_codebook(training, run, reporter)
        run.prepare(recipe.to_yaml())
        aside = run.forget_after(training.step)
        if aside is not None:
            reporter.note(f"{run.metrics} has damaged lines, which are left out; it was set aside as {aside}")
    accelerator.wait_for_everyone()
    with track(training, run):
        run_loop(training, run, lambda moving: evaluate_training(moving, run, reporter), reporter)
        with training.export_weights() as tokenizer:
            result = _finish(training, tokenizer, run, reporter)
    return result if whole is None else dataclasses.replace(result, estimate=estimate_training(training, whole))


def _finish(training: Training, tokenizer: Tokenizer, run: RunFolder, reporter: Reporter) -> TrainResult:
    """Build the codebooks, judge, save: the last step of a run, done again from its last checkpoint if interrupted."""
    # As an artifact is loaded: the layout of the weights decides which kernels run, and those decide last bits.
    lay_out(tokenizer, training.recipe.training.channels_last)
    reports = _build_stage(training, tokenizer, reporter)
    finetune_decoder(training, tokenizer, reporter)
    with provisional_codebook(tokenizer):
        scores = evaluate_weights(training, tokenizer, reporter)
    figures = scores.figures
    sheet = None
    if training.accelerator.is_main_process:
        sheet = keep_evaluation(training, run, scores, reporter)
        summary = {"steps": training.step, "metrics": figures, "protocol": scores.protocol} | run.read_origin()
        save_artifact(run.artifact, Artifact(tokenizer, training.recipe, training.weights, reports, summary))
    training.accelerator.wait_for_everyone()
    provisional = not codebook_ready(tokenizer)
    return TrainResult(run.path, run.artifact, training.step, 0.0, figures, reports, sheet, provisional=provisional)


def _build_stage(training: Training, tokenizer: Tokenizer, reporter: Reporter) -> Sequence[CodebookReport]:
    stage = training.recipe.codebook
    if stage is None:
        return []
    latents = sample_latents(
        tokenizer,
        training.train_source,
        stage.samples,
        passes=stage.passes,
        items=stage.items,
        seed=training.recipe.seed,
        batch_size=training.recipe.evaluation.batch_size,
        workers=training.recipe.training.workers,
        reporter=reporter,
    )
    return build_codebooks(
        tokenizer, latents, stage.sizes, evenness=stage.evenness, seed=training.recipe.seed, reporter=reporter
    )


def _check_codebook_stage(training: Training) -> None:
    """Fail before training where the stage after it cannot work."""
    stage = training.recipe.codebook
    if stage is not None:
        quantizer = require_builder(training.tokenizer)
        for size in stage.sizes or [None]:
            quantizer.require_possible(size, stage.evenness)


def _seed(recipe: Recipe, seed: int, named: bool) -> Recipe:
    """The recipe with another seed. named: whether an override has set the one that it has, which must then agree."""
    if named and recipe.seed != seed:
        raise UsageError(f"seed={recipe.seed} and --seed {seed} contradict each other; give one of them")
    return dataclasses.replace(recipe, seed=seed)


def _shortened(recipe: Recipe) -> Recipe:
    """The same recipe with two steps, little to judge and no codebook to build."""
    return dataclasses.replace(
        recipe,
        training=dataclasses.replace(recipe.training, steps=2, log_every=1, checkpoint_every=2, trackers=[]),
        evaluation=dataclasses.replace(recipe.evaluation, every=1, items=recipe.evaluation.batch_size),
        codebook=None,
        adversary=recipe.adversary and dataclasses.replace(recipe.adversary, start_step=0, lead_steps=0),
    )
