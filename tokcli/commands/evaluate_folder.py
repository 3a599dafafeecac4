"""`tok eval -o FOLDER`: the same evaluation, by as many workers as there are."""

import pathlib
from collections.abc import Sequence
from typing import Literal

from tokcli.commands.encode_shards import open_output
from tokcli.commands.evaluate import require_data, save_pages, try_pages
from tokcli.commands.evaluate_shards import (
    Evaluating,
    EvaluationWork,
    begin_evaluation,
    describe_evaluation,
    finish_evaluation,
)
from tokcli.commands.evaluation_entries import Codebooks, compile_entries, open_entries
from tokcli.data.places import is_remote
from tokcli.evaluation.run import Scores
from tokcli.files import try_output
from tokcli.metrics import Weights
from tokcli.models import pick_own_device
from tokcli.progress import SILENT, Reporter
from tokcli.shards.ledger import Ledger
from tokcli.shards.plan import read_plan
from tokcli.shards.share import read_share
from tokcli.shards.work import Progress, see_done


def evaluate_in_folder(
    models: Sequence[str],
    output: str,
    *,
    data: str | None = None,
    metrics: Sequence[str] | None = None,
    codebooks: Codebooks | None = None,
    groups: Codebooks | None = None,
    size: int | Literal["native"] | None = None,
    sample_rate: int | None = None,
    items: int | None = None,
    sheet: str | None = None,
    report: str | None = None,
    report_items: int = 12,
    report_budget: int | None = None,
    weights: Weights | None = None,
    shard: str | None = None,
    shard_items: int | None = None,
    finish: bool = False,
    force: bool = False,
    compiled: bool = False,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> list[Scores] | Progress:
    """What `evaluate` does, shard by shard, by any number of these at the same time, on machines that share a folder.

    `output` is the folder, whose `scores.json` is what `--json` prints. `shard` says which of its shards this one does:
    I/N takes every N-th from I on, `auto` asks what started it (Slurm, Kubernetes, torchrun), None takes whatever
    nobody else is at, until all are done. A shard has `shard_items` items, rounded up to whole batches; None chooses by
    how many items there are. `finish` puts shards together that are all done, `force` starts over. All else is as for
    `evaluate`.

    Raises:
        TokError: as `evaluate` does, and where the folder is of something else.
    """
    share = read_share(shard)
    try_pages(report, sheet)
    work = begin_evaluating(
        models, output, data=data, metrics=metrics, codebooks=codebooks, groups=groups, size=size,
        sample_rate=sample_rate, items=items, weights=weights, shard_items=shard_items, show_examples=bool(sheet),
        force=force, compiled=compiled, device=device, reporter=reporter,
    )  # fmt: skip
    done = finish_evaluation(work) if finish else see_done(work, share.of(work.ledger.plan.shards))
    return (
        done if isinstance(done, Progress) else save_pages(done, sheet, report, report_items, report_budget, reporter)
    )


def begin_evaluating(
    models: Sequence[str],
    output: str,
    *,
    data: str | None,
    metrics: Sequence[str] | None,
    codebooks: Codebooks | None,
    groups: Codebooks | None,
    size: int | Literal["native"] | None,
    sample_rate: int | None,
    items: int | None,
    weights: Weights | None,
    shard_items: int | None,
    force: bool,
    compiled: bool,
    device: str,
    reporter: Reporter,
    show_examples: bool = False,
) -> EvaluationWork:
    """The work on a folder with no shard done yet, for workers started elsewhere too. Raises TokError."""
    if not is_remote(output):
        try_output(pathlib.Path(output), folder=True)
    require_data(data, size, sample_rate)
    where = pick_own_device(device)
    entries = open_entries(models, metrics, weights or {}, codebooks, groups, data, size, sample_rate, where, reporter)
    if compiled:
        compile_entries(entries, reporter)
    examples = entries[0].model.settings.sheet if show_examples else 0
    typed = [*models, *(["--data", data] if data else [])]
    work = Evaluating(entries, data, items, typed, examples, reporter)
    return begin_evaluation(work, open_output(output), shard_items, force, compiled)


def read_evaluation(output: str) -> Progress:
    """How far a folder is. Raises InputError where nothing was begun there, MismatchError for a damaged plan."""
    folder = open_output(output)
    return describe_evaluation(Ledger(folder, read_plan(folder)))
