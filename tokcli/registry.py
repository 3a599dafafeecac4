"""Closed tables from the `kind` of a recipe node to the class it names, with a schema read off the constructor.

A node is `{"kind": "fsq", "levels": [8, 5, 5, 5]}`: `kind` picks the class, every other key is exactly one of its
constructor arguments. Nothing is written twice: the schema is the signature.
"""

import difflib
import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import pydantic

from tokcli.errors import RecipeError, TokError

T = TypeVar("T")


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint that ends a message about an unknown word: the nearest known one, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"expected one of: {', '.join(known)}" if known else "it takes no arguments"


@functools.cache
def schema_of(constructor: Callable[..., Any]) -> type[pydantic.BaseModel]:
    """A strict pydantic model with one field for each argument of `constructor`; unknown keys are forbidden."""
    function = constructor.__init__ if inspect.isclass(constructor) else constructor
    hints = typing.get_type_hints(function)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(constructor).parameters.items():
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[name] = (hints[name], default)
    return pydantic.create_model(
        getattr(constructor, "__name__", "Node"),
        __config__=pydantic.ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True),
        **fields,
    )


def argument_problems(
    constructor: Callable[..., Any], arguments: Mapping[str, Any], path: str, owner: str
) -> list[str]:
    """What is wrong with `arguments` for `constructor`, one sentence each, with its path in the recipe.

    owner: how the message calls the thing that is built, as `'vq'` or `training`.
    """
    schema = schema_of(constructor)
    try:
        schema.model_validate(dict(arguments))
    except pydantic.ValidationError as error:
        return _sentences(error.errors(), path, owner, schema)
    return []


def _sentences(found: Iterable[Any], path: str, owner: str, schema: type[pydantic.BaseModel]) -> list[str]:
    """One sentence for each argument. A union gives an error for each of its types; they become alternatives."""
    by_place: dict[str, list[str]] = {}
    for problem in found:
        field, *within = problem["loc"]
        # Behind the field stand indices and keys, and the names of the types that a union tried.
        parts = [path, field, *(part for part in within if isinstance(part, int))]
        place = ".".join(str(part) for part in parts if part != "")
        by_place.setdefault(place, []).append(_complaint(problem, owner, schema))
    return [f"{place}: {', or '.join(dict.fromkeys(complaints))}" for place, complaints in by_place.items()]


def _complaint(problem: Any, owner: str, schema: type[pydantic.BaseModel]) -> str:
    if problem["type"] == "extra_forbidden":
        return f"{owner} takes no such argument; {nearest(str(problem['loc'][-1]), schema.model_fields)}"
    if problem["type"] == "missing":
        return f"{owner} needs this argument"
    return f"{problem['msg'][0].lower()}{problem['msg'][1:]}, got {problem['input']!r}"


class Registry(Generic[T]):
    """One family of exchangeable parts, by the short name that recipes use.

    family: what the parts are, in the singular, for messages.
    """

    def __init__(self, family: str, table: Mapping[str, type[T]]) -> None:
        self.family = family
        self._table = dict(table)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __contains__(self, kind: object) -> bool:
        return kind in self._table

    def __getitem__(self, kind: str) -> type[T]:
        if kind not in self._table:
            raise RecipeError(f"there is no {self.family} '{kind}'; {nearest(kind, self._table)}")
        return self._table[kind]

    def problems(self, node: Any, path: str) -> list[str]:
        """What is wrong with a recipe node, before anything is built; empty when nothing is."""
        if not isinstance(node, Mapping):
            return [f"{path}: expected a {self.family} with a 'kind', got {node!r}"]
        if "kind" not in node:
            return [f"{path}.kind: which {self.family}? one of: {', '.join(self._table)}"]
        kind = node["kind"]
        if kind not in self._table:
            return [f"{path}.kind: there is no {self.family} '{kind}'; {nearest(str(kind), self._table)}"]
        return argument_problems(self._table[kind], arguments_of(node), path, f"'{kind}'")

    def resolved(self, node: Mapping[str, Any]) -> dict[str, Any]:
        """A node without problems, with every argument written out that it leaves to its default.

        What was built from it is then built again after a default has changed.
        """
        fields = schema_of(self._table[node["kind"]]).model_fields
        return {"kind": node["kind"]} | {
            name: node[name] if name in node else field.get_default() for name, field in fields.items()
        }

    def build(self, node: Mapping[str, Any], path: str = "") -> T:
        """Construct what the node names.

        Raises RecipeError, with `path`, for an unknown kind, an argument that does not fit, or one that the
        constructor refuses.
        """
        found = self.problems(node, path or self.family)
        if found:
            raise RecipeError("; ".join(found))
        try:
            return self._table[node["kind"]](**arguments_of(node))
        except ValueError as error:
            raise RecipeError(f"{path or self.family}: {error}") from error
        except RecipeError:
            raise
        except TokError as error:
            raise type(error)(f"{path or self.family}: {error}") from error


def arguments_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """The node without its `kind`."""
    return {name: value for name, value in node.items() if name != "kind"}
