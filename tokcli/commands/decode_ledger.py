"""Which files an unfinished `tok decode` has written: a hidden list in its folder, which goes when all are there.

Every file appears whole, and its line is written behind it. So what the list names need not be decoded again, and the
one file that a kill caught between the two is.
"""

import json
import pathlib
from collections.abc import Mapping, Set

from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.files import read_text, write_text
from tokcli.untrusted import parse_json

NAME = ".decode.jsonl"

LARGEST = 1 << 30
"""Bytes of a list that are read."""


class DecodeLedger:
    """The list of one folder, under the folder's lock.

    Args:
        folder: That is decoded into.
        identity: Of the tokens and of what is made of them; another identity is another decode.
        outputs: By item the file that it becomes, relative to the folder.
        resume: Take up what an interrupted decode left; without one, start.
        force: Overwrite what is there, and start over.

    Attributes:
        done: Items whose files are there.

    Raises:
        UsageError: Something is in the way and neither was given.
        MismatchError: What is to be resumed was begun with other tokens, or as another kind of file.
    """

    def __init__(
        self, folder: pathlib.Path, identity: str, outputs: Mapping[str, str], *, resume: bool, force: bool
    ) -> None:
        self._path = folder / NAME
        self.done: Set[str] = set()
        begun, listed = self._read()
        if begun is not None and resume:
            if begun != identity:
                raise MismatchError(
                    f"{folder}: the interrupted decode was of other tokens, or made another kind of file; resume it as "
                    "it was begun, or start over with --force"
                )
            self.done = {item for item in outputs if item in listed and (folder / outputs[item]).is_file()}
        elif listed and not force:
            raise UsageError(
                f"{folder}: an earlier decode was interrupted after {len(listed)} files; go on with --resume, or start "
                "over with --force"
            )
        else:
            if not force:
                _check_free(folder, outputs)
            write_text(self._path, json.dumps({"identity": identity}) + "\n")
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 (closed by `close` and `finish`)

    def _read(self) -> tuple[str | None, Set[str]]:
        """The identity of an interrupted decode, and the items it lists; None where there is none that can be used."""
        listed: set[str] = set()
        identity = None
        try:
            first, *lines = read_text(self._path, LARGEST).splitlines() or [""]
            identity = str(parse_json(first)["identity"])
            for line in lines:
                item = parse_json(line)
                if not isinstance(item, str):
                    break
                listed.add(item)
        except (InputError, ValueError, TypeError, LookupError):
            pass  # nothing there, or cut off: what follows is decoded again
        return identity, listed

    def add(self, item: str) -> None:
        """The file of `item` is there."""
        self._file.write(json.dumps(item).encode() + b"\n")

    def close(self) -> None:
        """Leave the list, to go on from."""
        self._file.close()

    def finish(self) -> None:
        """All files are there."""
        self.close()
        self._path.unlink(missing_ok=True)


def _check_free(folder: pathlib.Path, outputs: Mapping[str, str]) -> None:
    there = [name for name in outputs.values() if (folder / name).exists()]
    if there:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise UsageError(f"{folder / there[0]}{more} would be overwritten; --force does, -o FOLDER goes elsewhere")
