"""What a run says of its data before the first step: how much there is, at which size, and what is in both halves.

Only what the sources know already is told; no signal is read for it.
"""

from tokcli.artifacts.artifact import codebook_ready
from tokcli.contracts import Source
from tokcli.data.modality import MODALITIES
from tokcli.progress import Reporter
from tokcli.training.parts import Training
from tokcli.training.run_folder import RunFolder


def announce_data(training: Training, reporter: Reporter) -> None:
    """Note what the run trains and is judged on, and how many files it would be judged on after learning them."""
    items = training.recipe.evaluation.items
    trained, evaluated = describe_training(training.train_source), describe_evaluation(training.eval_source, items)
    reporter.note(f"training on {trained}; judged on {evaluated}")
    shared = find_shared_files(training.train_source, training.eval_source, items)
    if shared:
        count = count_evaluated(training.eval_source, items)
        reporter.note(
            f"{shared} of the {count} files to judge on {'is' if shared == 1 else 'are'} also trained on, which "
            "flatters the figures: point data.train.path and data.eval.path at two folders, or at two lists "
            "(train.txt, val.txt, a path a line)"
        )


def announce_codebook(training: Training, run: RunFolder, reporter: Reporter) -> None:
    """Note, where the run will end without a codebook, that its figures are provisional and what builds one."""
    if training.recipe.codebook is None and not codebook_ready(training.tokenizer):
        kind = training.recipe.quantizer["kind"]
        reporter.note(
            f"'{kind}' has no codebook until one is built: figures are provisional until then; after the training run: "
            f"tok build-codebook {run.path}"
        )


def describe_training(source: Source) -> str:
    """`684 pictures, crops of 64²`; a source that makes its signals has no end."""
    endless = source.describe().made is not None
    count = "endless" if endless else str(len(source))
    return f"{count} {_things(source)}{', none of them twice' if endless else ''}"


def describe_evaluation(source: Source, items: int | None) -> str:
    """`100 pictures of 256²`, and of how many, where the recipe judges only on the first `items`."""
    count = count_evaluated(source, items)
    among = f"the first {count} of " if count < len(source) else ""
    return f"{among}{len(source)} {_things(source)}"


def count_evaluated(source: Source, items: int | None) -> int:
    """How many items of the source an evaluation of at most `items` judges."""
    return len(source) if items is None else min(items, len(source))


def _things(source: Source) -> str:
    """What the items are and what becomes of each: `pictures, crops of 64²`, `sounds, whole`."""
    described = source.describe()
    made = f" ({described.made})" if described.made else ""
    noun = MODALITIES[source.modality].nouns[len(source) != 1 or bool(made)] + made
    size = described.size
    if size is None:
        return f"{noun}, whole"
    if source.sample_rate is not None:
        return f"{noun}, clips of {size / source.sample_rate:.3g} s"
    return f"{noun}, crops of {size}²" if described.crop == "random" else f"{noun} of {size}²"


def find_shared_files(trained: Source, evaluated: Source, items: int | None = None) -> int:
    """How many of the files among the first `items` of `evaluated` are files of `trained` too, links followed."""
    if trained.files is None or evaluated.files is None:
        return 0
    return len(set(evaluated.files.resolved(items)).intersection(trained.files.resolved()))
