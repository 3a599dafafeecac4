"""A .npy file for each item, as LlamaGen, X-Codec2, Amphion and fish-speech read them.

| preset | files | array |
| --- | --- | --- |
| plain | NAME.npy | (*grid[, groups]), smallest unsigned type |
| llamagen | imagenet256_codes/I.npy, imagenet256_labels/I.npy | int64 (1, views, h·w); int64 (1,) |
| xcodec2 | NAME.npy | int32 (frames,) |
| amphion | NAME.npy | int64 (frames, groups) |
| fish-speech | NAME.npy | uint32 (groups, frames) |
"""

import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy

from tokcli.data.image.views import COUNTS, VIEW, Views, strip_view
from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.exchange.arrays import read_arrays
from tokcli.exchange.base import (
    ITEMS,
    ExchangeFormat,
    ExchangeItem,
    Expected,
    TokenSet,
    concatenate,
    name_part,
    read_items,
    write_items,
)
from tokcli.exchange.sequences import check_range, format_grid
from tokcli.schema import Count

PresetName = Literal["plain", "llamagen", "xcodec2", "amphion", "fish-speech"]


@dataclass(frozen=True)
class Preset:
    """How one reader wants its arrays.

    Attributes:
        dtype: of an array; None: the smallest unsigned one.
        arrange: (*grid, groups) -> the array stored.
        restore: the array stored, groups -> (positions, groups).
        one_group: whether it holds a single token a position.
    """

    dtype: str | None
    arrange: Callable[[numpy.ndarray], numpy.ndarray]
    restore: Callable[[numpy.ndarray, int], numpy.ndarray]
    one_group: bool = False


def _drop_single_group(tokens: numpy.ndarray) -> numpy.ndarray:
    return tokens[..., 0] if tokens.shape[-1] == 1 else tokens


PRESETS: dict[PresetName, Preset] = {
    "plain": Preset(None, _drop_single_group, lambda array, groups: array.reshape(-1, groups)),
    "llamagen": Preset("<i8", lambda tokens: tokens.reshape(1, 1, -1), lambda array, _: array.reshape(-1, 1), True),
    "xcodec2": Preset("<i4", lambda tokens: tokens.reshape(-1), lambda array, _: array.reshape(-1, 1), True),
    "amphion": Preset("<i8", lambda tokens: tokens.reshape(-1, tokens.shape[-1]), lambda array, _: array),
    "fish-speech": Preset("<u4", lambda tokens: tokens.reshape(-1, tokens.shape[-1]).T, lambda array, _: array.T),
}


