"""`tok build-codebook`: codebooks of any size for a tokenizer that was trained without one, added to its artifact."""

import dataclasses
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelerate import PartialState

from tokcli.artifacts import save_artifact
from tokcli.codebooks import build_codebooks, require_builder, sample_latents
from tokcli.commands.devices import pick_device
from tokcli.commands.models import judged_size, open_model
from tokcli.contracts import CodebookReport
from tokcli.data.items import default_workers
from tokcli.data.modality import MODALITIES
from tokcli.errors import UsageError
from tokcli.progress import SILENT, Reporter
from tokcli.recipe.build import build_training_source


@dataclass(frozen=True)
class BuiltCodebooks:
    """The artifact, and how well each new codebook fits."""

    artifact: pathlib.Path
    reports: Sequence[CodebookReport]

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        codebooks = {str(report.size): dataclasses.asdict(report) for report in self.reports}
        return {"artifact": str(self.artifact), "codebooks": codebooks}


def build_codebook(
    model: str | None = None,
    *,
    sizes: Sequence[int] | None = None,
    data: str | None = None,
    samples: int = 200_000,
    passes: int = 1,
    seed: int = 0,
    force: bool = False,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> BuiltCodebooks:
    """Encode `data` (None: the recipe's training data) once and build a codebook of each of `sizes`.

    Several processes share the encoding. Codebooks of other sizes stay;
    one of the same size is replaced with `force`, and disowns the tokens it made.
    Raises UsageError where the quantizer builds no codebook or the size is there, InputError without data.
    """
    picked = pick_device(device)
    processes = PartialState(cpu=picked.type == "cpu")
    picked = processes.device if processes.num_processes > 1 else picked
    opened = open_model(model, picked, reporter, need_tokens=False)
    artifact, tokenizer = opened.artifact, opened.artifact.tokenizer
    quantizer = require_builder(tokenizer)
    wanted = list(sizes or [tokenizer.quantizer.codebook_size])
    existing = {report.size for report in artifact.codebooks}
    if (twice := sorted(existing & set(wanted))) and not force:
        raise UsageError(
            f"{opened.path} has a codebook of {twice[0]} codes; --force replaces it, and tokens made with it can then "
            "no longer be decoded"
        )
    if data is None:
        source = build_training_source(artifact.recipe, tokenizer.modality)
    else:
        modality = MODALITIES[tokenizer.modality]
        size = modality.default_size(judged_size(artifact.recipe))
        source = modality.open_source([data], size, tokenizer.autoencoder.sample_rate)
    reporter.note(f"encoding {data or 'the training data of the recipe'}, {len(source)} items")
    latents = sample_latents(
        tokenizer,
        source,
        samples,
        passes=passes,
        items=None,
        seed=seed,
        batch_size=artifact.recipe.evaluation.batch_size,
        workers=default_workers(len(source), processes.num_processes),
        reporter=reporter,
    )
    reports = build_codebooks(tokenizer, latents, wanted, seed=seed, reporter=reporter)
    built = {report.size for report in reports}
    kept = [report for report in artifact.codebooks if report.size not in built and report.size in quantizer.codebooks]
    everything = sorted([*kept, *reports], key=lambda report: report.size)
    if processes.is_main_process:
        save_artifact(opened.path, dataclasses.replace(artifact, codebooks=everything))
    processes.wait_for_everyone()
    return BuiltCodebooks(opened.path, reports)
