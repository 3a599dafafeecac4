"""WebDataset tars: the files of an item lie one behind another and share their name up to the first dot.

Plain: `KEY.npy` with `.cls`, `.txt`, `.json`. MaskGen reads `KEY.token.npy`, which is a raw float16 buffer without a
header. 4M reads one tar for each modality, aligned by name, with int16 arrays (crops, tokens).
"""

import io
import json
import pathlib
import re
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy

from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.exchange.base import (
    ExchangeFormat,
    ExchangeItem,
    Expected,
    TokenSet,
    choose_split,
    name_part,
)
from tokcli.exchange.sequences import Order, SequenceLayout, check_range
from tokcli.schema import OpenShare
from tokcli.untrusted import parse_json

Preset = Literal["plain", "maskgen", "4m"]

TOKEN_FILES: dict[str, str] = {"plain": "npy", "maskgen": "token.npy", "4m": "npy"}
FLOAT16_EXACT = 2048
"""Integers up to here are exact in float16; larger ones are not, so MaskGen's buffers cannot hold larger codebooks."""


class WebDataset(ExchangeFormat):
    """Tars of items.

    Args:
        preset: plain, maskgen or 4m: how tokens are stored and how files are named.
        order: of the positions, where a preset stores a row: raster, columns, snake or morton.
        split: the share of items in `train`; the others go to `val`. None: no split, tars lie at the top.
        folder: by preset 4m, the modality that names the folder; None: tok_rgb for pictures, tok_audio for sounds.
    """

    summary: ClassVar[str] = "WebDataset tars (.npy .cls .txt .json); MaskGen, 4M by --preset"

    def __init__(
        self,
        preset: Preset = "plain",
        order: Order = "raster",
        split: OpenShare | None = None,
        folder: str | None = None,
    ) -> None:
        self.preset = preset
        self.order: Order = order
        self.split = split
        self.folder = folder

    def check(self, tokens: TokenSet) -> None:
        """Types that hold every code."""
        limits = {"maskgen": FLOAT16_EXACT, "4m": 2**15}
        limit = limits.get(self.preset)
        if limit is not None and tokens.codebook_size > limit:
            raise UsageError(
                f"--preset {self.preset} stores codes up to {limit - 1}, this codebook has {tokens.codebook_size}; "
                "take the plain preset"
            )

    def describe(self, tokens: TokenSet) -> dict[str, Any]:
        """How tokens are stored."""
        return {"preset": self.preset, "order": self.order, "split": self.split}

    def write_part(self, items: Sequence[ExchangeItem], tokens: TokenSet, folder: pathlib.Path, part: int) -> None:
        """A tar for each split that has items."""
        for split in ("train", "val"):
            chosen = [item for item in items if choose_split(item.name, self.split) == split]
            if not chosen:
                continue
            with tarfile.open(folder / f"{name_part(part)}.{split}", "w", format=tarfile.PAX_FORMAT) as tar:
                for item in chosen:
                    for suffix, content in self._make_files(item, tokens).items():
                        member = tarfile.TarInfo(f"{make_key(item.name)}.{suffix}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))

    def _make_files(self, item: ExchangeItem, tokens: TokenSet) -> dict[str, bytes]:
        """The files of an item by suffix, in the order in which they lie in the tar."""
        files = {TOKEN_FILES[self.preset]: self._pack_tokens(item, tokens)}
        if item.label is not None:
            files["cls"] = str(item.label).encode()
        caption = item.about.get("caption")
        if isinstance(caption, str):
            files["txt"] = caption.encode()
        files["json"] = json.dumps(
            item.to_json() | {k: v for k, v in item.about.items() if k != "name"}, ensure_ascii=False
        ).encode()
        return files

    def _pack_tokens(self, item: ExchangeItem, tokens: TokenSet) -> bytes:
        layout = SequenceLayout(tokens.codebook_size, tokens.groups, self.order, "parallel")
        row = layout.order_tokens(item.tokens).reshape(-1)
        if self.preset == "maskgen":
            return row.astype("<f2").tobytes()
        if self.preset == "4m":
            return _pack_npy(row.astype("<i2")[None])
        smallest = "<u2" if tokens.codebook_size <= 2**16 else "<u4"
        whole = item.tokens if tokens.groups > 1 else item.tokens[..., 0]
        return _pack_npy(whole.astype(smallest))

    def join_parts(self, folder: pathlib.Path, parts: int, tokens: TokenSet, output: pathlib.Path) -> None:
        """`shard-000000.tar` and so on; under `train/` and `val/` where items are split, under the modality for 4M."""
        named = self.folder or ("tok_rgb" if tokens.modality == "image" else "tok_audio")
        for split in ("train", "val"):
            files = [path for part in range(parts) if (path := folder / f"{name_part(part)}.{split}").is_file()]
            target = output / (split if self.split is not None else ".") / (named if self.preset == "4m" else ".")
            target.mkdir(parents=True, exist_ok=True)
            width = 5 if self.preset == "4m" else 6
            for number, path in enumerate(files):
                (target / f"shard-{number:0{width}}.tar").hardlink_to(path)

    def read(self, path: pathlib.Path, expected: Expected) -> Iterator[ExchangeItem]:
        """Items of one tar, or of all tars of a folder, ours or a generator's."""
        files = [path] if path.is_file() else sorted(path.rglob("*.tar"))
        if not files:
            raise InputError(f"{path} holds no .tar file")
        number = 0
        for file in files:
            try:
                with tarfile.open(file) as tar:
                    for key, members in _group_members(tar):
                        yield self._item(key, members, number, expected)
                        number += 1
            except tarfile.TarError as error:
                raise MismatchError(f"{file} is not a whole tar: {error}") from error

    def _item(self, key: str, members: dict[str, bytes], number: int, expected: Expected) -> ExchangeItem:
        suffix = next((each for each in ("token.npy", "npy", "tokens.npy") if each in members), None)
        if suffix is None:
            raise MismatchError(f"{key} has no .npy with its tokens (it has: {', '.join(members)})")
        extra = parse_json(members.get("json", b"{}"))
        values = _unpack(members[suffix], key)
        grid = tuple(extra["grid"]) if extra.get("grid") else None
        values = values.reshape(values.shape[1:]) if values.ndim > 1 and len(values) == 1 and grid is None else values
        flat = values.reshape(-1, expected.groups)
        check_range(flat, expected.codebook_size, key)
        shaped = grid or (
            tuple(values.shape) if values.ndim == 2 and expected.groups == 1 else expected.find_grid(len(flat), key)
        )
        is_row = self.preset != "plain" or suffix == "token.npy"
        layout = SequenceLayout(expected.codebook_size, expected.groups, self.order if is_row else "raster", "parallel")
        tokens = layout.restore_order(flat, shaped)
        sizes = {each: tuple(extra[each]) if extra.get(each) else None for each in ("original_size", "signal_size")}
        label = int(members["cls"]) if members.get("cls", b"").isdigit() else extra.get("label")
        return ExchangeItem(extra.get("name") or key, tokens, **sizes, about=extra.get("about") or {}, label=label)


def make_key(name: str) -> str:
    """An item's key: its name without the ending; a dot would end the key, so what dots remain become dashes."""
    stem = re.sub(r"\.[^./]+$", "", name)
    return stem.replace(".", "-")


def _group_members(tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The files of each item by suffix; an item's files lie together."""
    key, members = "", {}
    for member in tar:
        if not member.isfile():
            continue
        folder, _, base = member.name.rpartition("/")
        stem, _, suffix = base.partition(".")
        own = f"{folder}/{stem}" if folder else stem
        if own != key and members:
            yield key, members
            members = {}
        key = own
        file = tar.extractfile(member)
        members[suffix.lower()] = file.read() if file is not None else b""
    if members:
        yield key, members


def _pack_npy(array: numpy.ndarray) -> bytes:
    buffer = io.BytesIO()
    numpy.lib.format.write_array(buffer, numpy.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _unpack(content: bytes, name: str) -> numpy.ndarray:
    """Integers of a .npy file, or of MaskGen's raw float16 buffer."""
    if not content.startswith(b"\x93NUMPY"):
        values = numpy.frombuffer(content[: len(content) // 2 * 2], "<f2")
        if not numpy.isfinite(values).all() or (values != numpy.rint(values)).any():
            raise MismatchError(f"{name}: its tokens are neither a .npy file nor whole numbers in float16")
        return values.astype(numpy.int64)
    try:
        values = numpy.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise MismatchError(f"{name}: its .npy file is damaged: {error}") from error
    if values.dtype.kind not in "iu":
        raise MismatchError(f"{name}: its .npy file holds {values.dtype}, expected integers")
    return values.astype(numpy.int64)
