"""`tok import`: what a generator wrote, or `tok export`, becomes a token file that `tok decode` takes.

file or folder of a format -> tokens, checked -> token file that names its tokenizer
"""

import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokcli.artifacts.fingerprint import compute_fingerprints
from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.exchange import ExchangeFormat, ExchangeItem, Expected, build_format
from tokcli.exchange.base import META
from tokcli.exchange.sequences import parse_grid
from tokcli.files import try_output
from tokcli.models import Model, open_model, pick_device
from tokcli.progress import SILENT, Reporter
from tokcli.tokens import TokenHeader, open_writer

KIND_OF_SUFFIX = {".parquet": "parquet", ".bin": "bin", ".tar": "webdataset", ".npy": "npy-tree", ".jsonl": "jsonl"}


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
    model: pathlib.Path

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "output": str(self.output),
            "items": self.items,
            "format": self.format,
            "model": str(self.model),
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
    path = pathlib.Path(source)
    if not path.exists():
        raise InputError(f"there is nothing at {path}; expected a file or folder of tokens")
    meta = _read_meta(path)
    named: str = kind or meta.get("kind") or _guess_kind(path)
    format_ = build_format(named, _read_options(named, meta) | dict(options or {}))
    target = pathlib.Path(output)
    try_output(target, folder=target.is_dir() or not target.suffix)
    opened = open_model(model, pick_device("cpu"), reporter, codebook or meta.get("codebook_size"))
    header = _describe_tokens(opened, meta, named, path)
    stride = opened.tokenizer.autoencoder.stride
    expected = Expected(
        header.codebook_size, header.groups, header.modality, parse_grid(grid) if grid is not None else None
    )
    items = _write_items(format_, path, expected, pathlib.Path(output), header, stride, force, reporter)
    return Imported(pathlib.Path(output), items, named, opened.path)


def _write_items(
    format_: ExchangeFormat,
    path: pathlib.Path,
    expected: Expected,
    output: pathlib.Path,
    header: TokenHeader,
    stride: int,
    force: bool,
    reporter: Reporter,
) -> int:
    """Read the source twice, for its names and for its tokens, so that memory holds no more than the names."""
    names = _make_unique(item.name for item in format_.read(path, expected))
    if not names:
        raise InputError(f"{path} holds no items")
    with (
        open_writer(output, header, names, force=force) as writer,
        reporter.task("importing", len(names), "items") as task,
    ):
        for name, item in zip(names, format_.read(path, expected), strict=True):
            size = item.signal_size or tuple(length * stride for length in item.grid)
            _check_size(item, size, stride)
            writer.append(name, item.tokens, item.original_size or size, size)
            task.advance()
    return len(names)


def _check_size(item: ExchangeItem, size: Sequence[int], stride: int) -> None:
    positions = tuple(math.ceil(length / stride) for length in size)
    if positions != item.grid:
        raise MismatchError(f"{item.name}: a signal of {list(size)} has {positions} positions, its tokens {item.grid}")


def _read_meta(path: pathlib.Path) -> dict[str, Any]:
    """What `tok export` left beside the data; empty where a generator left nothing."""
    file = (path if path.is_dir() else path.parent) / META
    if not file.is_file():
        return {}
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise MismatchError(f"{file} is damaged: {error}") from error
    is_ours = isinstance(meta, dict) and meta.get("format") == "tok-export/1"
    return meta if is_ours else {}


def _guess_kind(path: pathlib.Path) -> str:
    files = [path] if path.is_file() else (each for each in path.rglob("*") if each.is_file())
    kind = next((KIND_OF_SUFFIX[file.suffix] for file in files if file.suffix in KIND_OF_SUFFIX), None)
    if kind is None:
        known = ", ".join(KIND_OF_SUFFIX)
        raise UsageError(f"{path}: cannot tell what format this is; expected {known}, or say --from KIND")
    return kind


def _read_options(kind: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the export was made with, as far as reading needs them."""
    names = {"webdataset": ("preset", "order"), "npy-tree": ("preset",), "jsonl": ("order", "layout")}
    return {name: meta[name] for name in names.get(kind, ()) if name in meta}


def _describe_tokens(opened: Model, meta: Mapping[str, Any], kind: str, path: pathlib.Path) -> TokenHeader:
    """The header of tokens of this model. Raises MismatchError where the export says that another one made them."""
    tokenizer, artifact = opened.artifact.tokenizer, opened.artifact
    sums = compute_fingerprints(tokenizer, artifact.recipe)
    made_by = meta.get("tokens") or {}
    for what, own in (("network", sums.network), ("codebook", sums.codebook)):
        theirs = made_by.get(f"{what}_fingerprint")
        if theirs is not None and theirs != own:
            raise MismatchError(
                f"{path} was exported from tokens that another tokenizer made: its {what} has the fingerprint "
                f"{str(theirs)[:12]}, that of {opened.path} is {own[:12]}; name the right one with -m"
            )
    return TokenHeader(
        codebook_size=tokenizer.quantizer.codebook_size,
        groups=tokenizer.quantizer.groups,
        modality=tokenizer.modality,
        network_fingerprint=sums.network,
        codebook_fingerprint=sums.codebook,
        weights=artifact.weights,
        preprocessing=made_by.get("preprocessing") or {"imported_from": kind},
        sample_rate=tokenizer.autoencoder.sample_rate,
    )


def _make_unique(names: Iterator[str]) -> list[str]:
    """The names, with a number behind those that an earlier item has."""
    taken: set[str] = set()
    unique = []
    for name in names:
        own, count = name, 1
        while own in taken:
            own, count = f"{name}-{count}", count + 1
        taken.add(own)
        unique.append(own)
    return unique
