"""Families of exchangeable parts: from the `kind` of a recipe's node to the class it names.

A node is `{"kind": "fsq", "levels": [8, 5, 5, 5]}`: `kind` picks the class, every other key is exactly one of its
constructor's arguments. Nothing is written twice: the schema is the signature (see `tokcli.schema`).

`kind` is a short name of the family's table, or `module:Class` for a class of somebody else's. Such a class runs code
that is no part of this project, so it is only imported where that was allowed: for a recipe that the user trains from,
and for modules that the environment variable TOK_ALLOW_IMPORTS lists. An artifact from a stranger imports nothing.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from tokcli.errors import ArgumentError, RecipeError, TokError, quote
from tokcli.schema import already_checked, complete_arguments, find_argument_problems, list_nodes_within
from tokcli.spelling import nearest

T = TypeVar("T")

ALLOW_IMPORTS = "TOK_ALLOW_IMPORTS"
"""The environment variable with the modules, or packages of them, that any recipe may name; separated by commas."""


class CheckedNode(dict[str, Any]):
    """A node in which nothing is wrong, with every argument written out. Building it checks nothing again.

    Attributes:
        constructor: the class that its kind names.
    """

    constructor: type

    def __init__(self, content: Mapping[str, Any], constructor: type) -> None:
        super().__init__(content)
        self.constructor = constructor

    def __reduce__(self) -> tuple[Any, ...]:
        return CheckedNode, (dict(self), self.constructor)


class Registry(Generic[T]):
    """One family of exchangeable parts, by the short name that recipes use.

    Args:
        family: what the parts are, in the singular, for messages.
        table: the classes by their short names.
        contract: the abstract base class that every part inherits from.
    """

    def __init__(self, family: str, table: Mapping[str, type[T]], contract: type[T]) -> None:
        self.family = family
        self.contract = contract
        self._table = dict(table)
        self._imported: dict[str, type[T]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __contains__(self, kind: object) -> bool:
        return kind in self._table or kind in self._imported

    def __getitem__(self, kind: str) -> type[T]:
        """The class of a short name, or of a `module:Class` that a recipe has been allowed to import."""
        return self.find(kind)

    def find(self, kind: str, may_import: bool = False) -> type[T]:
        """The class that `kind` names, imported first where it is a `module:Class` and that is allowed.

        Raises:
            RecipeError: where there is no such class, or where it must not be imported.
        """
        if kind in self._table:
            return self._table[kind]
        if kind in self._imported:
            return self._imported[kind]
        if ":" not in kind:
            raise RecipeError(f"there is no {self.family} {quote(kind)}; {nearest(kind, self._table)}")
        module, _, name = kind.partition(":")
        if not (may_import or import_is_allowed(module)):
            raise RecipeError(
                f"'{kind}' is code outside of tok, which is not run unasked; if you trust the module '{module}', "
                f"allow it: {ALLOW_IMPORTS}={module}"
            )
        imported = import_class(module, name)
        if not issubclass(imported, self.contract):
            contract = f"{self.contract.__module__}.{self.contract.__name__}"
            raise RecipeError(f"'{kind}' is no {self.family}: it does not inherit from {contract}")
        self._imported[kind] = imported
        return imported

    def problems(self, node: Any, path: str, may_import: bool = False) -> list[str]:
        """What is wrong with a recipe's node, before anything is built; empty when nothing is."""
        found = self.check(node, path, may_import)
        return [] if isinstance(found, CheckedNode) else found

    def check(self, node: Any, path: str, may_import: bool = False) -> CheckedNode | list[str]:
        """Read a node of a recipe.

        Args:
            node: plain values.
            path: where it stands in the recipe, for messages.
            may_import: whether a kind `module:Class` may be imported, whatever module it names.

        Returns:
            The node with every default written out, so that what was built from it is built again after a default
            has changed; or else everything that is wrong with it, one sentence each.
        """
        if not isinstance(node, Mapping):
            return [f"{path}: expected a {self.family} with a 'kind', got {quote(node)}"]
        if "kind" not in node:
            return [f"{path}.kind: which {self.family}? one of: {', '.join(self._table)}"]
        kind = node["kind"]
        if not isinstance(kind, str):
            return [f"{path}.kind: expected the name of a {self.family}, got {quote(kind)}"]
        try:
            constructor = self.find(kind, may_import)
        except RecipeError as error:
            return [f"{path}.kind: {error}"]
        given = {str(name): value for name, value in node.items() if name != "kind"}
        problems = find_argument_problems(constructor, given, path, f"'{kind}'")
        for name in list_nodes_within(constructor):
            if isinstance(given.get(name), Mapping):
                within = self.check(given[name], f"{path}.{name}", may_import)
                problems += [] if isinstance(within, CheckedNode) else within
                given[name] = within
        if problems:
            return problems
        return CheckedNode({"kind": kind} | complete_arguments(constructor, given), constructor)

    def build(self, node: Mapping[str, Any], path: str = "") -> T:
        """Construct what the node names.

        Args:
            node: plain values, or a node that was checked when its recipe was read.
            path: where it stands in the recipe, for messages.

        Raises:
            RecipeError: with `path`, for an unknown kind, and for arguments that do not fit.
            TokError: any other that the constructor raises, with `path` before its message.
        """
        path = path or self.family
        checked = node if isinstance(node, CheckedNode) else self.check(node, path)
        if not isinstance(checked, CheckedNode):
            raise RecipeError("\n".join(checked))
        arguments = {name: value for name, value in checked.items() if name != "kind"}
        try:
            with already_checked():
                return checked.constructor(**arguments)
        except ArgumentError as error:
            raise RecipeError(f"{path}: {error}") from error
        except TokError as error:
            raise type(error)(f"{path}: {error}") from error


def import_is_allowed(module: str) -> bool:
    """Whether TOK_ALLOW_IMPORTS lists this module or a package that it lies in."""
    allowed = {entry.strip() for entry in os.environ.get(ALLOW_IMPORTS, "").split(",")} - {""}
    return any(module == entry or module.startswith(f"{entry}.") for entry in allowed)


def import_class(module: str, name: str) -> type:
    """The class `name` of an installed module, or of one in the current folder.

    Raises:
        RecipeError: where there is no such module, or no such class in it.
    """
    if not all(part.isidentifier() for part in module.split(".")):
        raise RecipeError(f"there can be no module called {quote(module)}")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # Last, so that nothing installed is shadowed.
    try:
        content = importlib.import_module(module)
    except ImportError as error:
        raise RecipeError(
            f"the module '{module}' cannot be imported: {error}; install it, or run tok in its folder"
        ) from error
    found = getattr(content, name, None)
    if not inspect.isclass(found):
        classes = [key for key, value in vars(content).items() if inspect.isclass(value) and value.__module__ == module]
        raise RecipeError(f"the module '{module}' has no class '{name}'; {nearest(name, classes)}")
    return found
