"""PESQ and STOI: how speech would be rated and understood. Scored in other processes while the model goes on.

One clip costs about 0.2 s of a core, more than the model that made it. A clip that cannot be scored is counted, and so
is one that crashes the process which scores it.
"""

import collections
import concurrent.futures
import functools
import math
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tokcli.backbones import speech
from tokcli.contracts import ModalityName, RoundTrip
from tokcli.distributed import usable_cores
from tokcli.metrics.base import ItemMean
from tokcli.metrics.sounds import heard, rate_of
from tokcli.optional import require

Clip = tuple[np.ndarray, np.ndarray, int]
"""Reference and reconstruction, (samples,), and their sample rate."""


class SpeechScore(ItemMean):
    """The mean over clips of a score that worker processes compute; a subclass names it.

    score: of one clip, NaN where it cannot be scored. package: what it needs installed.
    Raises UsageError on construction where the package is absent.
    """

    modality: ClassVar[ModalityName | None] = "audio"
    score: ClassVar[Callable[..., float]]
    package: ClassVar[str]

    def __init__(self) -> None:
        require(self.package, extra="audio")
        self._waiting: collections.deque[tuple[Clip, concurrent.futures.Future[float]]] = collections.deque()
        super().__init__()

    @property
    def state(self) -> dict[str, Tensor]:
        """Sums over every clip seen so far; waits for those still being scored."""
        self._settle(keep=0)
        return self._state

    @state.setter
    def state(self, state: dict[str, Tensor]) -> None:
        self._state = state

    @torch.no_grad()
    def update(self, round_trip: RoundTrip) -> None:
        """Hand one batch to the worker processes; waits only while very many clips are unfinished."""
        rate = rate_of(round_trip)
        pair = (heard(signal).cpu().numpy() for signal in (round_trip.reference, round_trip.reconstruction))
        for reference, reconstruction in zip(*pair, strict=True):
            clip = (reference, reconstruction, rate)
            self._waiting.append((clip, _submit(type(self).score, clip)))
        self._settle(keep=4 * worker_count())

    def item_scores(self) -> Tensor:
        """(items,) float64 in the order of the updates; waits for clips still being scored."""
        self._settle(keep=0)
        return super().item_scores()

    def _settle(self, keep: int) -> None:
        """Add finished scores to the state, oldest first, until at most `keep` clips are waiting."""
        scores = []
        while len(self._waiting) > keep:
            clip, future = self._waiting.popleft()
            try:
                scores.append(future.result())
            except BrokenProcessPool:
                # Some clip crashed its worker and took the others' along: each is tried once more, by itself.
                scores.append(_score_alone(type(self).score, clip))
        self._state = self._added(self._state, torch.tensor(scores, dtype=torch.float64))

    def protocol(self) -> dict[str, object]:
        """Rate, package and averaging."""
        return {"sample_rate": speech.RATE, "package": self.package, "average": "per clip"}


class Pesq(SpeechScore):
    """Mean over clips of wide-band PESQ (MOS-LQO, 1 to about 4.64); higher is better."""

    score = staticmethod(speech.pesq)
    package: ClassVar[str] = "pesq"

    def protocol(self) -> dict[str, object]:
        """Rate, band, package and averaging."""
        return {**super().protocol(), "mode": "wide-band"}


class Stoi(SpeechScore):
    """Mean over clips of STOI; 1 is fully intelligible."""

    score = staticmethod(speech.stoi)
    package: ClassVar[str] = "pystoi"


def worker_count() -> int:
    """Processes that score: the cores this process may use, shared with its siblings of a distributed run."""
    return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _executor(workers: int) -> concurrent.futures.ProcessPoolExecutor:
    """Fresh processes: forking one that runs threads or holds a GPU is not safe. Ctrl-C is the parent's to handle."""
    return concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )


@functools.cache
def _workers() -> concurrent.futures.ProcessPoolExecutor:
    """The processes that all speech metrics share, started at the first clip."""
    return _executor(worker_count())


def _submit(score: Callable[..., float], clip: Clip) -> concurrent.futures.Future[float]:
    try:
        return _workers().submit(score, *clip)
    except BrokenProcessPool:
        _workers.cache_clear()
        return _workers().submit(score, *clip)


def _score_alone(score: Callable[..., float], clip: Clip) -> float:
    """The score from a process of its own; NaN where that crashes as well."""
    with _executor(1) as alone:
        try:
            return alone.submit(score, *clip).result()
        except BrokenProcessPool:
            return math.nan
