"""`tok encode --processes N`: workers that share nothing but a folder of shards, started again where one is killed.

The first makes the plan and speaks for all; the others join it, and what they have to say is kept unless it is news.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import IO

from tokcli.cli.console import plain, print_note
from tokcli.cli.launch import MARK, ToldCode
from tokcli.distributed import count_cores
from tokcli.errors import UsageError
from tokcli.shards.workers import BEGUN_FILE, JOINS, LOCAL_WORKERS

MOST_DEATHS = 16
"""Workers killed after which something is wrong, as memory that is too small."""

GLANCE = 0.05
"""Seconds between looks at the workers."""


def count_workers(text: str | None) -> int | None:
    """What `--processes` says: a number, or `auto` for a process a GPU, else a core."""
    if text is None:
        return None
    if text == "auto":
        import torch

        return torch.cuda.device_count() or count_cores()
    if not (text.isdecimal() and 0 < int(text[:5]) <= 1024):
        raise UsageError(f"--processes: expected a number or auto, got '{text[:40]}'")
    return int(text)


def launch_workers(arguments: Sequence[str], count: int) -> int:
    """Run `tok ARGUMENTS...` in so many processes until all have ended; the exit code of the first.

    Args:
        arguments: of the command, which writes a folder of shards.
        count: of the workers.
    """
    with tempfile.TemporaryDirectory(prefix="tok-workers-") as folder:
        crew = _Crew(arguments, count, pathlib.Path(folder))
        try:
            return crew.run()
        finally:
            crew.end()


class _Crew:
    """The workers, by number.

    Args:
        arguments: of each.
        count: how many.
        folder: for what they leave.
    """

    def __init__(self, arguments: Sequence[str], count: int, folder: pathlib.Path) -> None:
        self._arguments = list(arguments)
        self._count = count
        self._begun = folder / "begun"
        self._said: dict[int, IO[bytes]] = {
            number: (folder / str(number)).open("w+b")  # closed by `end`
            for number in range(1, count)
        }
        self._alive: dict[int, subprocess.Popen[bytes]] = {}
        self._codes: dict[int, int] = {}
        self._deaths = 0

    def run(self) -> int:
        """Start the first, then the others, and see all of them to their end."""
        self._start(0)
        others = list(range(1, self._count))
        while self._alive:
            if others and self._begun.exists():
                for number in others:
                    self._start(number)
                others = []
            for number, worker in list(self._alive.items()):
                if worker.poll() is not None:
                    self._take_end(number, worker.returncode)
            time.sleep(GLANCE)
        if self._codes[0] < 0:
            print_note(
                f"tok: workers were killed {self._deaths} times, the last by signal {-self._codes[0]}: is there memory "
                "for so many? What they have done stays, and the same command goes on; try fewer --processes"
            )
            return ToldCode(1)
        self._tell_news()
        return ToldCode(self._codes[0])

    def end(self) -> None:
        """Let nobody outlive the command."""
        for worker in self._alive.values():
            worker.terminate()
        for worker in self._alive.values():
            worker.wait()
        for file in self._said.values():
            file.close()

    def _start(self, number: int) -> None:
        own = {MARK: "1", "LOCAL_RANK": str(number), LOCAL_WORKERS: str(self._count), BEGUN_FILE: str(self._begun)}
        own |= {JOINS: "1"} if self._begun.exists() else {}
        threads = {"OMP_NUM_THREADS": str(max(1, count_cores() // self._count))}
        environment: Mapping[str, str] = {**threads, **os.environ, **own}
        command = [sys.executable, "-m", "tokcli", *self._arguments]
        said = self._said.get(number)
        self._alive[number] = subprocess.Popen(
            [*command, "--quiet"] if said else command, env=environment, stdout=said, stderr=said
        )

    def _take_end(self, number: int, code: int) -> None:
        """Note how a worker ended; one that was killed is started again."""
        del self._alive[number]
        self._codes[number] = code
        if code < 0:
            self._deaths += 1
            if self._deaths < MOST_DEATHS:
                self._start(number)

    def _tell_news(self) -> None:
        """What went wrong with others alone: the work is done, but somebody should know."""
        for number, file in self._said.items():
            if self._codes.get(number, 0) not in (0, self._codes[0]):
                file.seek(0)
                text = file.read().decode(errors="replace").strip()
                print_note(plain(f"tok, worker {number}: {text[-500:]}"))
