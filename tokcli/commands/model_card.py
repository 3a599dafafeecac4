"""The card of a shared tokenizer: a README.md made of what its artifact says of itself, and of an evaluation.

What the artifact says may be a stranger's words: they stand in indented blocks and in cells, where they are text.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tokcli.models import TrainedModel
from tokcli.models.finding import LIBRARY
from tokcli.recipe.recipe import Recipe
from tokcli.recipe.text import write

IDENTIFIERS = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "lgpl-3.0", "mpl-2.0", "unlicense"),
    *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0"),
)
"""Licences that hubs know by these names; any other is called `other`, with its own name."""

CODE = "    "
"""What makes a line of Markdown code, whatever it holds."""


def write_card(model: TrainedModel, recipe: Recipe, name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The text of the card.

    Args:
        model: what is shared.
        recipe: its record, with the licence.
        name: USER/NAME of the repository.
        rows: of `tok eval --json`; none: the figures of the run's own end.
    """
    noun = model.modality.nouns[1]
    parts = [
        _write_front(model, recipe),
        f"# {_cell(recipe.name)}\n\nA discrete tokenizer of {noun}: {_cell(model.summary)}. {_tell_origin(model)}",
        f"## How to use it\n\n{_indent(_use(name, model))}",
        f"## What it is\n\n{_table(_list_facts(model, recipe))}",
        _write_evaluation(model, rows),
        f"## Training data\n\n{_indent(write(dict(recipe.train_data)))}",
        f"## Licence\n\n{_cell(recipe.licence)}{'. ' + _cell(recipe.credits) if recipe.credits else ''}",
        f"## Recipe\n\n{_indent(write(recipe.to_dict()))}",
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _write_front(model: TrainedModel, recipe: Recipe) -> str:
    """What hubs read: YAML between two lines."""
    known = recipe.licence.lower()
    licence = {"license": known} if known in IDENTIFIERS else {"license": "other", "license_name": recipe.licence}
    front = {
        **licence,
        "library_name": LIBRARY,
        "pipeline_tag": "feature-extraction",
        "tags": ["tokenizer", model.codec.modality, recipe.quantizer["kind"]],
    }
    return f"---\n{write(front).rstrip()}\n---"


def _tell_origin(model: TrainedModel) -> str:
    """Who trained it."""
    imported = model.artifact.training.get("imported")
    if not isinstance(imported, dict):
        return "Trained with tok."
    return (
        f"Weights of {_cell(str(imported.get('publisher')))}, imported into tok; what they were trained on is unknown."
    )


def _use(name: str, model: TrainedModel) -> str:
    built = [
        size for size in sorted(each.size for each in model.artifact.codebooks) if len(model.artifact.codebooks) > 1
    ]
    choice = f" --codebook {built[-1]}" if built else ""
    return (
        f"tok encode FOLDER -o tokens.npy -m hf:{name}{choice}\n"
        f"tok decode tokens.npy -o out/\n"
        f"tok eval hf:{name} --data FOLDER\n\n"
        "import tokcli\n"
        f'tokenizer = tokcli.load("hf:{name}")'
    )


def _list_facts(model: TrainedModel, recipe: Recipe) -> list[tuple[str, Any]]:
    tokenizer = model.tokenizer
    sizes = sorted({model.codec.codebook_size, *(built.size for built in model.artifact.codebooks)})
    unit = "pixels" if model.codec.modality == "image" else "samples"
    facts = [
        ("modality", model.codec.modality),
        ("quantizer", recipe.quantizer["kind"]),
        ("codebook sizes", ", ".join(map(str, sizes))),
        ("tokens at a position", model.codec.groups),
        (f"{unit} of a position, along each axis", tokenizer.autoencoder.stride),
        ("sample rate, Hz", model.codec.sample_rate),
        ("parameters", f"{sum(value.numel() for value in tokenizer.parameters()):,}"),
        ("steps of training", model.steps),
        ("fingerprint of the network", model.network_fingerprint),
    ]
    return [(key, value) for key, value in facts if value is not None]


def _write_evaluation(model: TrainedModel, rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of figures and what they depend on; a sentence where there are none."""
    own = {"metrics": model.artifact.training.get("metrics"), "protocol": model.artifact.training.get("protocol")}
    shown = list(rows) or ([{"model": "at the end of its training", **own}] if own["metrics"] else [])
    if not shown:
        return "## Evaluation\n\nNobody has evaluated it yet."
    names = list(dict.fromkeys(name for row in shown for name in row["metrics"]))
    head = ["", *names]
    lines = [[row.get("label") or row["model"], *(_round(row["metrics"].get(name)) for name in names)] for row in shown]
    table = "\n".join(_line(cells) for cells in (head, ["---"] * len(head), *lines))
    protocol = json.dumps(shown[0].get("protocol"), indent=1, ensure_ascii=False)
    return f"## Evaluation\n\n{table}\n\nBy this protocol:\n\n{_indent(protocol)}"


def _round(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) and not isinstance(value, bool) else "–"


def _table(rows: Sequence[tuple[str, Any]]) -> str:
    return "\n".join(_line(cells) for cells in (["", ""], ["---", "---"], *rows))


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(_cell(str(cell)) for cell in cells) + " |"


def _cell(text: str) -> str:
    """Text of one line, in which nothing is Markdown or HTML."""
    plain = " ".join(text.split())
    for mark in "\\|`<>[]*#":
        plain = plain.replace(mark, f"\\{mark}")
    return plain


def _indent(text: str) -> str:
    return "\n".join(CODE + line for line in text.rstrip().splitlines())
