"""Metrics: how good a round trip through a tokenizer is, and how well its codebook is used.

Each is a pure function and a thin accumulator whose state is tensors that add: merging two processes is a sum.
To add one: a class in a file of this folder, and its name here.
"""

from collections.abc import Sequence

from tokcli.contracts import Metric, ModalityName
from tokcli.errors import TokError, UsageError
from tokcli.metrics.base import merge_states
from tokcli.metrics.lpips import LpipsAlex, LpipsSqueeze, LpipsVgg
from tokcli.metrics.psnr import Psnr
from tokcli.metrics.rate import BitsPerPixel, BitsPerPixelEmpirical, Kbps, KbpsEmpirical, Rate
from tokcli.metrics.rfid import Rfid
from tokcli.metrics.speech import Pesq, Stoi
from tokcli.metrics.ssim import Ssim
from tokcli.metrics.tokens import Cvu, EntropyBitsPerToken, Perplexity, TokenCounts, Usage, entropy, packed_bits
from tokcli.metrics.waveforms import MelDistance, SiSdr
from tokcli.registry import Registry
from tokcli.schema import nearest

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

__all__ = [
    "METRICS",
    "Rate",
    "TokenCounts",
    "build_metrics",
    "entropy",
    "merge_states",
    "metrics_for",
    "packed_bits",
]


def metrics_for(modality: ModalityName) -> list[str]:
    """The names of the metrics that can judge signals of this modality or their tokens."""
    return [name for name in METRICS if METRICS[name].modality in (None, modality)]


def build_metrics(names: Sequence[str], modality: ModalityName) -> dict[str, Metric]:
    """The named metrics, ready to be updated, in the order given.

    Raises UsageError, with every problem in one message, for a name that is unknown or that judges another modality;
    and whatever keeps a metric from being built (InputError for absent weights), again all of it in one message.
    """
    problems = [_problem(name, modality) for name in names]
    if any(problems):
        raise UsageError("; ".join(problem for problem in problems if problem))
    metrics: dict[str, Metric] = {}
    failures: list[TokError] = []
    for name in names:
        try:
            metrics[name] = METRICS[name]()
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
