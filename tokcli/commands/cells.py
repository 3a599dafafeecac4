"""Running the cells of a sweep: each a `tok train` in a process of its own, several at a time, safe to kill anywhere.

A lock on the cell's folder belongs to the process that works there and not to the sweep alone: the child inherits it,
so a cell whose sweep was killed stays locked for as long as its training lives, and no second one starts beside it.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO

from tokcli.distributed import usable_cores
from tokcli.errors import DivergedError, InterruptedRunError
from tokcli.files import write_text
from tokcli.sweeps.grid import Cell
from tokcli.sweeps.outcomes import add_ended, own_figures, read_ended, read_judged
from tokcli.training.run_folder import RunFolder

RECIPE, WANTED, LOG, LOCK = "cell.yaml", "wanted.json", "log.txt", "lock"
BROKEN = 1
"""Exit code kept for a cell whose process was killed or fell over."""


def next_command(cell: Cell, device: str) -> list[str] | None:
    """The arguments of `tok` that bring the cell further; None where it has all its figures.

    Writes the files that the command reads.
    """
    run = RunFolder(cell.path)
    if own_figures(cell, run) is None:
        write_text(run.path / RECIPE, cell.recipe.to_yaml())
        recipe = str(run.path / RECIPE)
        return ["train", recipe, "--out", str(run.path), "--resume", "auto", "--json", "--device", device]
    judged = read_judged(run.path)
    lacking = [asdict(judging) for judging in cell.judgings if judging.key not in judged]
    if not lacking:
        return None
    write_text(run.path / WANTED, json.dumps(lacking))
    return ["judge-cell", str(run.path), "--json", "--device", device]


@dataclass
class Job:
    """A cell that is being worked on. device_index: of the GPU it has to itself; None leaves all of them visible."""

    cell: Cell
    lock: IO[str]
    device: str
    slot: int
    environment: dict[str, str]
    started: float = field(default_factory=time.monotonic)
    command: list[str] | None = None
    process: subprocess.Popen | None = None
    output: IO[bytes] | None = None

    def advance(self) -> bool:
        """Start the next command where the last one has ended well; whether the cell is settled, for good or ill."""
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                return False
            if code != 0:
                self._close(code if code > 0 else BROKEN, self._reason(code))
                return True
        following = next_command(self.cell, self.device)
        if following is not None and following == self.command:
            self._close(
                BROKEN, f"tok {following[0]} ended without the figures it should have left; see {self.cell.path / LOG}"
            )
            return True
        if following is None:
            self._close(0, None)
            return True
        self._start(following)
        return False

    def stop(self, number: int) -> None:
        """Send the process a signal, where there is one."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _start(self, command: list[str]) -> None:
        self.command = command
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - read when the process has ended
        with open(self.cell.path / LOG, "ab") as log:
            log.write(f"\n$ tok {' '.join(command)}\n".encode())
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tokcli", *command],
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=log,
                env=self.environment,
                pass_fds=[self.lock.fileno()],
                # A group of its own, so that Ctrl-C reaches it once: from the sweep.
                process_group=0,
            )

    def _reason(self, code: int) -> str:
        if code < 0:
            name = signal.Signals(-code).name
            return f"killed by {name}" + (" (was memory short?)" if -code == signal.SIGKILL else "")
        assert self.output is not None
        self.output.seek(0)
        try:
            message = json.loads(self.output.read())["error"]["message"]
            return "; ".join(message.splitlines())
        except (ValueError, KeyError, TypeError):
            lines = (self.cell.path / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return f"{lines[-1].strip()} (see {self.cell.path / LOG})"

    def _close(self, code: int, reason: str | None) -> None:
        add_ended(self.cell.path, code, reason, time.monotonic() - self.started if self.command else 0.0)
        self.lock.close()


def settled(cell: Cell, since: float) -> bool:
    """Whether there is nothing to do: all figures are there, it diverged, or it failed in another sweep meanwhile.

    A diverged cell would diverge again, for training is a function of its recipe; a failed one is worth another try.
    """
    ended = read_ended(cell.path)
    if ended.exit_code == DivergedError.exit_code:
        return True
    if ended.exit_code and (cell.path / "outcome.json").stat().st_mtime >= since:
        return True
    judged = read_judged(cell.path)
    return own_figures(cell, RunFolder(cell.path)) is not None and all(each.key in judged for each in cell.judgings)


def claim_lock(cell: Cell) -> IO[str] | None:
    """The lock of a cell; None where another process has it."""
    cell.path.mkdir(parents=True, exist_ok=True)
    lock = open(cell.path / LOCK, "a")  # noqa: SIM115 - held for as long as the cell is worked on
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def environments(jobs: int | None, devices: int) -> list[dict[str, str]]:
    """The environment of each slot: its share of the cores and, of several GPUs, one to itself.

    jobs: slots; None: one for each GPU, else one for every four cores: small networks have no use for more threads.
    """
    cores = usable_cores()
    jobs = jobs or devices or max(1, cores // 4)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(devices)))).split(",")
    made = []
    for slot in range(jobs):
        environment = dict(os.environ)
        if jobs > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // jobs)))
        if jobs > 1 and devices > 1:
            environment["CUDA_VISIBLE_DEVICES"] = visible[slot % devices]
        made.append(environment)
    return made


@contextlib.contextmanager
def stopping(jobs: Sequence[Job]) -> Iterator[None]:
    """Whatever ends this context, no process of `jobs` outlives it."""
    try:
        yield
    finally:
        for job in jobs:
            job.stop(signal.SIGKILL)


def stop_gently(jobs: Sequence[Job]) -> None:
    """Let every process write its checkpoint and leave."""
    for job in jobs:
        job.stop(signal.SIGINT)
    while any(job.alive() for job in jobs):
        time.sleep(0.05)


def interrupted(done: int, total: int) -> InterruptedRunError:
    return InterruptedRunError(f"stopped with {done} of {total} cells finished; the same command goes on from there")
