"""What training asks of its process: to stop at the end of a step, and to leave cores to those who load.

Ctrl-C and termination are requests that the loop meets at the end of a step, so that what it leaves is whole.

PyTorch takes every core for arithmetic; loading processes on top of that make the two wait for each other, which on
two cores costs more than half of the speed.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch

SAME_REQUEST = 1.0
"""Seconds within which a second Ctrl-C is the first one, handed on by a launcher."""


class StopRequest:
    """While entered, the first SIGINT or SIGTERM sets `requested`; a second SIGINT stops at once.

    Does nothing outside the main thread, where Python delivers no signals.
    """

    def __init__(self) -> None:
        self.requested = False
        self._first = 0.0
        self._former: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested and number == signal.SIGINT and now - self._first > SAME_REQUEST:
            raise KeyboardInterrupt
        self._first = now if not self.requested else self._first
        self.requested = True


@contextlib.contextmanager
def leave_cores(workers: int) -> Iterator[None]:
    """Within this context arithmetic leaves a core to each of `workers` loading processes.

    Does nothing where OMP_NUM_THREADS says how many threads there are to be.
    """
    if not workers or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - workers))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
