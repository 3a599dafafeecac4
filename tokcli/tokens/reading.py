"""Reading a token file of any format: lazily, and refusing with a reason what cannot be trusted."""

import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from tokcli.data.items import Failure
from tokcli.errors import MismatchError, UsageError
from tokcli.tokens.header import TokenHeader, TokenItem, TokenRecord, get_file_shape


class TokenReader:
    """The items of a token file, in the order they were encoded; tokens are read when they are asked for.

    Args:
        path: of the file, for messages.
        header: what holds for all items.
        records: what holds for each.
        failed: items that could not be encoded.
        fetch: reads the tokens of item `index` as the file has them, (*grid) where there is one per position, else
            (*grid, groups).

    Raises:
        MismatchError: where there is no item.
    """

    def __init__(
        self,
        path: pathlib.Path,
        header: TokenHeader,
        records: Sequence[TokenRecord],
        failed: Sequence[Failure],
        fetch: Callable[[int], np.ndarray],
    ) -> None:
        if not records:
            raise MismatchError(f"{path} holds no items")
        self.path = path
        self.header = header
        self.records = records
        self.failed = failed
        self._fetch = fetch

    @property
    def grid(self) -> tuple[int, ...] | None:
        """The positions of an item; None where items differ."""
        grids = {record.grid for record in self.records}
        return grids.pop() if len(grids) == 1 else None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> TokenItem:
        """Item `index`. Raises MismatchError, naming it, where its tokens are not what the header promises."""
        record = self.records[index]
        stored = self._stored(index)
        tokens = torch.from_numpy(stored.astype(np.int64)).reshape(*record.grid, self.header.groups)
        return TokenItem(record.item, tokens, record.original_size, record.signal_size, record.about)

    def __iter__(self) -> Iterator[TokenItem]:
        return (self[index] for index in range(len(self)))

    def array(self) -> np.ndarray:
        """All tokens, (items, *grid, groups), in the type they are stored in.

        Raises UsageError where items differ in grid, MismatchError as items do.
        """
        if self.grid is None:
            raise UsageError(f"{self.path}: its items differ in grid, so they do not make one array; read them in turn")
        shape = (*self.grid, self.header.groups)
        whole = np.empty((len(self), *shape), self.header.dtype)
        for index in range(len(self)):
            whole[index] = self._stored(index).reshape(shape)
        return whole

    def _stored(self, index: int) -> np.ndarray:
        """The tokens of an item as the file has them, checked."""
        record, stored = self.records[index], self._fetch(index)
        expected = get_file_shape(record, self.header.groups)
        if stored.shape != expected or stored.dtype != self.header.dtype:
            raise MismatchError(
                f"{self.path}: {record.item} holds {stored.dtype} {list(stored.shape)}, "
                f"its header promises {self.header.dtype} {list(expected)}"
            )
        largest = int(stored.max())
        if largest >= self.header.codebook_size:
            raise MismatchError(
                f"{self.path}: {record.item} holds the token {largest}, but the codebook has "
                f"{self.header.codebook_size} codes (0 to {self.header.codebook_size - 1})"
            )
        return stored
