"""`tok import`: what a generator wrote, or `tok export`, becomes a token file that `tok decode` takes.

file or folder of a format -> tokens, checked -> token file that names its tokenizer
"""

import hashlib
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from tokcli.commands.foreign_tokens import ForeignTokens, find_foreign, find_grid, make_unique, measure
from tokcli.errors import InputError, UsageError
from tokcli.exchange import ExchangeItem
from tokcli.files import try_output
from tokcli.models import Model, choose_named, open_model, pick_device
from tokcli.progress import SILENT, Reporter
from tokcli.tokens import open_writer

CHECKPOINTS = (".pt", ".pth", ".ckpt")
"""Endings of files that hold weights, and tokens never."""


@dataclass(frozen=True)
class Imported:
    """A token file made of a generator's.

    Attributes:
        output: the token file.
        items: how many it holds.
        format: the kind it was read as.
        model: the tokenizer that decodes it.
    """

    output: pathlib.Path
    items: int
    format: str
    model: str

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "output": str(self.output),
            "items": self.items,
            "format": self.format,
            "model": self.model,
        }


def import_tokens(
    source: str,
    output: str,
    *,
    model: str | None = None,
    codebook: int | None = None,
    kind: str | None = None,
    grid: str | None = None,
    options: Mapping[str, Any] | None = None,
    force: bool = False,
    reporter: Reporter = SILENT,
) -> Imported:
    """Read a generator's tokens into a token file.

    Args:
        source: a file or folder of one of the export formats.
        output: the token file, in any of its forms.
        model: the tokenizer whose tokens these are.
        codebook: which of its built codebooks.
        kind: of the format; None tells it by `meta.json` or the name's ending.
        grid: positions of an item as HxW, where the file does not say; a row is square otherwise.
        options: arguments of the format's constructor, for files that do not say.
        force: overwrite what is there.
        reporter: is told how far it is.

    Raises:
        InputError: where nothing is there.
        UsageError: where it is not clear what the file is.
        MismatchError: where the tokens are not this tokenizer's.
    """
    if source.lower().endswith(CHECKPOINTS):
        raise UsageError(f"{source} looks like weights; say whose: --as llamagen or --as taming")
    foreign = find_foreign(pathlib.Path(source), kind, options)
    target = pathlib.Path(output)
    try_output(target, folder=target.is_dir() or not target.suffix)
    named = choose_named(model, foreign.made_by.get("model"))
    opened = open_model(named, pick_device("cpu"), reporter, codebook or foreign.meta.get("codebook_size"))
    positions = find_grid(grid, None, opened)
    items = _write_items(foreign, opened, positions, target, force, reporter)
    return Imported(target, items, foreign.kind, opened.name)


def _write_items(
    foreign: ForeignTokens,
    model: Model,
    grid: tuple[int, ...] | None,
    output: pathlib.Path,
    force: bool,
    reporter: Reporter,
) -> int:
    """Read the source twice, for its names and for its tokens, so that memory holds no more than the names.

    What a killed import of the same tokens left is taken up.
    """
    header = foreign.describe(model)
    taken: set[str] = set()
    classes = foreign.meta.get("classes") or []
    names, content = [], hashlib.sha256()
    for item in foreign.read(model, grid):
        names.append(make_unique(item.name, taken))
        content.update(numpy.asarray(item.tokens).tobytes())
    if not names:
        raise InputError(f"{foreign.path} holds no items")
    with (
        open_writer(output, header, names, resume=not force, force=force, about=content.hexdigest()) as writer,
        reporter.task("importing", len(names), "items", len(writer.done)) as task,
    ):
        items = zip(names, foreign.read(model, grid), strict=True)
        for name, item in itertools.islice(items, len(writer.done), None):
            size = measure(item, model.codec)
            writer.append(name, item.tokens, item.original_size or size, size, _keep_label(item, classes))
            task.advance()
    return len(names)


def _keep_label(item: ExchangeItem, classes: Sequence[str]) -> dict[str, Any]:
    """What is known about an item, its class by name where the export says the names."""
    if item.label is None:
        return dict(item.about)
    named = item.label < len(classes)
    return {"label": classes[item.label] if named else item.label} | dict(item.about)
