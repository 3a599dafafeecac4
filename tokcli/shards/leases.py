"""Claims on shards: leases that save double work. A shard done twice is the same bytes, so nothing depends on them.

A claim is a file that was created exclusively and says who has it. Its holder touches it every few seconds; one that
was not touched for a minute, or whose holder has died on this machine, is taken over.
"""

import json
import os
import threading
from dataclasses import asdict

from tokcli.errors import TokError
from tokcli.locking import LONGEST, Holder, make_holder, parse_holder
from tokcli.shards.folder import Folder

BEAT = 10.0
"""Seconds between signs of life."""

EXPIRY = 60.0
"""Seconds without one after which a claim is nobody's."""


class Lease:
    """A claim that this process holds, until `release`; a thread keeps it alive.

    Args:
        folder: that the claim lies in.
        name: of the claim.
        former: who held it before and ended, or fell silent, without letting go; None where nobody did.
    """

    def __init__(self, folder: Folder, name: str, former: Holder | None = None) -> None:
        self.former = former
        self._folder = folder
        self._name = name
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                self._folder.touch(self._name)
            except TokError:
                continue  # the network; another beat follows

    def release(self) -> None:
        """Let go, unless somebody took it over meanwhile."""
        self._ended.set()
        self._thread.join()
        holder = read_claim(self._folder, self._name)
        if holder is not None and holder.pid == os.getpid() and holder.host == make_holder().host:
            self._folder.remove(self._name)


def claim(folder: Folder, name: str) -> Lease | Holder | None:
    """Take a claim, or say who has it; None where that is not known.

    Raises:
        OSError: where it cannot be written.
    """
    content = json.dumps(asdict(make_holder())).encode(errors="replace")
    former = None
    for _ in range(2):
        try:
            if folder.create(name, content):
                return Lease(folder, name, former)
        except FileNotFoundError:
            return None  # whoever finished the work has just tidied up
        holder = read_claim(folder, name)
        if not is_expired(folder, name, holder):
            return holder
        former = holder
        folder.remove(name)
    return read_claim(folder, name)


def read_claim(folder: Folder, name: str) -> Holder | None:
    """Who made a claim; None where it is gone, or says nothing."""
    try:
        return parse_holder(folder.read(name, LONGEST))
    except TokError:
        return None


def is_expired(folder: Folder, name: str, holder: Holder | None) -> bool:
    """Whether the claim `name`, of `holder`, is nobody's any more."""
    if holder is not None and holder.dead:
        return True
    age = folder.age(name)
    return age is None or age > EXPIRY
