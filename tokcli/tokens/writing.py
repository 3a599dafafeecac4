"""Writing token files: item by item, in order, resumable after any interruption.

Everything goes to the hidden folder `.NAME.partial` beside the output and is renamed when whole. What names to expect
is settled at the start, so that a resumed file equals an uninterrupted one byte for byte.
"""

import contextlib
import hashlib
import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from torch import Tensor

from tokcli.data.items import Failure
from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.files import write_text
from tokcli.locking import Holder, Lock, lock_beside, take
from tokcli.tokens.format import TokenFormat, all_formats, format_of
from tokcli.tokens.header import TokenHeader, TokenRecord
from tokcli.tokens.spool import JOURNAL, TOKENS, Spool
from tokcli.untrusted import parse_json


class TokenWriter:
    """Takes the items in the order of `names`; a context manager that publishes the file when left without error.

    Left by an exception it keeps what was appended, to be resumed. `open_writer` makes one.

    Args:
        path: of the finished file.
        token_format: in which it is written.
        header: what holds for all items.
        names: of all items.
        partial: the folder of the unfinished file.
        lock: on the output, let go of at the end.
    """

    def __init__(
        self,
        path: pathlib.Path,
        token_format: TokenFormat,
        header: TokenHeader,
        names: Sequence[str],
        partial: pathlib.Path,
        lock: Lock,
    ) -> None:
        self.path = path
        self.header = header
        self._format = token_format
        self._names = names
        self._partial = partial
        self._lock = lock
        self._spool = Spool(partial, header, names, preamble=token_format.preamble)

    @property
    def done(self) -> Sequence[str]:
        """The names that need no more work: written by an earlier run or this one, failures included."""
        return self._names[: self._spool.done]

    @property
    def abandoned_by(self) -> Holder | None:
        """Who wrote the file before and ended without a word; None where nobody did."""
        return self._lock.former

    @property
    def written(self) -> int:
        """Items with tokens so far."""
        return self._spool.written

    def append(
        self,
        name: str,
        tokens: Tensor | np.ndarray,
        original_size: Sequence[int],
        signal_size: Sequence[int],
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Add the next item. tokens: (*grid, groups), integers below codebook_size; about: plain JSON values.

        Raises UsageError where the format cannot hold it because its grid differs from the others', ValueError for
        tokens that no such tokenizer gives or a name out of order, OSError where the disk is full.
        """
        self._expect(name)
        values = check_tokens(name, tokens, self.header)
        sizes = tuple(map(int, original_size)), tuple(map(int, signal_size))
        record = TokenRecord(name, values.shape[:-1], *sizes, dict(about or {}))
        first = self._spool.first
        if not self._format.ragged and first is not None and record.grid != first.grid:
            self.discard()
            others = " or to ".join(each.path_for(self.path.stem) for each in all_formats() if each.ragged)
            raise UsageError(
                f"{self.path}: {name} has {_by(record.grid)} tokens and {first.item} has {_by(first.grid)}, but a "
                f"{self._format.suffix} file holds one grid; write to {others}, or give all one --size N"
            )
        self._spool.add(record, values.astype(self.header.dtype).tobytes())

    def fail(self, name: str, reason: str) -> None:
        """Note that the next item cannot be encoded. A resumed encode does not try it again."""
        self._expect(name)
        self._spool.add(Failure(name, reason))

    def _expect(self, name: str) -> None:
        if self._spool.done == len(self._names) or name != self._names[self._spool.done]:
            expected = "no more items" if self._spool.done == len(self._names) else self._names[self._spool.done]
            raise ValueError(f"items are written in order: expected {expected}, got {name}")

    def close(self) -> None:
        """Publish the file.

        Raises ValueError where items are missing, InputError where every one of them failed.
        """
        self._spool.commit()
        self._spool.close()
        if self._spool.done < len(self._names):
            raise ValueError(f"{self.path}: {len(self._names) - self._spool.done} items were never appended")
        if not self._spool.written:
            reasons = self._spool.failures()
            self.discard()
            raise InputError(
                f"none of the {len(reasons)} items could be encoded; the first, {reasons[0].item}: {reasons[0].reason}"
                if reasons
                else "there is nothing to encode"
            )
        self._format.publish(self._spool, self.header, self.path)
        shutil.rmtree(self._partial)
        self._lock.release()

    def discard(self) -> None:
        """Remove what was written so far."""
        self._spool.close()
        shutil.rmtree(self._partial)
        self._lock.release()

    def __enter__(self) -> "TokenWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.close()
            elif self._partial.exists():
                with contextlib.suppress(OSError):  # the error under way says more
                    self._spool.commit()
                self._spool.close()
        finally:
            self._lock.release()


def check_tokens(name: str, tokens: Tensor | np.ndarray, header: TokenHeader) -> np.ndarray:
    """The tokens (*grid, groups) of an item as an array. Raises ValueError for what no such tokenizer gives."""
    values = tokens.detach().cpu().numpy() if isinstance(tokens, Tensor) else tokens
    if values.ndim < 2 or values.shape[-1] != header.groups or not values.size:
        raise ValueError(f"{name}: tokens of shape {values.shape} are not (*grid, {header.groups})")
    low, high = int(values.min()), int(values.max())
    if values.dtype.kind not in "iu" or low < 0 or high >= header.codebook_size:
        raise ValueError(
            f"{name}: tokens of type {values.dtype} from {low} to {high} are not integers below {header.codebook_size}"
        )
    return values


def open_writer(
    path: str | pathlib.Path,
    header: TokenHeader,
    names: Sequence[str],
    *,
    resume: bool = False,
    force: bool = False,
    token_format: TokenFormat | None = None,
    about: str | None = None,
) -> TokenWriter:
    """Start a token file for the items `names`, or go on with an interrupted one.

    Args:
        path: of the finished file.
        header: what holds for all items.
        names: of all items, in the order in which they will be appended.
        resume: take up what an interrupted encode left; without one, start.
        force: overwrite and start over.
        token_format: that accepts `path`; None takes the one that it stands for.
        about: a sum of what will be said about the items, so that a resumed file says one thing; None: nothing.

    Raises:
        UsageError: where something is there already and neither was given, or for a path of no known format.
        MismatchError: where what is to be resumed was begun with another tokenizer, other settings or other items.
        BusyError: where another process writes the same file.
    """
    path = pathlib.Path(path)
    token_format = token_format or format_of(path)
    _check_names(names)
    token_format.check_names(path, names)
    partial = path.with_name(f".{path.name}.partial")
    identity = {
        "form": token_format.name,
        **token_format.settings(),
        "items": len(names),
        "names": hashlib.sha256("\0".join(names).encode()).hexdigest(),
        **header.to_json(),
        "about": about,
    }
    identity = json.loads(json.dumps(identity))  # as it will be read: tuples become lists
    lock = take(lock_beside(path), path)
    try:
        _begin(path, partial, token_format, identity, resume, force)
        return TokenWriter(path, token_format, header, names, partial, lock)
    except BaseException:
        lock.release()
        raise


def _begin(
    path: pathlib.Path,
    partial: pathlib.Path,
    token_format: TokenFormat,
    identity: dict[str, Any],
    resume: bool,
    force: bool,
) -> None:
    """Make the folder of the unfinished file, unless it is taken up. Raises as `open_writer` does."""
    begun = _read_identity(path, partial, force)
    if begun is not None and resume:
        _check_same(path, begun, identity)
    else:
        if begun is not None and not force:
            raise UsageError(
                f"{path}: an earlier encode of {begun.get('items')} items was interrupted; go on with --resume, "
                "or start over with --force"
            )
        token_format.check_free(path, force)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_text(partial / "identity.json", json.dumps(identity))


def _check_names(names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise ValueError("the names of the items are not unique")
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"the file name {name!a} is not valid UTF-8; rename the file") from error


def _read_identity(path: pathlib.Path, partial: pathlib.Path, force: bool) -> dict[str, Any] | None:
    """What an interrupted encode set out to write; None where there is none, or it was stopped before it began.

    Raises MismatchError where that is damaged, unless `force` starts over anyway.
    """
    if (partial / JOURNAL).exists() and not (partial / TOKENS).exists():
        return None  # its tokens were renamed to the finished file, and only the cleaning up was left
    identity = partial / "identity.json"
    if not identity.exists():
        return None
    try:
        begun = parse_json(identity.read_bytes())
    except (OSError, ValueError):
        begun = None
    if not isinstance(begun, dict):
        if force:
            return None
        raise MismatchError(
            f"{path}: what an interrupted encode left cannot be used, {identity} is damaged; start over with --force"
        )
    return begun


def _check_same(path: pathlib.Path, begun: dict[str, Any], identity: dict[str, Any]) -> None:
    differing = [name for name in identity if begun.get(name) != identity[name]]
    if not differing:
        return
    if {"items", "names"} & set(differing):
        cause = f"of other items ({begun.get('items')} then, {identity['items']} now, or other names)"
    elif {"network_fingerprint", "codebook_fingerprint"} & set(differing):
        cause = "with another tokenizer"
    else:
        cause = "with other settings: " + ", ".join(
            f"{name} was {begun.get(name)!r} and is {identity[name]!r}" for name in differing
        )
    raise MismatchError(
        f"{path}: the interrupted encode was begun {cause}; resume it as it was begun, or start over with --force"
    )


def _by(grid: Sequence[int]) -> str:
    return "×".join(map(str, grid))
