"""`X.safetensors`: one file with one tensor per item, of any grids, and the header in its metadata."""

import pathlib
from collections.abc import Sequence
from dataclasses import asdict

from tokcli.errors import MismatchError, UsageError
from tokcli.files import move_into_place
from tokcli.tokens.format import TokenFormat
from tokcli.tokens.header import FORMAT, TokenHeader, dump_json, get_file_shape
from tokcli.tokens.reading import TokenReader
from tokcli.tokens.spool import Spool
from tokcli.tokens.stacked import read_shard
from tokcli.tokens.tensors import LARGEST_HEADER, make_words, map_tensors, read_header, write_tensors


class Safetensors(TokenFormat):
    """A tensor (*grid) or, with several tokens per position, (*grid, groups) for each item, under the item's name.

    It also reads a single shard of a folder, where one tensor may hold all items.
    """

    name = "safetensors"
    suffix = ".safetensors"
    usage = "NAME.safetensors (any sizes)"

    def publish(self, spool: Spool, header: TokenHeader, path: pathlib.Path) -> None:
        """Write the file in the spool's folder and move it into place."""
        result = spool.folder / "result.safetensors"
        records = list(spool.records())
        metadata = {
            "format": FORMAT,
            "header": dump_json(header.to_json()).decode(),
            "items": dump_json([record.to_json() for record in records]).decode(),
            "failed": dump_json([asdict(failure) for failure in spool.failures()]).decode(),
        }
        shapes = {record.item: get_file_shape(record, header.groups) for record in records}
        write_tensors(result, make_words(header, metadata, shapes), spool.tokens())
        move_into_place(result, path)

    def open(self, path: pathlib.Path) -> TokenReader:
        """Map the file; each tensor is read when it is asked for."""
        file = map_tensors(path)
        header = read_header(file, path)
        return TokenReader(path, header, *read_shard(file, header, path))

    def has_header(self, path: pathlib.Path) -> bool:
        """Whether its metadata is that of tokens; what cannot be opened is no generator's file either."""
        try:
            metadata = map_tensors(path).metadata() or {}
        except (MismatchError, OSError):
            return True
        return metadata.get("format", "").startswith("tok-tokens/")

    def check_names(self, path: pathlib.Path, names: Sequence[str]) -> None:
        """Each name stands in the header twice, beside about 250 bytes of sizes and offsets."""
        if sum(2 * len(name) + 250 for name in names) > LARGEST_HEADER:
            raise UsageError(f"{path}: {len(names)} items are too many for one .safetensors file; write to a folder")
