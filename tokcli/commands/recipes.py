"""`tok recipes`: the shipped recipes and sweeps, listed, shown and copied."""

import pathlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from tokcli.errors import UsageError
from tokcli.files import try_output, write_text
from tokcli.recipe.shipped import BENCHES, SWEEPS, Shipped, list_shipped, list_shipped_sweeps, read_guide, read_shipped

if TYPE_CHECKING:
    from tokcli.recipe.explanation import Explanation


@dataclass(frozen=True)
class Listing:
    """What is shipped.

    Attributes:
        kinds: Recipes, sweeps and benches, or some of these.
        whole: Whether every one is to be shown with its facts.
    """

    kinds: dict[str, list[Shipped]]
    whole: bool = False

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            kind: [{"name": entry.name, "summary": entry.summary} for entry in entries]
            for kind, entries in self.kinds.items()
        }


@dataclass(frozen=True)
class Explained:
    """What can stand at a place of a recipe.

    Attributes:
        section: That was asked for; None: every place.
        kind: Of the part.
        entries: What was found.
    """

    section: str | None
    kind: str | None
    entries: "Sequence[Explanation]"

    def to_json(self) -> list[dict[str, Any]]:
        """The list that `--json` prints."""
        return [asdict(entry) for entry in self.entries]


@dataclass(frozen=True)
class Text:
    """A recipe or sweep to read."""

    shipped: Shipped

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {"name": self.shipped.name, "text": self.shipped.text}


@dataclass(frozen=True)
class Copy:
    """An editable copy of a recipe or sweep.

    Attributes:
        output: The file.
        verb: What runs it: train or sweep.
    """

    output: pathlib.Path
    verb: str

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {"output": str(self.output)}


def recipes(
    action: Literal["list", "show", "copy", "explain"] = "list",
    name: str | None = None,
    kind: str | None = None,
    *,
    output: str | None = None,
    force: bool = False,
) -> "Listing | Text | Copy | Explained":
    """List the shipped recipes and sweeps, show or copy one, or explain what can stand in a recipe.

    Args:
        action: What to do.
        name: Of a recipe or a sweep. Of a listing: `image`, `audio` or `sweeps` alone. Of an explanation: a place in a
            recipe, as `quantizer`, or a key, as `training.steps`; None: all places.
        kind: Of the part that is explained.
        output: Where a copy goes; None is NAME.yaml here.
        force: Overwrite what is there.

    Raises:
        UsageError: Without the name that showing and copying need, or where a file is in the way.
        InputError: Where nothing has that name.
    """
    if action == "explain":
        return _explain(name, kind)
    if kind is not None:
        raise UsageError(f"tok recipes {action} takes one name, got '{name}' and '{kind}'")
    if action == "list" and name is not None:
        return _list_some(name)
    if action == "list":
        return Listing({"recipes": [read_shipped(each) for each in list_shipped()], **list_sweeps().kinds})
    if name is None:
        raise UsageError(f"tok recipes {action} needs the name of a recipe; tok recipes lists them")
    is_sweep = name in list_shipped_sweeps()
    found = read_shipped(name, SWEEPS if is_sweep else "")
    if action == "show":
        return Text(found)
    path = pathlib.Path(output or f"{name}.yaml")
    try_output(path)
    if path.exists() and not force:
        raise UsageError(f"{path} exists; --force overwrites it, -o FILE copies elsewhere")
    write_text(path, found.text)
    return Copy(path, "sweep" if is_sweep else "train")


def _list_some(name: str) -> Listing:
    """The recipes of one modality, or the sweeps. Raises UsageError for another word."""
    if name == "sweeps":
        return list_sweeps()
    if name not in ("image", "audio"):
        raise UsageError(
            f"tok recipes list takes image, audio or sweeps, got '{name}'; tok recipes show {name} reads it"
        )
    entries = [read_shipped(each) for each in list_shipped()]
    return Listing({"recipes": [entry for entry in entries if read_guide(entry).modality == name]}, whole=True)


def _explain(section: str | None, kind: str | None) -> "Explained":
    from tokcli.recipe.explanation import explain  # torch comes with the parts, and a listing needs none

    return Explained(section, kind, explain(section, kind))


def list_sweeps() -> Listing:
    """The shipped sweeps alone, and the benches, which train nothing."""
    return Listing({kind: [read_shipped(name, kind) for name in list_shipped(kind)] for kind in (SWEEPS, BENCHES)})
