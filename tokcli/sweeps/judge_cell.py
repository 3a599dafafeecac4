"""Further evaluations of a cell of a sweep: other data, other codebooks. A process of its own, like its training."""

import pathlib

from tokcli.data import SOURCES
from tokcli.errors import InputError
from tokcli.evaluation.run import evaluate
from tokcli.files import read_bytes
from tokcli.models import open_trained, pick_device
from tokcli.progress import SILENT, Reporter
from tokcli.recipe.build import build_evaluation_source
from tokcli.sweeps.cells import FurtherEvaluation
from tokcli.sweeps.outcomes import Figures, add_evaluation
from tokcli.sweeps.runner import WANTED
from tokcli.untrusted import parse_json

LARGEST = 1 << 24
"""Bytes of a list of evaluations."""


def judge_cell(folder: str, *, device: str = "auto", reporter: Reporter = SILENT) -> int:
    """Make every evaluation that `wanted.json` in the run folder asks for, and keep each as it is done.

    Returns how many. Raises InputError where there is no such file.
    """
    path = pathlib.Path(folder)
    if not (path / WANTED).is_file():
        raise InputError(f"{path} holds no {WANTED}: it is no cell of a sweep; tok eval judges any model")
    try:
        wanted = [FurtherEvaluation(**node) for node in parse_json(read_bytes(path / WANTED, LARGEST))]
    except (ValueError, TypeError) as error:
        raise InputError(f"{path / WANTED} is damaged ({error}); the same tok sweep writes it again") from error
    where = pick_device(device)
    for further in wanted:
        model = open_trained(str(path), where, reporter, further.codebook)
        recipe, tokenizer = model.artifact.recipe, model.artifact.tokenizer
        source = (
            SOURCES.build(further.data, f"evaluate.{further.name}")
            if further.data is not None
            else build_evaluation_source(recipe, tokenizer.modality)
        )
        scores = evaluate(
            tokenizer,
            source,
            further.metrics,
            items=recipe.evaluation.items if further.data is None else None,
            batch_size=recipe.evaluation.batch_size,
            workers=recipe.training.workers,
            weights=recipe.evaluation.weights,
            reporter=reporter,
        )
        add_evaluation(path, further, Figures(scores.figures, tokenizer.codebook_size))
    return len(wanted)
