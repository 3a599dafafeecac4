"""Metrics: how good a round trip through a tokenizer is, and how well its codebook is used.

Each is a pure function and a thin accumulator whose state is tensors that add: merging two processes is a sum.

To add one:

1. Pick the base class: `ItemMean` (base.py) where items are scored one by one, `TokenCounts` (tokens.py) where counts
   of tokens are enough, `Metric` (contracts/metrics.py) for anything else.
2. Write the class in a file of this folder: a pure function, and `scores` or `figure` that calls it.
3. Declare `modality` (None: any), `higher_is_better` (None: neither is better by itself), `unit` and `meaning`, which
   the page of a report shows.
4. Say in `protocol` what the figure depends on.
5. Add its name to the table below; the constructor needs no arguments.
6. Run tests/metrics/test_contract.py, which takes every member of the table, and add a test against known figures.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tokcli.contracts import Metric, ModalityName
from tokcli.errors import TokError, UsageError
from tokcli.metrics.audio import Dnsmos, MelDistance, Pesq, SiSdr, Stoi
from tokcli.metrics.base import merge_states
from tokcli.metrics.images import LpipsAlex, LpipsSqueeze, LpipsVgg, Psnr, Ssim
from tokcli.metrics.rfid import Rfid
from tokcli.metrics.tokens import (
    BitsPerPixel,
    BitsPerPixelEmpirical,
    Cvu,
    EntropyBitsPerToken,
    Kbps,
    KbpsEmpirical,
    Perplexity,
    Usage,
)
from tokcli.metrics.understanding import SpeakerSimilarity, Text, Wer
from tokcli.metrics.weights import Weights, assign_weights
from tokcli.registry import Registry
from tokcli.spelling import nearest

METRICS: Registry[Metric] = Registry(
    "metric",
    {
        "psnr": Psnr,
        "ssim": Ssim,
        "lpips": LpipsVgg,
        "lpips-alex": LpipsAlex,
        "lpips-squeeze": LpipsSqueeze,
        "rfid": Rfid,
        "pesq": Pesq,
        "stoi": Stoi,
        "dnsmos": Dnsmos,
        "wer": Wer,
        "speaker-similarity": SpeakerSimilarity,
        "text": Text,
        "si-sdr": SiSdr,
        "mel-distance": MelDistance,
        "usage": Usage,
        "perplexity": Perplexity,
        "cvu": Cvu,
        "entropy_bits_per_token": EntropyBitsPerToken,
        "bits_per_pixel": BitsPerPixel,
        "bits_per_pixel_empirical": BitsPerPixelEmpirical,
        "kbps": Kbps,
        "kbps_empirical": KbpsEmpirical,
    },
    Metric,
)

__all__ = ["METRICS", "Weights", "build_metrics", "merge_states", "metrics_for"]


def metrics_for(modality: ModalityName) -> list[str]:
    """The names of the metrics that can judge signals of this modality or their tokens."""
    return [name for name in METRICS if METRICS[name].modality in (None, modality)]


def build_metrics(names: Sequence[str], modality: ModalityName, weights: Weights | None = None) -> dict[str, Metric]:
    """The named metrics, ready to be updated, in the order given.

    Args:
        names: Of the table.
        modality: That they must be able to judge.
        weights: Local files of weights, as `assign_weights` reads them.

    Raises:
        UsageError: A name is unknown or judges another modality; every problem is in one message.
        TokError: Something keeps metrics from being built (InputError for absent weights), again all in one message.
    """
    problems = [_problem(name, modality) for name in names]
    if any(problems):
        raise UsageError("; ".join(problem for problem in problems if problem))
    files = assign_weights(names, weights or {})
    metrics: dict[str, Metric] = {}
    failures: list[TokError] = []
    for name in names:
        try:
            arguments: Mapping[str, Any] = {"weights": files[name]} if name in files else {}
            metrics[name] = METRICS[name](**arguments)
        except TokError as failure:
            failures.append(failure)
    if failures:
        raise type(failures[0])("; ".join(str(failure) for failure in failures)) from failures[0]
    return metrics


def _problem(name: str, modality: ModalityName) -> str | None:
    """Why the metric `name` cannot judge this modality; None where it can."""
    if name not in METRICS:
        return f"there is no metric '{name}'; {nearest(name, metrics_for(modality))}"
    if name not in metrics_for(modality):
        choices = ", ".join(metrics_for(modality))
        return f"the metric '{name}' judges {METRICS[name].modality}, not {modality}; expected one of: {choices}"
    return None
