"""Claims on shards: leases that save double work. A shard done twice is the same bytes, so nothing depends on them.

A claim is a file that was created exclusively and says who has it. Its holder touches it every few seconds; one that
was not touched for a minute, or whose holder has died on this machine, is taken over.
"""

import contextlib
import json
import os
import pathlib
import threading
import time
from dataclasses import asdict

from tokcli.files import create_exclusively
from tokcli.locking import Holder, make_holder, read_holder

BEAT = 10.0
"""Seconds between signs of life."""

EXPIRY = 60.0
"""Seconds without one after which a claim is nobody's."""


class Lease:
    """A claim that this process holds, until `release`; a thread keeps it alive.

    Args:
        path: of the claim.
        former: who held it before and ended, or fell silent, without letting go; None where nobody did.
    """

    def __init__(self, path: pathlib.Path, former: Holder | None = None) -> None:
        self.path = path
        self.former = former
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def release(self) -> None:
        """Let go, unless somebody took it over meanwhile."""
        self._ended.set()
        self._thread.join()
        holder = read_holder(self.path)
        if holder is not None and holder.pid == os.getpid() and holder.host == make_holder().host:
            self.path.unlink(missing_ok=True)


def claim(path: pathlib.Path) -> Lease | Holder | None:
    """Take a claim, or say who has it; None where that is not known.

    Raises:
        OSError: where it cannot be written.
    """
    content = json.dumps(asdict(make_holder())).encode(errors="replace")
    former = None
    for _ in range(2):
        try:
            if create_exclusively(path, content):
                return Lease(path, former)
        except FileNotFoundError:
            return None  # whoever finished the work has just tidied up
        holder = read_holder(path)
        if not is_expired(path, holder):
            return holder
        former = holder
        path.unlink(missing_ok=True)
    return read_holder(path)


def is_expired(path: pathlib.Path, holder: Holder | None) -> bool:
    """Whether the claim `path`, of `holder`, is nobody's any more."""
    if holder is not None and holder.dead:
        return True
    try:
        return time.time() - path.stat().st_mtime > EXPIRY
    except FileNotFoundError:
        return True
