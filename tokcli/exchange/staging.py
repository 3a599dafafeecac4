"""An export in the making: parts, a ledger of those that are whole, and the output only when all are.

Everything lies in the hidden folder `.NAME.partial` beside the output. A part is a pure function of the items and the
options, so one that was cut off is simply written again, and a resumed export equals an uninterrupted one.
"""

import json
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from tokcli.errors import MismatchError, UsageError
from tokcli.files import move_into_place, sync_all, write_text
from tokcli.untrusted import parse_json

LEDGER = "ledger.json"


class Staging:
    """The parts of one export.

    Args:
        output: where the whole will be.
        identity: what the export is of and how, plain JSON values; another identity is another export.
        resume: take up what an interrupted export left.
        force: overwrite what is at `output`, and start over.

    Raises:
        UsageError: where something is in the way and neither was given.
        MismatchError: where what is to be resumed was begun with other items or options.
    """

    def __init__(self, output: pathlib.Path, identity: Mapping[str, Any], *, resume: bool, force: bool) -> None:
        self.output = output
        self.folder = output.with_name(f".{output.name}.partial")
        self.parts = self.folder / "parts"
        self._identity = json.loads(json.dumps(identity))
        self.done: list[dict[str, Any]] = []
        if output.exists() and not force:
            raise UsageError(f"{output} exists already; overwrite it with --force, or choose another name")
        begun = self._begun()
        if begun is not None and resume:
            self._check_same(begun["identity"])
            self.done = begun["done"]
        elif begun is not None and not force:
            raise UsageError(
                f"{output}: an earlier export was interrupted; go on with --resume, or start over with --force"
            )
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.parts.mkdir(parents=True, exist_ok=True)
        self._save()

    def _begun(self) -> dict[str, Any] | None:
        try:
            begun = parse_json((self.folder / LEDGER).read_text(encoding="utf-8"))
            return begun if isinstance(begun["identity"], dict) and isinstance(begun["done"], list) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # nothing there, or stopped before the first part

    def _check_same(self, begun: Mapping[str, Any]) -> None:
        differing = [name for name in self._identity if begun.get(name) != self._identity[name]]
        if differing:
            raise MismatchError(
                f"{self.output}: the interrupted export was begun with another {', '.join(differing)}; resume it as it "
                "was begun, or start over with --force"
            )

    def finish_part(self, facts: Mapping[str, Any]) -> None:
        """Note that the next part is whole. facts: of it, plain JSON values, for the summary."""
        self.done.append(dict(facts))
        self._save()

    def _save(self) -> None:
        write_text(self.folder / LEDGER, json.dumps({"identity": self._identity, "done": self.done}))

    def publish(self, join: Callable[[pathlib.Path], None], single_file: str | None) -> None:
        """Make the output of the parts and put it in its place.

        Args:
            join: fills an empty folder with the files of the whole set.
            single_file: the suffix of the one file that the output is; None where it is a folder.

        Raises:
            UsageError: where one file was asked for, and there are several.
        """
        whole = self.folder / "whole"
        shutil.rmtree(whole, ignore_errors=True)
        whole.mkdir()
        join(whole)
        result = whole
        if single_file is not None:
            files = [path for path in whole.iterdir() if path.suffix == single_file]
            if len(files) != 1:
                raise UsageError(
                    f"{self.output} is one file, and the export makes {len(files)}; name a folder, or leave out --split"
                )
            result = files[0]
        sync_all(result)
        if self.output.is_dir() and not self.output.is_symlink():
            shutil.rmtree(self.output)
        move_into_place(result, self.output)
        shutil.rmtree(self.folder)
