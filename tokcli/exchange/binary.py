r"""Flat ids: nanoGPT's `.bin`, and Megatron's `.bin` with an `.idx` beside the same bytes.

nanoGPT maps `train.bin` as uint16 and cuts windows out of it anywhere. Megatron reads documents through `train.idx`:
the magic `MMIDIDX\0\0`, version 1 (u64), a code for the type (u8), the numbers of sequences and of documents (u64
each), the lengths (i32), where each begins in bytes (i64), and the documents' first sequences (i64, beginning with 0).
An item is a document.
"""

import itertools
import pathlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy

from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.exchange.base import (
    ITEMS,
    META,
    ExchangeFormat,
    ExchangeItem,
    Expected,
    TokenSet,
    choose_split,
    concatenate,
    describe_layout,
    name_part,
    read_items,
    write_items,
)
from tokcli.exchange.sequences import Layout, Order, SequenceLayout, check_range
from tokcli.schema import CountOrZero, OpenShare
from tokcli.untrusted import parse_json

MAGIC = b"MMIDIDX\x00\x00"
TYPE_CODES = {"uint16": 8, "uint32": 4}
"""Megatron has no uint32: the bytes of ids below 2^31 are those of its int32, code 4."""

SPLITS = ("train", "val")


class Binary(ExchangeFormat):
    """One flat stream of ids, with what each id means in `meta.json`.

    Args:
        order: in which the positions of a grid are visited: raster, columns, snake or morton.
        layout: how several tokens of a position share the sequence: interleaved or delay.
        offset: ids kept free before the first code.
        bos: the id that begins an item: a number, `auto` (the first free id), or nothing.
        eos: the id that ends an item, likewise.
        label_token: the id of label 0, likewise; the label stands before the first code.
        dtype: of an id; `auto` takes uint16 where all ids fit, else uint32.
        split: the share of items in `train.bin`; the others go to `val.bin`. None: all train.
    """

    summary: ClassVar[str] = "nanoGPT's .bin, Megatron's .bin/.idx"

    def __init__(
        self,
        order: Order = "raster",
        layout: Layout = "interleaved",
        offset: CountOrZero = 0,
        bos: CountOrZero | Literal["auto"] | None = None,
        eos: CountOrZero | Literal["auto"] | None = None,
        label_token: CountOrZero | Literal["auto"] | None = None,
        dtype: Literal["auto", "uint16", "uint32"] = "auto",
        split: OpenShare | None = None,
    ) -> None:
        self.order: Order = order
        self.layout: Layout = layout
        self.offset = offset
        self.bos = bos
        self.eos = eos
        self.label_token = label_token
        self.dtype: Literal["auto", "uint16", "uint32"] = dtype
        self.split = split

    def sequence_layout(self, tokens: TokenSet) -> SequenceLayout:
        """The layout with every `auto` resolved, in the order bos, eos, labels. Raises UsageError where ids collide."""
        plain = SequenceLayout(tokens.codebook_size, tokens.groups, self.order, self.layout, self.offset)
        free = itertools.count(plain.first_free)
        special: dict[str, int | None] = {}
        for name in ("bos", "eos", "label_token"):
            value = getattr(self, name)
            special[name] = next(free) if value == "auto" else value
        self._check_collisions(plain, special, tokens.labels)
        return SequenceLayout(
            tokens.codebook_size,
            tokens.groups,
            self.order,
            self.layout,
            self.offset,
            bos=special["bos"],
            eos=special["eos"],
            label_base=special["label_token"],
        )

    def _check_collisions(self, plain: SequenceLayout, special: dict[str, int | None], labels: int) -> None:
        ranges = {"the codes": range(self.offset, plain.first_free)}
        flags = {"bos": "--bos", "eos": "--eos", "label_token": "--label-token"}
        for name, flag in flags.items():
            start = special[name]
            if start is None:
                continue
            own = range(start, start + (labels if name == "label_token" else 1))
            for other, taken in ranges.items():
                if own.start < taken.stop and taken.start < own.stop:
                    raise UsageError(
                        f"{flag} {start} is also the id of {other} ({taken.start} to {taken.stop - 1}); the first free "
                        f"id is {plain.first_free}, and 'auto' takes it"
                    )
            ranges[flag] = own

    def check(self, tokens: TokenSet) -> None:
        """Labels there where asked for, no two things with one id, and all ids within the type."""
        if self.layout == "parallel" and tokens.groups > 1:
            raise UsageError(
                f"--layout parallel keeps {tokens.groups} tokens side by side, and a .bin is one flat row; "
                "take interleaved or delay"
            )
        if self.label_token is not None and not tokens.labels:
            raise UsageError("--label-token: these tokens have no labels; join some with --about FILE.csv")
        largest = self.vocabulary_size(tokens) - 1
        limit = numpy.iinfo("uint16").max if self.dtype == "uint16" else 2**31 - 1
        if largest > limit:
            raise UsageError(f"--dtype {self.dtype} holds ids up to {limit}, these go up to {largest}; take uint32")

    def vocabulary_size(self, tokens: TokenSet) -> int:
        """Ids that a model of the exported sequences needs."""
        return self.sequence_layout(tokens).vocabulary_size(tokens.labels)

    def stored_type(self, tokens: TokenSet) -> Literal["uint16", "uint32"]:
        """The type of an id in the file."""
        if self.dtype != "auto":
            return self.dtype
        # Megatron itself goes over to four bytes at 65,500 ids; nanoGPT reads two bytes up to 65,536.
        return "uint16" if self.vocabulary_size(tokens) < 65500 else "uint32"

    def write_part(self, items: Sequence[ExchangeItem], tokens: TokenSet, folder: pathlib.Path, part: int) -> None:
        """Ids, lengths and records of each split."""
        layout, dtype = self.sequence_layout(tokens), numpy.dtype(self.stored_type(tokens)).newbyteorder("<")
        for split in SPLITS:
            chosen = [item for item in items if choose_split(item.name, self.split) == split]
            rows = [layout.to_ids(item.tokens, item.label).astype(dtype) for item in chosen]
            stem = f"{name_part(part)}.{split}"
            with open(folder / f"{stem}.bin", "wb") as ids:
                ids.writelines(row.tobytes() for row in rows)
            lengths = numpy.array([len(row) for row in rows], dtype="<i4")
            lengths.tofile(folder / f"{stem}.lengths")
            write_items(chosen, folder / f"{stem}.{ITEMS}")

    def join_parts(self, folder: pathlib.Path, parts: int, tokens: TokenSet, output: pathlib.Path) -> None:
        """`train.bin`, `train.idx`, `train.items.jsonl`, and the same of `val` where items are split."""
        for split in SPLITS if self.split is not None else SPLITS[:1]:
            stems = [f"{name_part(part)}.{split}" for part in range(parts)]
            for suffix in ("bin", ITEMS):
                concatenate((folder / f"{stem}.{suffix}" for stem in stems), output / f"{split}.{suffix}")
            lengths = [folder / f"{stem}.lengths" for stem in stems]
            _write_index(output / f"{split}.idx", lengths, self.stored_type(tokens))

    def describe(self, tokens: TokenSet) -> dict[str, Any]:
        """The ids and what they mean."""
        layout = self.sequence_layout(tokens)
        return {
            **describe_layout(layout),
            "dtype": self.stored_type(tokens),
            "vocabulary_size": layout.vocabulary_size(tokens.labels),
            "ids_per_item": layout.item_length(tokens.grid) if tokens.grid is not None else None,
            "split": self.split,
            "split_rule": "sha256 of the name, first 8 bytes, below the share of 2^64" if self.split else None,
        }

    def read(self, path: pathlib.Path, expected: Expected) -> Iterator[ExchangeItem]:
        """Items of one `.bin` or of a folder with `train.bin`; a generator's need `meta.json` or a grid."""
        files = _find_bin_files(path)
        meta = _read_meta(files[0].with_name(META))
        layout = SequenceLayout(
            expected.codebook_size,
            expected.groups,
            meta.get("order", self.order),
            meta.get("layout", self.layout),
            meta.get("offset", self.offset),
            bos=meta.get("bos", _get_number(self.bos)),
            eos=meta.get("eos", _get_number(self.eos)),
            label_base=meta.get("label_base", _get_number(self.label_token)),
        )
        name = self.dtype if self.dtype != "auto" else _guess_type(files[0], layout.first_free)
        dtype = numpy.dtype(meta.get("dtype", name)).newbyteorder("<")
        known = tuple(meta["grid"]) if meta.get("grid") else None
        number = 0
        for file in files:
            for item in _read_bin(file, layout, dtype, expected.grid or known, number):
                number += 1
                yield item


