"""What items are about: labels, captions and other metadata, joined by name, and the numbers of their classes."""

import csv
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tokcli.data.files import ARCHIVES
from tokcli.data.image.views import strip_view
from tokcli.errors import InputError, UsageError
from tokcli.untrusted import check_plain, parse_json

LabelSource = Literal["auto", "about", "folder", "none"]


def read_about(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Metadata by item name, from a CSV file with a header or from lines of JSON.

    A column or key `name` says which item a row is about; the item's name as the token file has it, with or without its
    ending. `label` and `caption` mean what they say; the other columns travel along. Whole numbers in a CSV column
    `label` are numbers of classes, other words are their names.

    Raises:
        InputError: where the file is missing, is neither, or has no names.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; --about wants NAME.csv or NAME.jsonl with a column 'name'")
    try:
        with open(path, encoding="utf-8-sig", newline="") as lines:
            if path.suffix == ".csv":
                rows: list[Any] = list(csv.DictReader(lines))
            else:
                rows = [parse_json(line) for line in lines if line.strip()]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is neither CSV nor lines of JSON: {error}") from error
    about: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows, 1):
        name = row.get("name") if isinstance(row, Mapping) else None
        if not isinstance(name, str) or not name:
            raise InputError(f"{path}: row {number} has no 'name', which says the item that it is about")
        values = {key: value for key, value in row.items() if key not in ("name", None) and value not in ("", None)}
        label = values.get("label")
        if isinstance(label, str) and label.isdecimal():
            values["label"] = int(label)
        try:
            check_plain(values, finite=True)
        except ValueError as error:
            raise InputError(f"{path}: row {number} holds {error}") from error
        about[name] = values
    return about


def find_about(about: Mapping[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """What is known of the item `name`; a name without its view or ending, or its last part, serves as well."""
    name = strip_view(name)
    stem = name.rsplit(".", 1)[0] if "." in name.rsplit("/", 1)[-1] else name
    for key in (name, stem, name.rsplit("/", 1)[-1], stem.rsplit("/", 1)[-1]):
        if key in about:
            return about[key]
    return {}


class AboutItems:
    """What is kept about items beside their tokens.

    Args:
        about: `folder`, a CSV or JSONL file, or None.

    Attributes:
        digest: of all that it says; None where it says nothing of its own.

    Raises:
        InputError: where the file cannot be read.
    """

    def __init__(self, about: str | None) -> None:
        self._by_folder = about == "folder"
        self._known = read_about(pathlib.Path(about)) if about is not None and not self._by_folder else {}
        told = json.dumps([self._by_folder, self._known], sort_keys=True)
        self.digest = hashlib.sha256(told.encode()).hexdigest() if about is not None else None

    def find(self, name: str, said: Mapping[str, Any], lacks: Sequence[str] = ()) -> dict[str, Any]:
        """All that is known of an item.

        Args:
            name: the item's.
            said: by the data itself.
            lacks: what the data says of most items and not of this one; it may be known from elsewhere.

        Raises:
            InputError: where it is not; with the reason but without the name.
        """
        folder = find_folder(name) if self._by_folder else None
        known = {**said, **({"label": folder} if folder is not None else {}), **find_about(self._known, name)}
        missing = [key for key in lacks if key not in known]
        if missing:
            raise InputError(f"it has no {' and no '.join(missing)}, which most others beside it have")
        return known


@dataclass(frozen=True)
class Labels:
    """The classes of a set.

    Attributes:
        count: how many there are; 0 where items have no label.
        classes: their names, by number; empty where labels are mere numbers.
        by_folder: whether the folder of an item is its class.
    """

    count: int
    classes: Sequence[str]
    by_folder: bool = False

    def find_number(self, name: str, about: Mapping[str, Any]) -> int | None:
        """The number of an item's class; None where it has none."""
        label = find_folder(name) if self.by_folder else about.get("label")
        if isinstance(label, bool) or label is None:
            return None
        if isinstance(label, int):
            return label
        return self.classes.index(str(label)) if str(label) in self.classes else None


def find_labels(names: Iterable[str], about: Iterable[Mapping[str, Any]], source: LabelSource) -> Labels:
    """The classes of items with these names and metadata, in one pass.

    Args:
        names: of the items.
        about: their metadata, in the same order.
        source: `about`: the metadata's `label`; `folder`: the folder that an item lies in; `auto`: the first where any
            item has one, else the second where all items lie in several folders; `none`.

    Raises:
        UsageError: where labels are words for some and numbers for others, or not there at all though asked for.
    """
    if source == "none":
        return Labels(0, ())
    folders: set[str] = set()
    words: set[str] = set()
    largest, every_folder = -1, True
    for name, each in zip(names, about, strict=True):
        folder = find_folder(name)
        every_folder &= folder is not None
        folders |= {folder} if folder is not None else set()
        label = each.get("label")
        if isinstance(label, int) and not isinstance(label, bool):
            if label < 0:
                raise UsageError(f"{name} has the label {label}; labels are numbers from 0 on, or words")
            largest = max(largest, label)
        elif label is not None:
            words.add(str(label))
    if words and largest >= 0:
        raise UsageError(
            f"some labels are numbers (up to {largest}) and some are words ({min(words)!r}); make them one"
        )
    if source != "folder" and (words or largest >= 0):
        return Labels(len(words) or largest + 1, tuple(sorted(words)))
    if source == "about":
        raise UsageError("--labels about: no item has a label; join some with --about FILE.csv")
    if source == "folder" or (every_folder and len(folders) > 1):
        if not folders:
            raise UsageError("--labels folder: no item lies in a folder")
        return Labels(len(folders), tuple(sorted(folders)), by_folder=True)
    return Labels(0, ())


def find_folder(name: str) -> str | None:
    """The folder that an item lies in; None where it lies at the top, of an archive too."""
    parts = name.split("/")
    return parts[-2] if len(parts) > 1 and not parts[-2].lower().endswith(tuple(ARCHIVES)) else None
