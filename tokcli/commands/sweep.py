"""`tok sweep`: run what is missing in a table of trainings, and render the table.

sweep file -> cells -> those without figures, run -> outcomes -> table -> Markdown, CSV, JSON
"""

import json
import pathlib
import shlex
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tokcli.commands.cells import Job, claim_lock, environments, interrupted, settled, stop_gently, stopping
from tokcli.data import SOURCES
from tokcli.errors import InputError, UsageError
from tokcli.files import write_text
from tokcli.models import RUNS
from tokcli.progress import SILENT, Reporter, Task
from tokcli.recipe.build import build_evaluation_source, build_training_source
from tokcli.recipe.shipped import SWEEPS, recipe_text, summary_of
from tokcli.sweeps.claims import judge_claim
from tokcli.sweeps.grid import Cell, cells, chosen
from tokcli.sweeps.outcomes import outcome_of, shared, steps_done
from tokcli.sweeps.rendering import to_csv, to_json, to_markdown
from tokcli.sweeps.sweep import Sweep, sweep_from_text
from tokcli.sweeps.table import Row, tabulate
from tokcli.training.curves import draw_panels
from tokcli.training.process import StopRequest
from tokcli.training.run_folder import RunFolder

GLANCE = 0.1
"""Seconds between looks at the processes."""


@dataclass(frozen=True)
class SweepResult:
    """A rendered sweep. report: what table.json holds. unwell: cells that failed or diverged."""

    folder: pathlib.Path
    markdown: str
    report: dict[str, Any]
    unwell: int


