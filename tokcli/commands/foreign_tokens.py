"""Tokens that other programs wrote, read with a tokenizer at hand: what `tok import` and `tok decode` have in common.

file or folder -> its format, found or named -> items, checked against the tokenizer -> a header that names it
"""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from tokcli.contracts import Codec
from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.exchange import ExchangeFormat, ExchangeItem, Expected, build_format
from tokcli.exchange.arrays import SUFFIXES, open_arrays
from tokcli.exchange.base import META, guard_items
from tokcli.exchange.sequences import parse_grid
from tokcli.files import exists, find_problem, require_regular
from tokcli.models import Model, require_maker
from tokcli.tokens import TokenHeader, TokenReader, TokenRecord, has_header
from tokcli.untrusted import parse_json

KIND_OF_SUFFIX = {
    ".parquet": "parquet",
    ".bin": "bin",
    ".tar": "webdataset",
    ".npy": "npy-tree",
    ".safetensors": "npy-tree",
    ".jsonl": "jsonl",
}


@dataclass(frozen=True)
class ForeignTokens:
    """A file or folder of tokens that does not name its tokenizer as a token file does.

    Attributes:
        path: of it.
        kind: the export format that it has.
        format: that reads it.
        meta: what `tok export` left beside it; empty where a generator left nothing.
    """

    path: pathlib.Path
    kind: str
    format: ExchangeFormat
    meta: Mapping[str, Any]

    @property
    def made_by(self) -> Mapping[str, Any]:
        """What `tok export` kept of the header of the tokens that it wrote; empty where nobody did."""
        header = self.meta.get("tokens")
        return header if isinstance(header, dict) else {}

    def read(self, model: Model, grid: tuple[int, ...] | None) -> Iterator[ExchangeItem]:
        """The items as tokens of `model`, one after the other; `grid`: their positions, where the file does not say."""
        codec = model.codec
        size = model.trained_size if codec.modality == "image" else None
        usual = codec.grid((size, size)) if size is not None else None
        expected = Expected(codec.codebook_size, codec.groups, codec.modality, grid, usual)
        return guard_items(self.format.read(self.path, expected), self.path)

    def describe(self, model: Model) -> TokenHeader:
        """The header of these as tokens of `model`. Raises MismatchError where `meta` says that another one made them.

        Where nothing says so, whoever names the model knows.
        """
        made_by = self.made_by
        theirs = [made_by.get(f"{what}_fingerprint") for what in ("network", "codebook")]
        if all(isinstance(each, str) for each in theirs):
            require_maker(model, self.path, str(theirs[0]), str(theirs[1]))
        return model.describe_tokens(made_by.get("preprocessing") or {"imported_from": self.kind})


def is_foreign(path: pathlib.Path) -> bool:
    """Whether something that may hold tokens lies at `path`, and says nothing of a tokenizer as a token file does."""
    is_folder = path.is_dir()
    if (find_problem(path) and not is_folder) or has_header(path):
        return False
    return bool(_read_meta(path) or _find_kind(path)) if is_folder else path.suffix in KIND_OF_SUFFIX


def find_foreign(
    path: pathlib.Path, kind: str | None = None, options: Mapping[str, Any] | None = None
) -> ForeignTokens:
    """What lies at `path`, by its `meta.json` or by its name's ending, before any tokenizer is opened.

    Args:
        path: of a file or folder.
        kind: of the format, where it was named.
        options: arguments of the format's constructor, for files that do not say.

    Raises:
        InputError: where nothing is there.
        UsageError: where it is not clear what it is.
        MismatchError: where it is damaged, or holds no integers.
    """
    if not exists(path):
        raise InputError(f"there is nothing at {path}; expected a file or folder of tokens")
    for each in path.rglob("*") if path.is_dir() else [path]:
        if not each.is_dir():
            require_regular(each)  # before a library opens it: reading a pipe waits for ever
    meta = _read_meta(path)
    named = str(kind or meta.get("kind") or _guess_kind(path))
    format_ = build_format(named, _read_options(named, meta) | dict(options or {}))
    if path.is_file() and path.suffix in SUFFIXES:
        open_arrays(path)
    return ForeignTokens(path, named, format_, meta)


