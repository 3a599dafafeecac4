"""An unfinished token file: tokens appended to one file and what they are to a journal, so that a kill costs seconds.

The tokens of a batch of items reach the disk before the journal's lines about them do. Whatever is cut off, the whole
lines of the journal describe tokens that are there; resuming drops the rest.
"""

import json
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np

from tokcli.data.items import Failure
from tokcli.errors import MismatchError
from tokcli.files import sync
from tokcli.tokens.header import TokenHeader, TokenRecord, record_from_json
from tokcli.untrusted import parse_json

TOKENS, JOURNAL = "tokens.bin", "journal.jsonl"

SECONDS_BETWEEN_COMMITS = 1.0
BYTES_BETWEEN_COMMITS = 2**22


class Spool:
    """The folder of an unfinished token file, and its two files.

    Args:
        folder: which exists.
        header: of the tokens.
        names: of all items that will be added, in order.
        preamble: bytes kept free before the first token, for a header that is known last.

    Attributes:
        folder: of the two files; a format can use it for what it prepares.
        tokens_path: the file of the tokens: the preamble, then item after item, (*grid, groups) in the header's dtype.
        done: items in the journal, failures included.
        written: items with tokens.
        first: the first of these.
    """

    def __init__(self, folder: pathlib.Path, header: TokenHeader, names: Sequence[str], preamble: int) -> None:
        self.folder = folder
        self.tokens_path = folder / TOKENS
        self.journal_path = folder / JOURNAL
        self._header = header
        self._preamble = preamble
        self._pending_tokens: list[bytes] = []
        self._pending_lines: list[bytes] = []
        self._pending_bytes = 0
        self.done = 0
        self.written = 0
        self.first: TokenRecord | None = None
        self._recover(names)
        self._tokens = open(self.tokens_path, "ab", buffering=0)  # noqa: SIM115 (closed by `close`)
        self._journal = open(self.journal_path, "ab", buffering=0)  # noqa: SIM115 (closed by `close`)
        self._committed = time.monotonic()

    def _recover(self, names: Sequence[str]) -> None:
        """Cut both files off behind the last item that is whole in both."""
        for path in (self.tokens_path, self.journal_path):
            path.touch()
        held = self.tokens_path.stat().st_size
        if held < self._preamble:
            self.tokens_path.write_bytes(bytes(self._preamble))
        tokens_end, journal_end = self._preamble, 0
        with open(self.journal_path, "rb") as journal:
            for line in journal:
                entry = self._whole(line)
                if entry is None or self.done == len(names) or entry.item != names[self.done]:
                    break
                size = self.size_of(entry) if isinstance(entry, TokenRecord) else 0
                if tokens_end + size > held:
                    break
                tokens_end += size
                journal_end += len(line)
                self._count(entry)
        os.truncate(self.tokens_path, tokens_end)
        os.truncate(self.journal_path, journal_end)

    def _whole(self, line: bytes) -> TokenRecord | Failure | None:
        if not line.endswith(b"\n"):
            return None
        try:
            return record_from_json(parse_json(line), self.journal_path)
        except (ValueError, TypeError, KeyError, RecursionError, MismatchError):
            return None

    def _count(self, entry: TokenRecord | Failure) -> None:
        self.done += 1
        if isinstance(entry, TokenRecord):
            self.written += 1
            self.first = self.first or entry

    def size_of(self, record: TokenRecord) -> int:
        """The bytes of an item's tokens."""
        return int(np.prod(record.grid)) * self._header.groups * self._header.dtype.itemsize

    def add(self, entry: TokenRecord | Failure, tokens: bytes = b"") -> None:
        """Take the next item; it reaches the disk within about a second of work, or at `commit`."""
        self._pending_tokens.append(tokens)
        plain = entry.to_json() if isinstance(entry, TokenRecord) else asdict(entry)
        self._pending_lines.append(json.dumps(plain, ensure_ascii=False).encode() + b"\n")
        self._pending_bytes += len(tokens)
        self._count(entry)
        waited = time.monotonic() - self._committed
        if waited >= SECONDS_BETWEEN_COMMITS or self._pending_bytes >= BYTES_BETWEEN_COMMITS:
            self.commit()

    def commit(self) -> None:
        """Put everything added so far on the disk, tokens first. Raises OSError where that fails."""
        tokens, lines = b"".join(self._pending_tokens), b"".join(self._pending_lines)
        # Forgotten first: after a full disk, a second try would append them behind the half that was written.
        self._pending_tokens, self._pending_lines, self._pending_bytes = [], [], 0
        for file, content in ((self._tokens, tokens), (self._journal, lines)):
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]
            sync(file)
        self._committed = time.monotonic()

    def entries(self) -> Iterator[TokenRecord | Failure]:
        """Everything committed, in order."""
        with open(self.journal_path, "rb") as journal:
            for line in journal:
                yield record_from_json(parse_json(line), self.journal_path)

    def records(self) -> Iterator[TokenRecord]:
        """The encoded items, in order."""
        return (entry for entry in self.entries() if isinstance(entry, TokenRecord))

    def failures(self) -> list[Failure]:
        """The items that failed, in order."""
        return [entry for entry in self.entries() if isinstance(entry, Failure)]

    @property
    def first_record(self) -> TokenRecord:
        """The first encoded item, of which a spool that is published has one."""
        assert self.first is not None, "nothing was encoded"
        return self.first

    def tokens(self) -> Iterator[np.ndarray]:
        """The tokens (*grid, groups) of the encoded items, in order, read one by one."""
        with open(self.tokens_path, "rb") as file:
            file.seek(self._preamble)
            for record in self.records():
                content = file.read(self.size_of(record))
                if len(content) < self.size_of(record):
                    raise OSError(f"{self.tokens_path} is shorter than its journal says")
                yield np.frombuffer(content, self._header.dtype).reshape(*record.grid, self._header.groups)

    def close(self) -> None:
        """Let go of the files; what was not committed is lost."""
        self._tokens.close()
        self._journal.close()
