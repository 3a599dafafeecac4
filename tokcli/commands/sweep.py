"""`tok sweep`: run what is missing in a table of trainings, and render the table.

sweep file -> plan -> cells -> those without figures, run -> outcomes -> table -> Markdown, CSV, JSON
"""

import pathlib
import shlex
from collections.abc import Sequence

from tokcli.commands.pinned_bench import RenderedBench, is_bench, run_bench
from tokcli.errors import UsageError
from tokcli.models import RUNS
from tokcli.progress import SILENT, Reporter
from tokcli.recipe.shipped import SWEEPS, find_recipe_text, read_summary
from tokcli.recipe.text import parse
from tokcli.sweeps.cells import apply_choices, check_data, make_cells
from tokcli.sweeps.outcomes import reuse_finished
from tokcli.sweeps.plan import read_sweep
from tokcli.sweeps.render import RenderedSweep, render
from tokcli.sweeps.runner import run_cells
from tokcli.training.run_folder import RunFolder


def sweep(
    reference: str,
    overrides: Sequence[str] = (),
    *,
    out: str | None = None,
    jobs: int | None = None,
    render_only: bool = False,
    earlier: str | None = None,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> RenderedSweep | RenderedBench:
    """Bring a sweep to its end, and write its table into its folder. Failed and diverged cells are in the result.

    Args:
        reference: A file or a shipped name.
        overrides: Of the sweep (`seeds=`, `sizes=`, `methods=`, `evaluate.NAME.KEY=`) or of every cell's recipe.
        out: The sweep's folder; None is runs/NAME.
        jobs: Cells at a time. None: one for each GPU, else one for every four cores.
        render_only: Run nothing; render what is there.
        earlier: The folder of another run of a bench, of models that are judged and not trained, to compare with.
        device: auto, cpu, cuda or mps.
        reporter: Is told how far it has come.

    Raises:
        RecipeError: With every problem of the sweep and of all its recipes.
        InputError: Data is missing.
        InterruptedRunError: The user stopped it.
    """
    name, text = find_recipe_text(reference, SWEEPS)
    if is_bench(parse(text, name)):
        own_name = pathlib.Path(name).stem
        place = pathlib.Path(out) if out else RUNS / own_name
        how = {"earlier": earlier, "render_only": render_only, "device": device}
        return run_bench(text, own_name, overrides, place, reporter=reporter, **how)
    if earlier is not None:
        raise UsageError("--earlier compares runs of a bench, and this sweep trains")
    plan, rest = apply_choices(read_sweep(text, pathlib.Path(name).stem, read_summary(text)), overrides)
    folder = pathlib.Path(out) if out else RUNS / plan.name
    own = make_cells(plan, folder, rest)
    cells = reuse_finished(own)
    if RunFolder(folder).started:
        raise UsageError(f"{folder} holds a run, not a sweep; choose another folder with --out")
    command = shlex.join(["tok", "sweep", reference, *overrides])
    if not render_only:
        if borrowed := sum(cell is not other for cell, other in zip(own, cells, strict=True)):
            reporter.note(f"{borrowed} of the cells are finished in sweeps beside this one, and taken from there")
        check_data(plan, cells)
        folder.mkdir(parents=True, exist_ok=True)
        run_cells(plan, cells, folder, jobs, device, lambda: render(plan, cells, folder, command, SILENT), reporter)
    return render(plan, cells, folder, command, reporter)
