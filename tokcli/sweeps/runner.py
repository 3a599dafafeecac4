"""Running the cells of a sweep: each a `tok train` in a process of its own, several at a time, safe to kill anywhere.

A lock on the cell's folder belongs to the process that works there and not to the sweep alone: the child inherits it,
so a cell whose sweep was killed stays locked for as long as its training lives, and no second one starts beside it.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, NoReturn

import torch

from tokcli.distributed import count_cores
from tokcli.errors import DivergedError, InterruptedRunError
from tokcli.files import write_text
from tokcli.locking import INHERITED, Lock, acquire
from tokcli.progress import Reporter, Task
from tokcli.sweeps.cells import Cell
from tokcli.sweeps.outcomes import add_ended, count_steps, read_ended, read_evaluations, read_outcome, read_own_figures
from tokcli.sweeps.plan import Sweep
from tokcli.training.process import StopRequest
from tokcli.training.run_folder import CELL, RunFolder
from tokcli.untrusted import parse_json

WANTED, LOG = "wanted.json", "log.txt"
GLANCE = 0.1
"""Seconds between looks at the processes."""

BROKEN = 1
"""Exit code kept for a cell whose process was killed or fell over."""


def plan_next_command(cell: Cell, device: str) -> list[str] | None:
    """The arguments of `tok` that bring the cell further; None where it has all its figures.

    Writes the files that the command reads.
    """
    run = RunFolder(cell.path)
    if read_own_figures(cell, run) is None:
        write_text(run.path / CELL, cell.recipe.to_yaml())
        recipe = str(run.path / CELL)
        return ["train", recipe, "--out", str(run.path), "--resume", "auto", "--json", "--device", device]
    evaluated = read_evaluations(run.path)
    lacking = [asdict(further) for further in cell.further if further.key not in evaluated]
    if not lacking:
        return None
    write_text(run.path / WANTED, json.dumps(lacking))
    return ["judge-cell", str(run.path), "--json", "--device", device]


@dataclass
class Job:
    """A cell that is being worked on.

    Attributes:
        cell: Which.
        lock: Held for as long as it lasts.
        device: auto, cpu, cuda or mps.
        slot: Which of the places at work it takes.
        environment: Of its processes.
        started: When, by the monotonic clock.
        command: The arguments of `tok` that run now, or ran last.
        process: That runs them.
        output: Where the process prints its JSON.
    """

    cell: Cell
    lock: Lock
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
        following = plan_next_command(self.cell, self.device)
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
        """Whether its process runs."""
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
                env=self.environment | {INHERITED: str(self.lock.fileno())},
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
            message = parse_json(self.output.read())["error"]["message"]
            return "; ".join(message.splitlines())
        except (ValueError, KeyError, TypeError):
            lines = (self.cell.path / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return f"{lines[-1].strip()} (see {self.cell.path / LOG})"

    def _close(self, code: int, reason: str | None) -> None:
        add_ended(self.cell.path, code, reason, time.monotonic() - self.started if self.command else 0.0)
        self.lock.release()


def is_settled(cell: Cell, since: float) -> bool:
    """Whether there is nothing to do: all figures are there, it diverged, or it failed in another sweep meanwhile.

    A diverged cell would diverge again, for training is a function of its recipe; a failed one is worth another try.
    """
    ended = read_ended(cell.path)
    if ended.exit_code == DivergedError.exit_code:
        return True
    if ended.exit_code and (cell.path / "outcome.json").stat().st_mtime >= since:
        return True
    evaluated = read_evaluations(cell.path)
    own = read_own_figures(cell, RunFolder(cell.path))
    return own is not None and all(further.key in evaluated for further in cell.further)


def claim_lock(cell: Cell) -> Lock | None:
    """The lock of a cell; None where another process has it."""
    lock = acquire(RunFolder(cell.path).lock, patience=0)
    return lock if isinstance(lock, Lock) else None


def make_environments(jobs: int | None, devices: int) -> list[dict[str, str]]:
    """The environment of each slot: its share of the cores and, of several GPUs, one to itself.

    Args:
        jobs: Slots. None: one for each GPU, else one for every four cores; small networks have no use for more threads.
        devices: GPUs.
    """
    cores = count_cores()
    jobs = jobs or devices or max(1, cores // 4)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(devices)))).split(",")
    environments = []
    for slot in range(jobs):
        environment = dict(os.environ)
        if jobs > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // jobs)))
        if jobs > 1 and devices > 1:
            environment["CUDA_VISIBLE_DEVICES"] = visible[slot % devices]
        environments.append(environment)
    return environments


@contextlib.contextmanager
def kill_at_the_end(jobs: Sequence[Job]) -> Iterator[None]:
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


def run_cells(
    sweep: Sweep,
    cells: Sequence[Cell],
    folder: pathlib.Path,
    jobs: int | None,
    device: str,
    when_settled: Callable[[], object],
    reporter: Reporter,
) -> None:
    """Work on the cells that lack figures until none is left.

    Args:
        sweep: Whose cells they are.
        cells: All of them; those that are settled are left alone.
        folder: Of the sweep.
        jobs: Cells at a time. None: one for each GPU, else one for every four cores.
        device: auto, cpu, cuda or mps.
        when_settled: Called after each cell.
        reporter: Is told how far the sweep has come.

    Raises:
        InterruptedRunError: The user stopped it; every cell goes on from its checkpoint.
    """
    since = time.time()
    waiting = deque(cell for cell in cells if not is_settled(cell, since))
    slots = make_environments(jobs, torch.cuda.device_count() if device in ("auto", "cuda") else 0)
    reporter.note(f"{sweep.name}: {len(cells)} cells, {len(waiting)} to run, {len(slots)} at a time, in {folder}")
    running: list[Job] = []
    told = False
    progress = _Progress(waiting)
    with (
        StopRequest() as stop,
        reporter.task("sweep", progress.total, "steps", progress.done) as task,
        kill_at_the_end(running),
    ):
        while waiting or running:
            _fill(waiting, running, slots, device, since, reporter)
            if waiting and not running and not told:
                told = True
                reporter.note(f"waiting for {len(waiting)} cells that another sweep, or one that was killed, has begun")
            for job in [job for job in running if job.advance()]:
                running.remove(job)
                reporter.note(_describe_end(job.cell))
                when_settled()
            progress.show(task, len(cells) - len(waiting) - len(running), len(cells))
            if stop.requested:
                stop_gently(running)
                _raise_interrupted(cells)
            time.sleep(GLANCE)


def _raise_interrupted(cells: Sequence[Cell]) -> NoReturn:
    done = sum(read_outcome(cell).state == "finished" for cell in cells)
    raise InterruptedRunError(
        f"stopped with {done} of {len(cells)} cells finished; the same command goes on from there"
    )


def _fill(
    waiting: deque[Cell],
    running: list[Job],
    slots: Sequence[dict[str, str]],
    device: str,
    since: float,
    reporter: Reporter,
) -> None:
    """Give every free slot a cell that nobody else works on; one that is settled by now is dropped."""
    for _ in range(len(waiting)):
        free = [slot for slot in range(len(slots)) if slot not in {job.slot for job in running}]
        if not free:
            return
        cell = waiting.popleft()
        lock = claim_lock(cell)
        if lock is None:
            waiting.append(cell)  # another sweep has it; its figures will be there when it is done
        elif is_settled(cell, since):
            lock.release()
        else:
            reporter.note(f"{cell.label}: {cell.path}")
            running.append(Job(cell, lock, device, free[0], slots[free[0]]))


class _Progress:
    """Steps of training done by the cells that were waiting at the start."""

    def __init__(self, waiting: Sequence[Cell]) -> None:
        self._cells = list(waiting)
        self._looked = time.monotonic()
        self.total = sum(cell.recipe.training.steps for cell in self._cells)
        self.done = self._count()

    def show(self, task: Task, cells_done: int, cells: int) -> None:
        """Tell the task, once a second."""
        if time.monotonic() - self._looked < 1:
            return
        done, self._looked = self._count(), time.monotonic()
        task.advance(max(0, done - self.done), cells=f"{cells_done}/{cells}")
        self.done = max(self.done, done)

    def _count(self) -> int:
        return sum(count_steps(cell.path) for cell in self._cells)


def _describe_end(cell: Cell) -> str:
    outcome = read_outcome(cell)
    if outcome.state == "finished":
        return f"{cell.label}: finished in {outcome.seconds:.0f} s"
    return f"{cell.label}: {outcome.state}: {outcome.reason}"
