"""YAML as people expect it: `1e-4` is a number, and a key written twice is an error.

PyYAML reads the first as a string and lets the second win in silence. A recipe may be a stranger's: it is read with
limits of length, depth and size, and no date, set or other object comes out of it.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml
from yaml.composer import ComposerError

from tokcli.errors import RecipeError
from tokcli.untrusted import DEEPEST, check_plain

LONGEST = 1 << 20
"""Characters. The longest recipe that comes with the program has 4,000."""

MOST_VALUES = 100_000
"""Values with all anchors written out: a few lines of anchors within anchors can stand for more than memory holds."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 floats and limits, and without dates and duplicate keys."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._extents: dict[yaml.Node, tuple[int, int]] = {}
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node, once it is known to be small and shallow enough; an alias counts as what it stands for."""
        is_alias, start = self.check_event(yaml.AliasEvent), self.peek_event().start_mark
        self._depth += 1
        if self._depth > DEEPEST:
            self._refuse(f"more than {DEEPEST} lists and maps within each other", start)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and node not in self._extents:
            self._refuse("an anchor that stands within itself", start)
        if node is not None and not is_alias:
            self._extents[node] = self._measure(node, start)
        return node

    def _measure(self, node: yaml.Node, start: yaml.Mark) -> tuple[int, int]:
        """How many values a node stands for, and how deep they are."""
        if not isinstance(node, yaml.CollectionNode):
            return 1, 0
        inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        size = 1 + sum(self._extents[part][0] for part in inner)
        depth = 1 + max((self._extents[part][1] for part in inner), default=0)
        if size > MOST_VALUES or depth > DEEPEST:
            self._refuse(f"anchors that stand for more than {MOST_VALUES:,} values, or for too deep ones", start)
        return size, depth

    def _refuse(self, problem: str, mark: yaml.Mark) -> None:
        raise ComposerError(None, None, problem, mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, yaml.Mark] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key needs to be a word, not a list or a map", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice, first in line {seen[key].line + 1}", key_node.start_mark
                )
            seen[key] = key_node.start_mark
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


# A date is a word here: no argument takes anything else.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def parse(text: str, name: str) -> Any:
    """The plain value that `text` writes.

    Raises:
        RecipeError: naming `name` and the line, where it is not YAML, too long, too deep or too large, or holds what no
            recipe does.
    """
    if len(text) > LONGEST:
        raise RecipeError(f"{name}: {len(text):,} characters are more than the {LONGEST:,} that are read")
    try:
        value = _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RecipeError(f"{name}{line}: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        character = f"the character {chr(error.character)!a}" if isinstance(error.character, int) else "a byte"
        raise RecipeError(f"{name}: not YAML text: {character} at {error.position} is not allowed in it") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}: not YAML text: {error}") from error
    except Exception as error:
        # What PyYAML makes of a text that it takes for a number, a truth value or a list that is none, is any error.
        raise RecipeError(f"{name}: it holds a value that cannot be read: {error}") from error
    try:
        check_plain(value)
    except ValueError as error:
        raise RecipeError(f"{name}: it holds {error}") from error
    return value


def write(value: Any) -> str:
    """`value` as YAML, in the order it was given."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
