"""Evaluations of a run: figures into metrics.jsonl, a sheet of samples, and the best tokenizer so far."""

import contextlib
import json
import pathlib

from tokcli.artifacts.artifact import Artifact, codebook_ready, save_artifact
from tokcli.artifacts.tensors import read_metadata
from tokcli.data.modality import MODALITIES
from tokcli.evaluation.run import Scores, evaluate
from tokcli.metrics import METRICS
from tokcli.progress import Reporter
from tokcli.recipe.build import build_evaluation
from tokcli.tokenizer import Tokenizer
from tokcli.training.parts import Training
from tokcli.training.run_folder import RunFolder


def evaluate_training(training: Training, run: RunFolder, reporter: Reporter) -> None:
    """Evaluate the weights that would be exported now, with a provisional codebook where none is built yet."""
    with training.export_weights() as tokenizer:
        with provisional_codebook(tokenizer):
            scores = evaluate_weights(training, tokenizer, reporter)
        if training.accelerator.is_main_process:
            keep_evaluation(training, run, scores)
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


def keep_evaluation(training: Training, run: RunFolder, scores: Scores) -> pathlib.Path | None:
    """Write the figures and the sheet of the present step; returns where the sheet is."""
    run.record({"step": training.step, "evaluation": scores.figures})
    if not scores.examples:
        return None
    references = [example.reference for example in scores.examples]
    reconstructions = [example.reconstruction for example in scores.examples]
    return run.save_sheet(
        MODALITIES[training.tokenizer.modality].view.sheet(references, reconstructions), training.step
    )


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
        former = json.loads(read_metadata(run.best)["training"])["metrics"][name]
        if former is not None and not (figure > former if higher else figure < former):
            return
    summary = {"steps": training.step, "metrics": scores.figures}
    save_artifact(run.best, Artifact(training.tokenizer, training.recipe, training.weights, training=summary))
