"""PESQ, STOI and DNSMOS through their packages, in worker processes, with the ways in which those fail turned into NaN.

PESQ (ITU-T P.862.2, wide-band) predicts how listeners would rate speech, from 1 to about 4.64. STOI (Taal et al. 2011)
predicts how much of it they would understand, up to 1. The packages answer a clip that they cannot judge with an
exception, an error code, 0, 1e-5 or a crash; none of these is a score. One clip costs about 0.2 s of a core, more than
the model that made it, so clips are scored in other processes.

Knows no torch: a worker that imported it would take three times as long to start, and three times the memory. The
packages are optional, and whoever calls this makes sure that they are there.
"""

import collections
import concurrent.futures
import functools
import math
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from tokcli.distributed import count_cores
from tokcli.optional import require

RATE = 16_000

Score = Callable[[np.ndarray, np.ndarray, int], float]
"""Of one clip: reference and reconstruction, (samples,), and their sample rate -> NaN where it cannot be scored."""

_STOI_TOO_SHORT = 1e-5
"""What pystoi returns for less than 30 frames (0.4 s) that are not silent."""

_STOI_SHORTEST = 0.3
"""Seconds under which pystoi is not asked: it breaks on clips without a whole frame."""


def pesq(reference: np.ndarray, reconstruction: np.ndarray, sample_rate: int) -> float:
    """Wide-band PESQ of one clip, both (samples,), resampled to 16 kHz; NaN where it cannot be scored.

    That is where either clip is silent or not finite, where the reference holds no speech, and under 0.25 s. The
    package's C code may crash the process where speech pauses more than some 50 times in one clip.
    """
    import pesq as package

    if not (_is_audible(reference) and _is_audible(reconstruction)):
        return math.nan
    reference, reconstruction = resample(reference, sample_rate), resample(reconstruction, sample_rate)
    score = package.pesq(RATE, reference, reconstruction, "wb", on_error=package.PesqError.RETURN_VALUES)
    return score if score > 0 else math.nan


def stoi(reference: np.ndarray, reconstruction: np.ndarray, sample_rate: int) -> float:
    """STOI of one clip, both (samples,), resampled to 16 kHz; NaN where it cannot be scored.

    That is where either clip is silent or not finite, and where under 0.4 s of the reference is not silence.
    """
    import pystoi as package

    too_short = len(reference) < _STOI_SHORTEST * sample_rate
    if too_short or not (_is_audible(reference) and _is_audible(reconstruction)):
        return math.nan
    # pystoi warns where it returns its sentinel, which is dealt with here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        score = float(package.stoi(resample(reference, sample_rate), resample(reconstruction, sample_rate), RATE))
    return math.nan if score == _STOI_TOO_SHORT else score


def dnsmos(reference: np.ndarray, reconstruction: np.ndarray, sample_rate: int) -> float:
    """DNSMOS P.835's overall opinion of the reconstruction (samples,) alone (Reddy et al. 2022, arXiv 2110.01763).

    NaN where it is silent or not finite, and under 0.1 s; a clip under 9 s is repeated, as the package does.
    """
    del reference
    package = require("speechmos.dnsmos", extra="dnsmos")
    if len(reconstruction) < sample_rate // 10 or not _is_audible(reconstruction):
        return math.nan
    opinions: Any = package.run(resample(reconstruction, sample_rate).clip(-1, 1), sr=RATE)
    return float(opinions["ovrl_mos"])


def _is_audible(clip: np.ndarray) -> bool:
    """Whether a clip is finite and not silent."""
    return bool(np.isfinite(clip).all() and np.any(clip))


def resample(clip: np.ndarray, sample_rate: int) -> np.ndarray:
    """The clip at 16 kHz."""
    if sample_rate == RATE:
        return clip
    import soxr

    return soxr.resample(clip, sample_rate, RATE)


class ClipScores:
    """The scores of clips, computed by worker processes and collected in the order in which the clips came.

    Args:
        score: Scores one clip; a function of a module, so that it can cross processes.
    """

    def __init__(self, score: Score) -> None:
        self._score = score
        self._pending: collections.deque[tuple[tuple, concurrent.futures.Future[float]]] = collections.deque()

    def submit(self, reference: np.ndarray, reconstruction: np.ndarray, sample_rate: int) -> None:
        """Hand over one clip, both (samples,)."""
        clip = (reference, reconstruction, sample_rate)
        try:
            future = _workers().submit(self._score, *clip)
        except BrokenProcessPool:
            _workers.cache_clear()
            future = _workers().submit(self._score, *clip)
        self._pending.append((clip, future))

    def collect(self, keep: int = 0) -> list[float]:
        """The scores of clips not yet collected, oldest first, waiting until at most `keep` clips are left.

        NaN where a clip cannot be scored, and where it crashes the process that scores it.
        """
        scores = []
        while len(self._pending) > keep:
            clip, future = self._pending.popleft()
            try:
                scores.append(future.result())
            except BrokenProcessPool:
                # Some clip crashed its worker and took the others' along: each is tried once more, by itself.
                scores.append(_score_alone(self._score, clip))
        return scores


def count_workers() -> int:
    """Processes that score: the cores this process may use, shared with its siblings of a distributed run."""
    return max(1, count_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


@functools.cache
def _workers() -> concurrent.futures.ProcessPoolExecutor:
    """The processes that all speech metrics share, started at the first clip."""
    return _executor(count_workers())


def _executor(workers: int) -> concurrent.futures.ProcessPoolExecutor:
    """Fresh processes: forking one that runs threads or holds a GPU is not safe. Ctrl-C is the parent's to handle."""
    return concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )


def _score_alone(score: Score, clip: tuple) -> float:
    """The score from a process of its own; NaN where that crashes as well."""
    with _executor(1) as alone:
        try:
            return alone.submit(score, *clip).result()
        except BrokenProcessPool:
            return math.nan