def make_reader(
    foreign: ForeignTokens, model: Model, grid: tuple[int, ...] | None, size: Sequence[int] | None
) -> TokenReader:
    """All items of `foreign` in memory, in the smallest type, as a token file would give them.

    Args:
        foreign: the file.
        model: whose tokens they are.
        grid: positions of an item, where the file does not say.
        size: in samples, of what each is decoded to; None: what the file says, else all that the grid covers.

    Raises:
        InputError: where it holds nothing.
        MismatchError: where the tokens are not such a model's.
        UsageError: where the grid is needed.
    """
    header = foreign.describe(model)
    records: list[TokenRecord] = []
    stored: list[numpy.ndarray] = []
    taken: set[str] = set()
    for item in foreign.read(model, grid):
        covered = measure(item, model.codec) if size is None else tuple(size)
        records.append(TokenRecord(make_unique(item.name, taken), item.grid, item.original_size or covered, covered))
        values = item.tokens.astype(header.dtype)
        stored.append(values[..., 0] if header.groups == 1 else values)
    if not records:
        raise InputError(f"{foreign.path} holds no items")
    return TokenReader(foreign.path, header, records, [], lambda index: stored[index])


def measure(item: ExchangeItem, codec: Codec) -> tuple[int, ...]:
    """The size of an item's signal in samples. Raises MismatchError where it is not one that makes its tokens."""
    size = item.signal_size or codec.cover(item.grid)
    positions = codec.grid(size)
    if positions != item.grid:
        raise MismatchError(f"{item.name}: a signal of {list(size)} has {positions} positions, its tokens {item.grid}")
    return size


def make_unique(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where an earlier item has it; it is taken then."""
    own, count = name, 1
    while own in taken:
        own, count = f"{name}-{count}", count + 1
    taken.add(own)
    return own


def find_grid(grid: str | None, size: Sequence[int] | None, model: Model) -> tuple[int, ...] | None:
    """The positions of an item that flags say, by themselves or by the size of what is decoded.

    Raises:
        UsageError: where it is none of this modality.
    """
    axes = 2 if model.codec.modality == "image" else 1
    if size is not None and len(size) != axes:
        raise UsageError(
            f"--size: expected {'HxW or a side' if axes == 2 else 'samples'}, got {'x'.join(map(str, size))}"
        )
    positions = model.codec.grid(tuple(size)) if size is not None else None
    if grid is None:
        return positions
    parsed = parse_grid(grid)
    if len(parsed) != axes:
        expected = "HxW, such as 16x16" if axes == 2 else "a number of frames"
        raise UsageError(f"--grid: expected {expected}; got '{grid}'")
    return parsed


def _read_meta(path: pathlib.Path) -> dict[str, Any]:
    """What `tok export` left beside the data; empty where a generator left nothing."""
    file = (path if path.is_dir() else path.parent) / META
    if not file.is_file():
        return {}
    try:
        meta = parse_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MismatchError(f"{file} is damaged: {error}") from error
    is_ours = isinstance(meta, dict) and meta.get("format") == "tok-export/1"
    return meta if is_ours else {}


def _guess_kind(path: pathlib.Path) -> str:
    kind = _find_kind(path)
    if kind is None:
        known = ", ".join(KIND_OF_SUFFIX)
        raise UsageError(f"{path}: cannot tell what format this is; expected {known}, or say --from KIND")
    return kind


def _find_kind(path: pathlib.Path) -> str | None:
    """By the ending of the file, or of the first file in the folder that has one of these."""
    if path.is_file():
        return KIND_OF_SUFFIX.get(path.suffix)
    files = (each for each in path.rglob("*") if each.is_file() and each.suffix != ".safetensors")
    return next((KIND_OF_SUFFIX[file.suffix] for file in files if file.suffix in KIND_OF_SUFFIX), None)


def _read_options(kind: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the export was made with, as far as reading needs them."""
    names = {"webdataset": ("preset", "order"), "npy-tree": ("preset",), "jsonl": ("order", "layout")}
    return {name: meta[name] for name in names.get(kind, ()) if name in meta}
