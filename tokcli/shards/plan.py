"""What a folder of shards is to become: settled once, before the first shard, and the same for every worker."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokcli import __version__, untrusted
from tokcli.contracts import Source
from tokcli.errors import InputError, MismatchError, quote
from tokcli.shards.folder import Folder

PLAN = "plan.json"
FORMAT = "tok-plan/1"

MOST_ITEMS = 10_000
"""Items of a shard of a large set: some megabytes of tokens, a few minutes of a GPU."""

FEWEST_ITEMS = 50
"""Items of a shard of a small set: files for less than this cost more than they save."""

USUAL_SHARDS = 200
"""So many shards share the work well, and a worker that is killed loses half a percent of it."""


@dataclass(frozen=True)
class Plan:
    """What is done, and how it is cut. Equal plans give equal shards.

    Attributes:
        work: what is done to every item: command, tokenizer, settings; plain JSON values.
        inputs: as they were typed, for people.
        items: of all shards.
        shard_items: of each shard but the last.
        marks: of each shard, what becomes another word when its inputs change.
        tok: the version of the program.
    """

    work: Mapping[str, Any]
    inputs: Sequence[str]
    items: int
    shard_items: int
    marks: Sequence[str]
    tok: str = __version__

    @property
    def shards(self) -> int:
        """How many there are."""
        return len(self.marks)

    @cached_property
    def digest(self) -> str:
        """By which a finished shard knows its plan."""
        decisive = {name: value for name, value in self.to_json().items() if name != "inputs"}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def span(self, shard: int) -> range:
        """The items of a shard, by their numbers in the source."""
        return range(shard * self.shard_items, min(self.items, (shard + 1) * self.shard_items))

    def to_json(self) -> dict[str, Any]:
        """Plain values, the format's version first."""
        return {
            "format": FORMAT,
            "tok": self.tok,
            "work": dict(self.work),
            "inputs": list(self.inputs),
            "items": self.items,
            "shard_items": self.shard_items,
            "shards": self.shards,
            "marks": list(self.marks),
        }

    def create(self, folder: Folder) -> bool:
        """Write the plan of a folder, which is made; False where it has one already.

        Raises:
            OSError: where it cannot be written.
        """
        return folder.create(PLAN, json.dumps(self.to_json(), ensure_ascii=False).encode())


def choose_shard_items(items: int) -> int:
    """Items of each shard where nobody says, by how many there are and by nothing else."""
    return min(MOST_ITEMS, max(FEWEST_ITEMS, -(-items // USUAL_SHARDS)))


def make_plan(
    work: Mapping[str, Any],
    inputs: Sequence[str],
    source: Source,
    shard_items: int | None = None,
    items: int | None = None,
) -> Plan:
    """The plan for the items of a source.

    Args:
        work: as a plan has it.
        inputs: as they were typed.
        source: of the items.
        shard_items: of each shard; None chooses by how many items there are, and by nothing else.
        items: only the first so many; None: all.
    """
    items = len(source) if items is None else items
    each = shard_items or choose_shard_items(items)
    marks = [source.mark(range(first, min(items, first + each))) for first in range(0, items, each)]
    return Plan(json.loads(json.dumps(work)), list(inputs), items, each, marks)


def read_plan(folder: Folder) -> Plan:
    """The plan of a folder.

    Raises:
        InputError: where there is none.
        MismatchError: where it is damaged, or of another version of the format.
    """
    path = f"{folder}/{PLAN}"
    if not folder.exists(PLAN):
        raise InputError(f"{folder} has no {PLAN}: nothing was begun there; name the folder that workers write to")
    try:
        values = untrusted.parse_json(folder.read(PLAN, untrusted.LONGEST_JSON))
    except ValueError as error:
        raise MismatchError(f"{path} is damaged ({error}); start over with --force") from error
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise MismatchError(f"{path} has the format {quote(found)}, this version of tok reads {FORMAT}")
    kinds = {"work": dict, "inputs": list, "items": int, "shard_items": int, "marks": list, "tok": str}
    wrong = [name for name, kind in kinds.items() if type(values.get(name)) is not kind]
    if not wrong and not (
        values["shard_items"] > 0
        and len(values["marks"]) == -(-values["items"] // values["shard_items"])
        and all(isinstance(mark, str) for mark in values["marks"])
    ):
        wrong = ["marks"]
    if wrong:
        raise MismatchError(f"{path} is damaged: {wrong[0]} is {quote(values.get(wrong[0]))}; start over with --force")
    return Plan(*(values[name] for name in kinds))


def require_same(folder: Folder, begun: Plan, asked: Plan) -> None:
    """Refuse, with a MismatchError that names the cause, to go on with a plan that is not the one asked for."""
    if begun.digest == asked.digest:
        return
    way_on = "do as then, write to another folder, or start over with --force"
    differing = [name for name in asked.work if begun.work.get(name) != asked.work[name]]
    if begun.tok != asked.tok:
        cause = f"by version {begun.tok} of tok, and this is {asked.tok}"
    elif any("fingerprint" in name for name in differing):
        cause = "with another tokenizer"
    elif differing:
        told = (f"{name} was {quote(begun.work.get(name))} and is {quote(asked.work[name])}" for name in differing)
        cause = "with other settings: " + ", ".join(told)
    elif begun.items != asked.items:
        cause = f"of other items ({begun.items} then, {asked.items} now)"
    elif begun.shard_items != asked.shard_items:
        cause = f"in shards of {begun.shard_items} items, and not of {asked.shard_items}"
    else:
        changed = [shard for shard, mark in enumerate(asked.marks) if mark != begun.marks[shard]]
        raise MismatchError(
            f"{folder}: the inputs have changed since its plan was made, those of {len(changed)} of {begun.shards} "
            f"shards (the first is {changed[0]}): bring them back, or start over with --force"
        )
    raise MismatchError(f"{folder} was begun {cause}; {way_on}")
