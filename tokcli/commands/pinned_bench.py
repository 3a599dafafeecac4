"""`tok sweep` of models that are judged and not trained: models × data, one table, and what changed since another run.

bench: image                              # or audio
columns: [psnr, ssim]                     # metrics
models: {photo 1024: {model: photo@1, codebook: 1024}, mine: {model: hf:USER/NAME@REVISION}}
against: [jpeg, webp]                     # classical codecs, at their rates
evaluate: {flowers: {path: photos/val, size: 256, items: 100}}

Every row is kept as JSON as soon as it is there, under a key of the model's file, the data and the metrics; the same
command goes on with what is missing.
"""

import hashlib
import html
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tokcli.commands.evaluate import evaluate
from tokcli.contracts import ModalityName
from tokcli.data.modality import MODALITIES
from tokcli.errors import InputError, MismatchError, RecipeError
from tokcli.evaluation.compare import Difference, format_difference, format_number, higher_is_better, paired_difference
from tokcli.files import read_text, write_text
from tokcli.metrics import metrics_for
from tokcli.models import digest_model, find_model
from tokcli.progress import Reporter
from tokcli.recipe.text import parse
from tokcli.schema import find_argument_problems
from tokcli.untrusted import LONGEST_JSON, parse_json

ROWS = "rows.json"

ANY_RATE = 16_000
"""In Hz: that files are found and marked with; each model reads them at its own."""


@dataclass(frozen=True)
class BenchModel:
    """A row: a model by any of its names, and which of its codebooks, by its size; None takes the one in use."""

    model: str
    codebook: int | None = None


@dataclass(frozen=True)
class BenchData:
    """What all are judged on: a folder, an archive or a list; the size that items are brought to; the first so many."""

    path: str
    size: int | None = None
    items: int | None = None


@dataclass(frozen=True)
class BenchFile:
    """The sections of a file of models that are judged and not trained."""

    bench: ModalityName
    columns: list[str]
    models: dict[str, Any]
    evaluate: dict[str, Any]
    against: list[str]


@dataclass(frozen=True)
class RenderedBench:
    """The table, and where it lies.

    Attributes:
        folder: of the table and of its rows.
        report: plain JSON values: `rows`, and `changes` where there is an earlier run.
        markdown: the table for people.
        unwell: whether items of a row could not be read.
    """

    folder: pathlib.Path
    report: dict[str, Any]
    markdown: str
    unwell: bool


def is_bench(content: Any) -> bool:
    """Whether a sweep file judges models and trains none."""
    return isinstance(content, dict) and "bench" in content


def read_bench(content: Mapping[str, Any]) -> BenchFile:
    """A checked bench. Raises RecipeError with every problem, one a line."""
    content = {"against": [], **content}
    problems = find_argument_problems(BenchFile, content, "", "a bench")
    if not problems:
        problems += [f"{key}: expected at least one" for key in ("columns", "models", "evaluate") if not content[key]]
        known = metrics_for(content["bench"])
        problems += [
            f"columns: no metric of {content['bench']} is called '{each}'"
            for each in content["columns"]
            if each not in known
        ]
        for section, kind in (("models", BenchModel), ("evaluate", BenchData)):
            for name, node in content[section].items():
                whole = isinstance(node, dict)
                problems += (
                    find_argument_problems(kind, node, f"{section}.{name}", "a row")
                    if whole
                    else [f"{section}.{name}: expected keys and values, got {node!r}"]
                )
    if problems:
        raise RecipeError("\n".join(problems))
    return BenchFile(**content)


def run_bench(
    text: str,
    name: str,
    overrides: Sequence[str],
    folder: pathlib.Path,
    *,
    earlier: str | None,
    render_only: bool,
    device: str,
    reporter: Reporter,
) -> RenderedBench:
    """Judge what is missing, and write table.md, table.json and table.html into the folder.

    Raises TokError for a model, data or an earlier run that is not to be had.
    """
    bench = read_bench(_override(parse(text, name), overrides))
    before = _read_rows(pathlib.Path(earlier)) if earlier is not None else []
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for data_name, node in bench.evaluate.items():
        for label, given in bench.models.items():
            codecs = bench.against if label == next(iter(bench.models)) else []
            key = {"data_name": data_name, "row": label, "metrics": bench.columns, "against": codecs}
            rows += _evaluate_row(
                folder, key, BenchModel(**given), BenchData(**node), bench, render_only, device, reporter
            )
    changes = [change for row in rows if (change := _compare(row, before))] if before else []
    report = {"bench": name, "rows": rows, **({"changes": changes} if before else {})}
    markdown = _write_tables(bench, rows, changes, earlier)
    write_text(folder / ROWS, json.dumps(report))
    write_text(folder / "table.md", markdown)
    write_text(folder / "table.html", _write_page(name, markdown))
    return RenderedBench(folder, report, markdown, any(row["failed"] for row in rows))


def _override(content: Any, overrides: Sequence[str]) -> dict[str, Any]:
    """The file with `section.name.key=value` applied."""
    for override in overrides:
        path, equals, text = override.partition("=")
        *sections, last = path.split(".")
        place = content
        for section in sections:
            place = place.setdefault(section, {}) if isinstance(place, dict) else None
        if not equals or not isinstance(place, dict):
            raise RecipeError(f"{override}: expected KEY.PATH=VALUE, such as evaluate.NAME.path=FOLDER")
        place[last] = parse(text, override)
    return content