class NpyTree(ExchangeFormat):
    """A tree of .npy files.

    Args:
        preset: whose arrays: plain, llamagen, xcodec2, amphion or fish-speech.
        size: the number in the names of LlamaGen's folders, `imagenet256_codes`.
        views: which views of each item the tokens must hold: flip or ten-crop; None: whichever they hold.
    """

    summary: ClassVar[str] = "a .npy an item: LlamaGen, X-Codec2, Amphion, fish-speech by --preset"

    def __init__(self, preset: PresetName = "plain", size: Count = 256, views: Views | None = None) -> None:
        self.preset: PresetName = preset
        self.size = size
        self.views: Views | None = views

    def check(self, tokens: TokenSet) -> None:
        """One token a position, one grid, labels and views, where the reader counts on them."""
        held = tokens.header.get("preprocessing", {}).get("views")
        if self.views is not None and held != self.views:
            own = f"the views {held}" if held else "one view of each item"
            raise UsageError(
                f"--views {self.views}: these tokens are of {own}; a view has tokens of its own, so "
                f"encode the pictures again: tok encode ... --views {self.views}"
            )
        if PRESETS[self.preset].one_group and tokens.groups > 1:
            raise UsageError(f"--preset {self.preset} keeps one token a position, these have {tokens.groups}")
        if self.preset == "llamagen" and tokens.grid is None:
            raise UsageError("--preset llamagen needs items of one grid; encode with --size N")
        if self.preset == "llamagen" and not tokens.labels:
            raise UsageError(
                "--preset llamagen needs a label for each item; encode a folder of class folders, or join some with "
                "--about FILE.csv"
            )

    def describe(self, tokens: TokenSet) -> dict[str, Any]:
        """Whose arrays these are."""
        return {"preset": self.preset}

    def write_part(self, items: Sequence[ExchangeItem], tokens: TokenSet, folder: pathlib.Path, part: int) -> None:
        """A folder of the part's files, and their records."""
        target = folder / name_part(part)
        target.mkdir(exist_ok=True)
        preset = PRESETS[self.preset]
        dtype = preset.dtype or ("<u2" if tokens.codebook_size <= 2**16 else "<u4")
        for item in items:
            path = target / f"{_make_stem(item.name)}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(path, preset.arrange(item.tokens).astype(dtype))
        write_items(items, folder / f"{name_part(part)}.{ITEMS}")

    def join_parts(self, folder: pathlib.Path, parts: int, tokens: TokenSet, output: pathlib.Path) -> None:
        """All files in one tree, LlamaGen's under running numbers, and `items.jsonl`."""
        if self.preset == "llamagen":
            self._join_llamagen(folder, parts, output)
        else:
            for part in range(parts):
                source = folder / name_part(part)
                for path in sorted(source.rglob("*.npy")):
                    target = output / path.relative_to(source)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.hardlink_to(path)
        concatenate((folder / f"{name_part(part)}.{ITEMS}" for part in range(parts)), output / ITEMS)

    def _join_llamagen(self, folder: pathlib.Path, parts: int, output: pathlib.Path) -> None:
        """`I.npy` by running number, the views of an item, which lie together, in one array."""
        codes, labels = (output / f"imagenet{self.size}_{kind}" for kind in ("codes", "labels"))
        codes.mkdir()
        labels.mkdir()
        number, views, current = 0, [], None
        label = 0
        for part in range(parts):
            for entry in read_items(folder / f"{name_part(part)}.{ITEMS}"):
                name = strip_view(entry["name"])
                if current is not None and name != current:
                    self._check_views(current, len(views))
                    _save(codes / f"{number}.npy", numpy.concatenate(views, axis=1))
                    _save(labels / f"{number}.npy", numpy.array([label]))
                    number, views = number + 1, []
                array = numpy.load(folder / name_part(part) / f"{_make_stem(entry['name'])}.npy", allow_pickle=False)
                views.append(array)
                current, label = name, entry["label"]
        if views:
            self._check_views(str(current), len(views))
            _save(codes / f"{number}.npy", numpy.concatenate(views, axis=1))
            _save(labels / f"{number}.npy", numpy.array([label]))

    def _check_views(self, name: str, count: int) -> None:
        if self.views is not None and count != COUNTS[self.views]:
            raise MismatchError(f"{name} has {count} of {COUNTS[self.views]} views; encode again")

    def read(self, path: pathlib.Path, expected: Expected) -> Iterator[ExchangeItem]:
        """Items of one file of arrays or of a tree of .npy files, by their records where there are some."""
        if path.is_file() and self.preset == "plain":
            yield from read_arrays(path, expected)
            return
        if path.is_file():
            yield from self._read_file(path, path.stem, expected, {})
            return
        records = path / ITEMS
        llamagen = sorted(path.glob("imagenet*_codes"))
        known = list(read_items(records)) if records.is_file() else []
        if llamagen:
            yield from self._read_llamagen(llamagen[0], known, expected)
        elif known:
            for entry in known:
                file = path / f"{_make_stem(entry['name'])}.npy"
                if not file.is_file():
                    raise InputError(f"{file} is missing, and {records} lists it")
                yield from self._read_file(file, entry["name"], expected, entry)
        else:
            files = sorted(path.rglob("*.npy"))
            if not files:
                raise InputError(f"{path} holds no .npy file")
            for file in files:
                yield from self._read_file(file, str(file.relative_to(path).with_suffix("")), expected, {})

    def _read_llamagen(
        self, codes: pathlib.Path, known: list[dict[str, Any]], expected: Expected
    ) -> Iterator[ExchangeItem]:
        reader = NpyTree("llamagen", self.size)
        entries = iter(known)
        for file in sorted(codes.glob("*.npy"), key=lambda each: int(each.stem) if each.stem.isdecimal() else -1):
            array = _load(file)
            labels = codes.with_name(codes.name.replace("_codes", "_labels")) / file.name
            label = int(_load(labels).reshape(-1)[0]) if labels.is_file() else None
            rows = array.reshape(-1, array.shape[-1])
            for view, row in enumerate(rows):
                name = file.stem if len(rows) == 1 else f"{file.stem}#view-{view}"
                entry = next(entries, {}) | ({"label": label} if label is not None else {})
                yield reader._restore(row, str(entry.get("name", name)), expected, entry)

    def _read_file(
        self, file: pathlib.Path, name: str, expected: Expected, entry: dict[str, Any]
    ) -> Iterator[ExchangeItem]:
        array = _load(file)
        if self.preset == "llamagen":
            for view, row in enumerate(array.reshape(-1, array.shape[-1])):
                yield self._restore(row, f"{name}#view-{view}", expected, {})
        else:
            yield self._restore(array, name, expected, entry)

    def _restore(self, array: numpy.ndarray, name: str, expected: Expected, entry: dict[str, Any]) -> ExchangeItem:
        rows = PRESETS[self.preset].restore(array, expected.groups)
        if rows.ndim != 2 or rows.shape[1] != expected.groups:
            raise MismatchError(
                f"{name} holds an array of shape {format_grid(array.shape)}, which preset {self.preset} does not give "
                f"with {expected.groups} tokens a position"
            )
        check_range(rows, expected.codebook_size, name)
        own = array.shape if self.preset == "plain" and expected.groups == 1 and array.ndim == 2 else None
        grid = entry.get("grid") or own or expected.find_grid(len(rows), name)
        tokens = rows.astype(numpy.int64).reshape(*grid, expected.groups)
        return ExchangeItem(
            name,
            tokens,
            entry.get("original_size"),
            entry.get("signal_size"),
            entry.get("about") or {},
            entry.get("label"),
        )


def _make_stem(name: str) -> str:
    """A path below the tree: the name without its ending."""
    match = VIEW.match(name)
    plain, view = (match["name"], f"#view-{match['view']}") if match else (name, "")
    stem = re.sub(r"\.[^./]+$", "", plain) + view
    parts = pathlib.PurePosixPath(stem).parts
    if not parts or parts[0] == "/" or ".." in parts or "\0" in stem:
        raise MismatchError(f"{name!r} is no name of a file below a folder")
    return stem


def _save(path: pathlib.Path, array: numpy.ndarray) -> None:
    numpy.save(path, numpy.ascontiguousarray(array), allow_pickle=False)


def _load(path: pathlib.Path) -> numpy.ndarray:
    try:
        array = numpy.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise MismatchError(f"{path} is not a .npy file of numbers: {error}") from error
    if array.dtype.kind not in "iu" or array.ndim < 1:
        raise MismatchError(f"{path} holds {array.dtype}, expected integers")
    return array