def sweep(
    reference: str,
    overrides: Sequence[str] = (),
    *,
    out: str | None = None,
    jobs: int | None = None,
    render_only: bool = False,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> SweepResult:
    """Bring the sweep `reference` (a file or a shipped name) to its end, and write its table into its folder.

    jobs: cells at a time; None: one for each GPU, else one for every four cores.
    overrides: of the sweep (`seeds=`, `sizes=`, `methods=`, `evaluate.NAME.KEY=`) or of every cell's recipe.
    Raises RecipeError with every problem of the sweep and of all its recipes, InputError where data is missing,
    InterruptedRunError where the user stopped it. Failed and diverged cells are in the result.
    """
    name, text = recipe_text(reference, SWEEPS)
    plan, rest = chosen(sweep_from_text(text, pathlib.Path(name).stem, summary_of(text)), overrides)
    folder = pathlib.Path(out) if out else RUNS / plan.name
    own = cells(plan, folder, rest)
    grid = shared(own)
    if RunFolder(folder).started:
        raise UsageError(f"{folder} holds a run, not a sweep; choose another folder with --out")
    command = shlex.join(["tok", "sweep", reference, *overrides])
    if not render_only:
        if borrowed := sum(cell is not other for cell, other in zip(own, grid, strict=True)):
            reporter.note(f"{borrowed} of the cells are finished in sweeps beside this one, and taken from there")
        _check_data(plan, grid)
        folder.mkdir(parents=True, exist_ok=True)
        _run(plan, grid, folder, jobs, device, command, reporter)
    return render(plan, grid, folder, command, reporter)


def render(plan: Sweep, grid: Sequence[Cell], folder: pathlib.Path, command: str, reporter: Reporter) -> SweepResult:
    """Read what the cells left, and write table.md, table.csv, table.json and a picture of each curve."""
    outcomes = [(cell, outcome_of(cell)) for cell in grid]
    table = tabulate(plan, outcomes)
    claims = [judge_claim(claim, table) for claim in plan.claims]
    markdown = to_markdown(plan, table, claims, outcomes, command)
    report = to_json(plan, table, claims, outcomes, command)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "table.md", markdown)
    write_text(folder / "table.csv", to_csv(plan, table))
    write_text(folder / "table.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    for metric in plan.curves:
        _draw(metric, table, folder, reporter)
    unwell = sum(outcome.state in ("failed", "diverged") for _, outcome in outcomes)
    return SweepResult(folder, markdown, report, unwell)


def _run(
    plan: Sweep,
    grid: Sequence[Cell],
    folder: pathlib.Path,
    jobs: int | None,
    device: str,
    command: str,
    reporter: Reporter,
) -> None:
    """Work on the cells that lack figures, `jobs` at a time, until none is left."""
    since = time.time()
    waiting = deque(cell for cell in grid if not settled(cell, since))
    places = environments(jobs, torch.cuda.device_count() if device in ("auto", "cuda") else 0)
    reporter.note(f"{plan.name}: {len(grid)} cells, {len(waiting)} to run, {len(places)} at a time, in {folder}")
    running: list[Job] = []
    told = False
    progress = _Progress(waiting)
    with (
        StopRequest() as stop,
        reporter.task("sweep", progress.total, "steps", progress.done) as task,
        stopping(running),
    ):
        while waiting or running:
            _fill(waiting, running, places, device, since, reporter)
            if waiting and not running and not told:
                told = True
                reporter.note(f"waiting for {len(waiting)} cells that another sweep, or one that was killed, has begun")
            for job in [job for job in running if job.advance()]:
                running.remove(job)
                reporter.note(_ending(job.cell))
                render(plan, grid, folder, command, SILENT)
            progress.show(task, len(grid) - len(waiting) - len(running), len(grid))
            if stop.requested:
                stop_gently(running)
                done = sum(outcome_of(cell).state == "finished" for cell in grid)
                raise interrupted(done, len(grid))
            time.sleep(GLANCE)


def _fill(
    waiting: deque[Cell],
    running: list[Job],
    places: Sequence[dict[str, str]],
    device: str,
    since: float,
    reporter: Reporter,
) -> None:
    """Give every free slot a cell that nobody else works on; one that is settled by now is dropped."""
    for _ in range(len(waiting)):
        free = [slot for slot in range(len(places)) if slot not in {job.slot for job in running}]
        if not free:
            return
        cell = waiting.popleft()
        lock = claim_lock(cell)
        if lock is None:
            waiting.append(cell)  # another sweep has it; its figures will be there when it is done
        elif settled(cell, since):
            lock.close()
        else:
            reporter.note(f"{cell.label}: {cell.path}")
            running.append(Job(cell, lock, device, free[0], places[free[0]]))


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
        return sum(steps_done(cell.path) for cell in self._cells)


def _ending(cell: Cell) -> str:
    outcome = outcome_of(cell)
    if outcome.state == "finished":
        return f"{cell.label}: finished in {outcome.seconds:.0f} s"
    return f"{cell.label}: {outcome.state}: {outcome.reason}"


def _check_data(plan: Sweep, grid: Sequence[Cell]) -> None:
    """Miss data before the first training, not in every one. Raises InputError with all that is missing."""
    found: dict[str, None] = {}
    seen = set()
    for cell in grid:
        node = json.dumps([cell.recipe.train_data, cell.recipe.eval_data], sort_keys=True)
        if node in seen:
            continue
        seen.add(node)
        for build in (build_training_source, build_evaluation_source):
            try:
                build(cell.recipe, SOURCES[cell.recipe.train_data["kind"]].modality)
            except InputError as error:
                found[str(error)] = None
    for name, node in plan.evaluate.items():
        try:
            SOURCES.build(node, f"evaluate.{name}")
        except InputError as error:
            found[f"{error}; set it with evaluate.{name}.path=FOLDER"] = None
    if found:
        raise InputError("\n".join(found))


def _draw(metric: str, table: Sequence[Row], folder: pathlib.Path, reporter: Reporter) -> None:
    curves = {row.label: row.curves[metric] for row in table if row.curves.get(metric)}
    if curves:
        draw_panels({f"{metric} (evaluation)": curves}, folder / f"{metric}.png", reporter, "over training")
