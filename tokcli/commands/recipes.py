"""`tok recipes`: the shipped recipes and sweeps, listed, shown and copied."""

import pathlib
from dataclasses import dataclass
from typing import Any, Literal

from tokcli.errors import UsageError
from tokcli.files import try_output, write_text
from tokcli.recipe.shipped import SWEEPS, Shipped, list_shipped, read_shipped


@dataclass(frozen=True)
class Listing:
    """What is shipped, by kind: recipes, sweeps, or both."""

    kinds: dict[str, list[Shipped]]

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            kind: [{"name": entry.name, "summary": entry.summary} for entry in entries]
            for kind, entries in self.kinds.items()
        }


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
    action: Literal["list", "show", "copy"] = "list",
    name: str | None = None,
    *,
    output: str | None = None,
    force: bool = False,
) -> Listing | Text | Copy:
    """List the shipped recipes and sweeps, or show or copy one.

    Args:
        action: What to do.
        name: Of a recipe or a sweep; listing needs none.
        output: Where a copy goes; None is NAME.yaml here.
        force: Overwrite what is there.

    Raises:
        UsageError: Without the name that showing and copying need, or where a file is in the way.
        InputError: Where nothing has that name.
    """
    if action == "list":
        return Listing({"recipes": [read_shipped(each) for each in list_shipped()], **list_sweeps().kinds})
    if name is None:
        raise UsageError(f"tok recipes {action} needs the name of a recipe; tok recipes lists them")
    is_sweep = name in list_shipped(SWEEPS)
    found = read_shipped(name, SWEEPS if is_sweep else "")
    if action == "show":
        return Text(found)
    path = pathlib.Path(output or f"{name}.yaml")
    try_output(path)
    if path.exists() and not force:
        raise UsageError(f"{path} exists; --force overwrites it, -o FILE copies elsewhere")
    write_text(path, found.text)
    return Copy(path, "sweep" if is_sweep else "train")


def list_sweeps() -> Listing:
    """The shipped sweeps alone."""
    return Listing({"sweeps": [read_shipped(name, SWEEPS) for name in list_shipped(SWEEPS)]})