def _get_number(value: int | str | None) -> int | None:
    return value if isinstance(value, int) else None


def _guess_type(path: pathlib.Path, ids: int) -> Literal["uint16", "uint32"]:
    """The type of a generator's ids: uint32 where there are too many for two bytes, or every other two bytes are 0."""
    if ids > 2**16:
        return "uint32"
    if not path.stat().st_size or path.stat().st_size % 4:
        return "uint16"
    halves = numpy.memmap(path, "<u2", mode="r")
    return "uint32" if not halves[1::2].any() and halves.any() else "uint16"


def _write_index(path: pathlib.Path, lengths: Sequence[pathlib.Path], dtype: str) -> None:
    """Megatron's index. Lengths are streamed, for there may be more items than fit in memory as Python objects."""
    count = sum(file.stat().st_size // 4 for file in lengths)
    size = numpy.dtype(dtype).itemsize
    with open(path, "wb") as index:
        index.write(MAGIC + struct.pack("<QBQQ", 1, TYPE_CODES[dtype], count, count + 1))
        for file in lengths:
            index.write(file.read_bytes())
        start = 0
        for file in lengths:
            own = numpy.frombuffer(file.read_bytes(), "<i4").astype("<i8") * size
            index.write((start + numpy.cumsum(own) - own).astype("<i8").tobytes())
            start += int(own.sum())
        for first in range(0, count + 1, 1 << 20):
            index.write(numpy.arange(first, min(first + (1 << 20), count + 1), dtype="<i8").tobytes())


def _find_bin_files(path: pathlib.Path) -> list[pathlib.Path]:
    if path.is_file():
        return [path]
    files = [path / f"{split}.bin" for split in SPLITS if (path / f"{split}.bin").is_file()]
    if not files:
        raise InputError(f"{path} holds no train.bin; expected a folder that tok export --to bin wrote, or a .bin file")
    return files


def _read_meta(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        meta = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MismatchError(f"{path} is damaged: {error}") from error
    return meta if isinstance(meta, dict) else {}


def _read_bin(
    path: pathlib.Path, layout: SequenceLayout, dtype: numpy.dtype, grid: tuple[int, ...] | None, first: int
) -> Iterator[ExchangeItem]:
    """Items by their records where those lie beside the file, else one behind another on the grid."""
    size = path.stat().st_size
    if not size:  # no item fell into this split
        return
    if size % dtype.itemsize:
        raise MismatchError(f"{path} has {size} bytes, which are no whole number of {dtype.name} ids")
    ids = numpy.memmap(path, dtype, mode="r")
    records = path.with_name(f"{path.stem}.{ITEMS}")
    if records.is_file():
        start = 0
        for entry in read_items(records):
            stop = start + layout.item_length(entry["grid"])
            tokens, label = layout.to_tokens(numpy.asarray(ids[start:stop]), entry["grid"], entry["name"])
            yield ExchangeItem(
                entry["name"], tokens, entry["original_size"], entry["signal_size"], entry.get("about") or {}, label
            )
            start = stop
        if start != len(ids):
            raise MismatchError(f"{path} holds {len(ids)} ids, and {records.name} describes {start}")
        return
    if grid is None:
        raise UsageError(f"{path} does not say how its ids make grids; say it with --grid HxW")
    length = layout.item_length(grid)
    if len(ids) % length:
        raise MismatchError(
            f"{path} holds {len(ids)} ids, which are no whole number of items of {length} ids each; is the grid right?"
        )
    for number in range(len(ids) // length):
        name = f"{first + number:05d}"
        tokens, label = layout.to_tokens(numpy.asarray(ids[number * length : (number + 1) * length]), grid, name)
        check_range(tokens, layout.codebook_size, name)
        yield ExchangeItem(name, tokens, label=label)
