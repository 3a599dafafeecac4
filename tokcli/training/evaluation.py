"""Evaluations of a run: a line for people, figures into metrics.jsonl, samples, and the best tokenizer so far."""

import contextlib
import pathlib

from tokcli.artifacts.artifact import Artifact, codebook_ready, save_artifact
from tokcli.artifacts.tensors import read_metadata
from tokcli.contracts import Quantizer
from tokcli.data.modality import MODALITIES
from tokcli.errors import TokError
from tokcli.evaluation.compare import format_name, format_number
from tokcli.evaluation.run import EARLY, Scores, evaluate
from tokcli.metrics import METRICS
from tokcli.metrics.tokens import is_undersampled
from tokcli.progress import SILENT, Reporter
from tokcli.recipe.build import build_evaluation
from tokcli.tokenizer import Tokenizer
from tokcli.training.curves import read_curves
from tokcli.training.parts import Training
from tokcli.training.run_folder import RunFolder
from tokcli.training.samples import keep_samples, show_codes
from tokcli.untrusted import parse_json

FEW_CODES = 0.1
"""A smaller share of codes that occur is a collapse."""


def evaluate_training(training: Training, run: RunFolder, reporter: Reporter) -> None:
    """Evaluate the weights that would be exported now, with a provisional codebook where none is built yet."""
    with training.export_weights() as tokenizer:
        with provisional_codebook(tokenizer):
            scores = evaluate_weights(training, tokenizer, reporter)
        if training.accelerator.is_main_process:
            keep_evaluation(training, run, scores, reporter)
            _keep_best(training, run, scores)


def evaluate_weights(training: Training, tokenizer: Tokenizer, reporter: Reporter) -> Scores:
    """Evaluate `tokenizer` by the recipe's evaluation, shared over all processes."""
    settings, accelerator = training.recipe.evaluation, training.accelerator
    return evaluate(
        tokenizer,
        training.eval_source,
        build_evaluation(training.recipe, tokenizer.modality),
        items=settings.items,
        batch_size=settings.batch_size,
        workers=training.recipe.training.workers,
        examples=settings.sheet,
        shard=(accelerator.process_index, accelerator.num_processes),
        reporter=reporter,
    )


def keep_evaluation(
    training: Training, run: RunFolder, scores: Scores, reporter: Reporter = SILENT
) -> pathlib.Path | None:
    """Tell and write the figures and the samples of the present step; returns where the sheet is."""
    reporter.note(_tell_figures(training, run, scores))
    warning = warn_of_collapse(scores, training.tokenizer.quantizer, training.step)
    if warning and not run.warned:
        run.warned = True
        reporter.note(warning)
    run.record({"step": training.step, "evaluation": scores.figures})
    show_codes(training, scores)
    return keep_samples(training, run, scores)


def _tell_figures(training: Training, run: RunFolder, scores: Scores) -> str:
    """`step 500 of 2000: psnr 21.31 dB, cvu 0.61; best psnr so far`, or which step had a better one."""
    shown = []
    for name, figure in scores.figures.items():
        unit = METRICS[name].unit
        shown.append(f"{format_name(name)} {format_number(figure)}" + (f" {unit}" if unit else ""))
    line = f"step {training.step} of {training.recipe.training.steps}: {', '.join(shown)}"
    name = training.recipe.evaluation.best or _choose_leading_metric(scores)
    figure = scores.figures.get(name) if name else None
    if name is None or figure is None:
        return line
    # A run that is evaluated before its first line is written has no such file yet.
    evaluated = read_curves(run.metrics)[1].get(name, ()) if run.metrics.exists() else ()
    former = [(value, step) for step, value in evaluated if step != training.step]
    higher = METRICS[name].higher_is_better
    best = max(former, default=None) if higher else min(former, default=None)
    if best is None:
        return line
    if figure > best[0] if higher else figure < best[0]:
        return f"{line}; best {format_name(name)} so far"
    return f"{line}; best {format_name(name)} so far: {format_number(best[0])} at step {best[1]:.0f}"


def _choose_leading_metric(scores: Scores) -> str | None:
    """The first metric that judges signals and has a better direction."""
    return next(
        (
            name
            for name in scores.metrics
            if not METRICS[name].needs_tokens and METRICS[name].higher_is_better is not None
        ),
        None,
    )


def warn_of_collapse(scores: Scores, quantizer: Quantizer, step: int) -> str | None:
    """A sentence with the remedy where a codebook has collapsed; None where it has not, or it is too early to say.

    Collapsed is where less than a tenth of the codes occur, or where cvu is a quarter of what the method usually has.
    """
    usage, cvu = scores.metrics.get("usage"), scores.metrics.get("cvu")
    if step < EARLY or scores.counts is None or is_undersampled(scores.counts):
        return None
    usual = min(quantizer.usual_cvu, 4 * MODALITIES[scores.candidate.modality].low_cvu)
    signs = []
    if usage is not None and usage < FEW_CODES:
        signs.append(f"{usage:.1%} of the codes occur")
    if cvu is not None and (signs or cvu < usual / 4):
        signs.append(f"cvu is {cvu:.3g}, and usually {usual:.2g} or more with this method")
    return f"the codebook has collapsed: {'; '.join(signs)}; {quantizer.advice_for_uneven_use()}" if signs else None


def provisional_codebook(tokenizer: Tokenizer) -> contextlib.AbstractContextManager[None]:
    """A codebook for the length of one evaluation, where the quantizer has none yet; leaves no trace."""
    if codebook_ready(tokenizer):
        return contextlib.nullcontext()
    return tokenizer.quantizer.provisional_codebook()


def _keep_best(training: Training, run: RunFolder, scores: Scores) -> None:
    """Keep these weights as an artifact of their own where they are the best so far by the recipe's measure."""
    name = training.recipe.evaluation.best
    if name is None:
        return
    figure = scores.metrics[name]
    higher = METRICS[name].higher_is_better
    if run.best.exists():
        former = _find_former(run, name)
        if former is not None and not (figure > former if higher else figure < former):
            return
    summary = {"steps": training.step, "metrics": scores.figures}
    save_artifact(run.best, Artifact(training.tokenizer, training.recipe, training.weights, training=summary))


def _find_former(run: RunFolder, name: str) -> float | None:
    """The figure of the best so far; None where its file is damaged, which the next best replaces."""
    try:
        figure = parse_json(read_metadata(run.best)["training"])["metrics"][name]
    except (TokError, ValueError, TypeError, KeyError):
        return None
    return figure if isinstance(figure, int | float) else None
