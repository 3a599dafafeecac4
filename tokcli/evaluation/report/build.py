"""The report: which items are worth showing, what every contender makes of them, and the file."""

import pathlib
from collections.abc import Sequence

import torch
from torch import Tensor

from tokcli import __version__
from tokcli.evaluation.report.content import Contender, Report, Returned, ShownItem
from tokcli.evaluation.report.page import render
from tokcli.evaluation.run import Judged
from tokcli.evaluation.scores import Evaluation, higher_is_better
from tokcli.files import write_text
from tokcli.metrics import METRICS
from tokcli.progress import Reporter


def save_report(path: pathlib.Path, evaluations: Sequence[Evaluation], count: int, reporter: Reporter) -> None:
    """Write one HTML file about `evaluations`, all of the same data, with `count` items of it."""
    metric = _ranking_metric(evaluations)
    chosen = chosen_items(evaluations, metric, count)
    shown = []
    with reporter.task("reporting", len(chosen), "items") as task:
        for name, reason in chosen.items():
            shown.append(_shown(name, reason, evaluations, metric))
            task.advance()
    first = evaluations[0]
    names = {name for each in evaluations for name in each.metric_names}
    report = Report(
        modality=first.source.modality,
        data=first.data,
        split=first.split,
        items=first.items,
        metric=metric,
        distortions=[name for name in first.metric_names if not METRICS[name].needs_tokens],
        higher_is_better={name: higher for name in names if (higher := higher_is_better(name)) is not None},
        contenders=[_contender(each) for each in evaluations],
        shown=shown,
        sample_rate=first.source.sample_rate,
        version=__version__,
    )
    write_text(path, render(report))
    reporter.note(f"report {path}, {path.stat().st_size / 1e6:.1f} MB")


def _ranking_metric(evaluations: Sequence[Evaluation]) -> str | None:
    """The first metric that judged items one by one in all of them."""
    for name in evaluations[0].metric_names:
        if all(name in each.judgement.scores for each in evaluations):
            return name
    return None


def chosen_items(evaluations: Sequence[Evaluation], metric: str | None, count: int) -> dict[str, str]:
    """The names of the items to show, and why: a third the worst, a third the best, the rest evenly spread.

    Worst and best are by the mean score of the models, codecs left out, over items that all models could be scored on.
    """
    names, models = evaluations[0].judgement.names, [each for each in evaluations if each.codec is None]
    count = min(count, len(names))
    if metric is None:
        return dict.fromkeys((names[place * len(names) // count] for place in range(count)), "one of an even spread")
    means = torch.stack([model.judgement.scores[metric] for model in models]).mean(0)
    sign = 1 if METRICS[metric].higher_is_better else -1
    ranked = [place for place in (sign * means).argsort().tolist() if torch.isfinite(means[place])]
    third = min(count // 3, len(ranked) // 2)
    chosen: dict[int, str] = {}
    for extreme, places in (("worst", ranked[:third]), ("best", ranked[::-1][:third])):
        for rank, place in enumerate(places, start=1):
            nth = f"{extreme} {rank} of {len(ranked)}" if rank > 1 else f"the {extreme} of {len(ranked)}"
            chosen[place] = f"{nth} by mean {metric} of the models ({float(means[place]):.4g})"
    rest = [place for place in range(len(names)) if place not in chosen]
    wanted = count - len(chosen)
    chosen |= {rest[step * len(rest) // wanted]: "one of an even spread" for step in range(wanted)}
    return {names[place]: reason for place, reason in chosen.items()}


def _contender(evaluation: Evaluation) -> Contender:
    return Contender(
        label=evaluation.label,
        summary=evaluation.summary,
        family=evaluation.model,
        is_model=evaluation.codec is None,
        figures=evaluation.metrics,
        rate=evaluation.rate,
        counts=None if evaluation.counts is None else evaluation.counts.cpu(),
        remarks=evaluation.remarks,
        protocol=evaluation.protocol | {"model": evaluation.model, "unscored": evaluation.unscored},
        differences=evaluation.differences,
    )


def _shown(name: str, reason: str, evaluations: Sequence[Evaluation], metric: str | None) -> ShownItem:
    source = evaluations[0].source
    item = source.load(list(source.names).index(name))
    returned = [_returned(each.judged, item.signal, _score(each, name, metric)) for each in evaluations]
    return ShownItem(name, reason, item.signal, returned)


def _score(evaluation: Evaluation, name: str, metric: str | None) -> float | None:
    if metric is None:
        return None
    score = float(evaluation.judgement.scores[metric][list(evaluation.judgement.names).index(name)])
    return score if score == score else None


@torch.no_grad()
def _returned(judged: Judged, signal: Tensor, score: float | None) -> Returned:
    """One item's way through what was judged."""
    round_trip = judged.round_trip(signal[None].to(judged.device))
    tokens = codes = None
    if round_trip.tokens is not None:
        codes = judged.quantizer.dequantize(round_trip.tokens)[0].cpu()
        tokens = round_trip.tokens[0].cpu()
    return Returned(round_trip.reconstruction[0].cpu(), tokens, codes, score)