def _evaluate_row(
    folder: pathlib.Path,
    key: dict[str, Any],
    model: BenchModel,
    data: BenchData,
    bench: BenchFile,
    render_only: bool,
    device: str,
    reporter: Reporter,
) -> list[dict[str, Any]]:
    """The row of a model, and those of the codecs beside it: as they were kept, else made."""
    content = digest_model(find_model(model.model, reporter=reporter))
    source = MODALITIES[bench.bench].open_source([data.path], data.size, ANY_RATE if bench.bench == "audio" else None)
    count = min(data.items or len(source), len(source))
    identity = [key, content, model.codebook, vars(data), source.mark(range(count))]
    kept = folder / "rows" / f"{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]}.json"
    if kept.exists():
        return _parse(kept)
    if render_only:
        return []
    scores = evaluate(
        [model.model],
        data=data.path,
        metrics=bench.columns,
        codebooks=[model.codebook] if model.codebook is not None else None,
        size=data.size,
        items=data.items,
        against=key["against"],
        device=device,
        reporter=reporter,
    )
    labels = [key["row"], *(each.title.label for each in scores[1:])]
    rows = [
        {**each.to_json(), "row": label, "on": key["data_name"]} for each, label in zip(scores, labels, strict=True)
    ]
    write_text(kept, json.dumps(rows))
    return rows


def _read_rows(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of another run. Raises InputError and MismatchError where there are none."""
    path = folder / ROWS if folder.is_dir() else folder
    if not path.is_file():
        raise InputError(f"--earlier: there is no {path}; expected the folder of another run of such a table")
    return _parse(path)


def _parse(path: pathlib.Path) -> list[dict[str, Any]]:
    try:
        content = parse_json(read_text(path, LONGEST_JSON))
        rows = content["rows"] if isinstance(content, dict) else content
        for row in rows:
            _ = [row[key] for key in ("row", "on", "metrics", "rate", "item_scores", "failed")]
            _ = row["protocol"]["dataset_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise MismatchError(f"{path} is no table of judged models, or damaged; remove it and run again") from error
    return rows


def _compare(row: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How a row differs from the one of its name in the earlier run, on the very same signals; None: there is none."""
    same = ("row", "on")
    former = next((each for each in before if all(each[key] == row[key] for key in same)), None)
    if former is None or former["protocol"]["dataset_sha256"] != row["protocol"]["dataset_sha256"]:
        return None
    found: dict[str, Difference] = {}
    for metric in row["metrics"]:
        pair = [[item.get(metric) for item in each["item_scores"]] for each in (row, former)]
        if len(pair[0]) == len(pair[1]) and any(value is not None for value in pair[0]):
            filled = [torch.tensor([math.nan if value is None else value for value in each]) for each in pair]
            found[metric] = paired_difference(filled[0], filled[1])
    return {"row": row["row"], "on": row["on"], "differences": {name: vars(each) for name, each in found.items()}}


def _write_tables(
    bench: BenchFile, rows: Sequence[Mapping[str, Any]], changes: Sequence[Mapping[str, Any]], earlier: str | None
) -> str:
    """Markdown: a table for each set of data, and one of what changed."""
    parts = []
    for data_name in bench.evaluate:
        own = [row for row in rows if row["on"] == data_name]
        rates = list(dict.fromkeys(name for row in own for name in row["rate"]))[:1]
        lines = [
            [row["row"], *(format_number(row["rate"].get(name)) for name in rates)]
            + [format_number(row["metrics"].get(name)) for name in bench.columns]
            for row in own
        ]
        parts.append(f"## {data_name}\n\n" + _table(["", *rates, *bench.columns], lines))
    if earlier is not None:
        lines = [
            [change["row"], change["on"], metric, "".join(format_difference(Difference(**each))), _tell(metric, each)]
            for change in changes
            for metric, each in change["differences"].items()
        ]
        told = _table(["", "data", "metric", "now less then, 95 %", ""], lines) if lines else "Nothing can be compared."
        parts.append(f"## Since {earlier}\n\n{told}")
    return "\n\n".join(parts) + "\n"


def _tell(metric: str, difference: Mapping[str, Any]) -> str:
    """Better or worse, where the interval leaves out zero."""
    direction, known = higher_is_better(metric), Difference(**difference)
    if direction is None or not known.clear or known.mean is None:
        return ""
    return "better" if (known.mean > 0) == direction else "worse"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    shown = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in shown)


def _write_page(name: str, markdown: str) -> str:
    """The same tables as a page."""
    body = []
    for line in markdown.splitlines():
        if line.startswith("## "):
            body.append(f"</table><h2>{html.escape(line[3:])}</h2><table>")
        elif line.startswith("|") and not line.startswith("| --- "):
            cells = (f"<td>{html.escape(cell.strip())}</td>" for cell in line.strip("|").split(" | "))
            body.append(f"<tr>{''.join(cells)}</tr>")
    style = "body{font:16px sans-serif;margin:2em}td{padding:.2em .8em;border-bottom:1px solid #ccc}"
    title = html.escape(name)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
        f"<h1>{title}</h1><table>{''.join(body)}</table></html>\n"
    )
