"""`X.npy`, one array of all items, and `X.npy.json` beside it: what numpy maps and any program reads.

The spool's tokens become the file itself, without a copy, behind a header of a fixed width that is written last.
"""

import pathlib
import struct
from dataclasses import asdict
from typing import BinaryIO

import numpy as np

from tokcli.errors import MismatchError
from tokcli.files import move_into_place, read_bytes, sync
from tokcli.tokens.format import TokenFormat
from tokcli.tokens.header import TokenHeader, dump_json, get_file_shape, parse_json, read_entries
from tokcli.tokens.reading import TokenReader
from tokcli.tokens.spool import Spool
from tokcli.untrusted import LONGEST_JSON


class Npy(TokenFormat):
    """All items in one array (items, *grid) or, with several tokens per position, (items, *grid, groups)."""

    name = "npy"
    suffix = ".npy"
    usage = "NAME.npy (all items of one size)"
    ragged = False
    preamble = 128

    def publish(self, spool: Spool, header: TokenHeader, path: pathlib.Path) -> None:
        """Turn the spool itself into `path`, with its sidecar."""
        shape = (spool.written, *get_file_shape(spool.first_record, header.groups))
        with open(spool.tokens_path, "r+b") as file:
            file.write(_npy_header(header, shape, self.preamble))
            sync(file)
        sidecar = spool.folder / "sidecar.json"
        with open(sidecar, "wb") as file:
            _write_sidecar(file, spool, header)
            sync(file)
        # The tokens make the file look finished, so they come last, and never beside the sidecar of an older file.
        path.unlink(missing_ok=True)
        move_into_place(sidecar, find_sidecar(path))
        move_into_place(spool.tokens_path, path)

    def open(self, path: pathlib.Path) -> TokenReader:
        """Map the array. Objects, which alone would need unpickling, are refused."""
        sidecar = find_sidecar(path)
        if not sidecar.is_file():
            raise MismatchError(f"{path} has no header: {sidecar.name}, which tok encode writes beside it, is missing")
        about = parse_json(read_bytes(sidecar, LONGEST_JSON), sidecar)
        header = TokenHeader.from_json(about, sidecar)
        records, failed = read_entries([about.get("items"), about.get("failed")], sidecar)
        array = map_array(path)
        size = path.stat().st_size
        if array.ndim == 0 or len(array) != len(records) or size != array.offset + array.nbytes:
            raise MismatchError(
                f"{path} is of shape {list(array.shape)} and {size} bytes, which is not what "
                f"{sidecar.name} describes ({len(records)} items); they belong to different encodes, or one is damaged"
            )
        return TokenReader(path, header, records, failed, lambda index: np.asarray(array[index]))

    def has_header(self, path: pathlib.Path) -> bool:
        """Whether the JSON lies beside it."""
        return find_sidecar(path).exists()


def map_array(path: pathlib.Path) -> np.memmap:
    """The array of a .npy file, mapped and not read.

    Raises:
        MismatchError: where it is no such file, or one of objects, which alone would need unpickling.
        OSError: where it cannot be read.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:
        # numpy reads the header as Python text, and what that raises on a damaged one may be anything.
        reason = str(error) or type(error).__name__
        raise MismatchError(f"{path} is not a whole .npy file of numbers ({reason}); encode again") from error


def find_sidecar(path: pathlib.Path) -> pathlib.Path:
    """Where the header of a .npy file lies."""
    return path.with_name(path.name + ".json")


def _npy_header(header: TokenHeader, shape: tuple[int, ...], width: int) -> bytes:
    """The header of the .npy format, version 1.0, padded with spaces to `width` bytes."""
    words = f"{{'descr': '{header.dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
    length = width - 10
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + words.ljust(length - 1).encode("ascii") + b"\n"


def _write_sidecar(file: BinaryIO, spool: Spool, header: TokenHeader) -> None:
    """One JSON object with one line per item, written as the journal is read."""
    about = {**header.to_json(), "dtype": header.dtype.name, "grid": spool.first_record.grid}
    file.write(dump_json(about)[:-1] + b',\n"failed": ' + dump_json([asdict(failure) for failure in spool.failures()]))
    file.write(b',\n"items": [')
    for index, record in enumerate(spool.records()):
        file.write((b",\n" if index else b"\n") + dump_json(record.to_json()))
    file.write(b"\n]}\n")
