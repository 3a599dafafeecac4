"""What a constructor takes, read off its signature: types, ranges, and everything that is wrong with a call at once.

A range is written once, in the signature, as an annotated type of this file:

    def __init__(self, dim: Count, commitment: NotNegative = 0.25, decay: OpenShare = 0.99) -> None:

A class that inherits from `CheckedArguments` (every part of a recipe does, see `tokcli.contracts`) has its arguments
checked before its constructor runs. What one annotation cannot say, a rule between two arguments, the constructor
checks itself, and raises `ArgumentError`. A recipe is checked by the same annotations before anything is built.
"""

import contextlib
import contextvars
import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Self

import pydantic
from pydantic import Field

from tokcli.errors import ArgumentError, quote
from tokcli.spelling import nearest

Finite = Annotated[float, Field(allow_inf_nan=False)]
"""Any number but infinity and NaN, as are all that follow."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""0 to 1, both included: a probability, a fraction."""
PositiveShare = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
OpenShare = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
"""Between 0 and 1, neither included: what a moving average keeps."""
Momentum = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
"""0 to 1, without 1: a β of Adam."""

Count = Annotated[int, Field(ge=1)]
"""A whole number of at least 1: channels, steps, samples."""
CountOrZero = Annotated[int, Field(ge=0)]
Codes = Annotated[int, Field(ge=2)]
"""The size of a codebook, or the levels of a dimension: one code says nothing."""
LEAST_EVENNESS, MOST_EVENNESS = -3.0, 1.0
Evenness = Annotated[float, Field(ge=LEAST_EVENNESS, le=MOST_EVENNESS)]
"""How evenly a codebook that is built will be used; 0 asks for the least error."""
Counts = Annotated[Sequence[Count], Field(min_length=1)]
"""One or more counts. Its default in a signature is a tuple, which nobody can change; recipes write lists."""

NOT_WRITTEN = "not written where it has its default"
"""Marks an argument that came later: recipes that do not name it stay word for word what they were."""
WITHIN = "a node of the same family"
"""Marks an argument that names another part of the part's own family, as a recipe does: its kind and arguments."""
NodeWithin = Annotated[Mapping[str, Any], WITHIN]
LocalFile = Annotated[str | None, NOT_WRITTEN]
"""A file on this machine in the place of what would be fetched."""


@functools.cache
def read_signature(constructor: Callable[..., Any]) -> inspect.Signature:
    """The signature of a class's constructor or of a function; kept, for reading it takes longer than a check."""
    return inspect.signature(constructor)


@functools.cache
def read_schema(constructor: Callable[..., Any]) -> type[pydantic.BaseModel]:
    """A strict pydantic model with one field for each argument of `constructor`; unknown keys are forbidden."""
    function = constructor.__init__ if inspect.isclass(constructor) else constructor
    hints = typing.get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in read_signature(constructor).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), default)
    return pydantic.create_model(
        getattr(constructor, "__name__", "Arguments"),
        __config__=pydantic.ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True),
        **fields,
    )


def complete_arguments(constructor: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments `given` and the defaults of all others, in the order of the signature, as a recipe writes them."""
    complete = {}
    hints = typing.get_type_hints(
        constructor.__init__ if inspect.isclass(constructor) else constructor, include_extras=True
    )
    for name, parameter in read_signature(constructor).parameters.items():
        came_later = NOT_WRITTEN in getattr(hints.get(name), "__metadata__", ())
        if came_later and given.get(name, parameter.default) == parameter.default:
            continue
        if name in given:
            complete[name] = given[name]
        elif parameter.default is not parameter.empty:
            complete[name] = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
    return complete


def list_nodes_within(constructor: Callable[..., Any]) -> list[str]:
    """The arguments of `constructor` that name parts of its own family."""
    function = constructor.__init__ if inspect.isclass(constructor) else constructor
    hints = typing.get_type_hints(function, include_extras=True)
    return [name for name, hint in hints.items() if WITHIN in getattr(hint, "__metadata__", ())]


def find_argument_problems(
    constructor: Callable[..., Any], arguments: Mapping[str, Any], path: str, owner: str
) -> list[str]:
    """What is wrong with `arguments` for `constructor`, ranges included.

    Args:
        constructor: a class or a function with annotated arguments.
        arguments: plain values by name, as a recipe writes them.
        path: where they stand in the recipe, as `losses.0`; may be empty.
        owner: how a message calls the thing that is built, as `'vq'` or `training`.

    Returns:
        One sentence for each argument that does not fit, after its path.
    """
    schema = read_schema(constructor)
    try:
        schema.model_validate(dict(arguments))
    except pydantic.ValidationError as error:
        return _write_sentences(error.errors(), path, owner, schema)
    return []


def check_arguments(constructor: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Check what a caller in Python gives, where a tuple is as good as a list.

    Arguments that are not given are not missed here: Python itself says so in the call.

    Raises:
        ArgumentError: with every argument that does not fit.
    """
    schema = read_schema(constructor)
    try:
        schema.model_validate(dict(arguments), strict=False)
    except pydantic.ValidationError as error:
        problems = [problem for problem in error.errors() if problem["type"] not in ("missing", "extra_forbidden")]
        if problems:
            raise ArgumentError("; ".join(_write_sentences(problems, "", constructor.__name__, schema))) from None


_CHECKS = contextvars.ContextVar("checks", default=True)


@contextlib.contextmanager
def already_checked() -> Iterator[None]:
    """Within this context constructors take their arguments on trust: a recipe was checked when it was read."""
    token = _CHECKS.set(False)
    try:
        yield
    finally:
        _CHECKS.reset(token)


class CheckedArguments:
    """Checks the arguments of a subclass's constructor against its annotations, and keeps them.

    Attributes:
        arguments: what the constructor was called with, by name; without the defaults.
    """

    arguments: Mapping[str, Any]

    def __new__(cls, *given: Any, **named: Any) -> Self:
        """An instance whose constructor is about to run, its arguments checked."""
        instance = super().__new__(cls)
        try:
            arguments = read_signature(cls).bind_partial(*given, **named).arguments
        except TypeError:
            arguments = {}  # The constructor is about to raise the same error, with a traceback that shows the call.
        if arguments and _CHECKS.get():
            check_arguments(cls, arguments)
        # A module takes no attributes before its own constructor has run. A copy has its state set afterwards.
        object.__setattr__(instance, "arguments", arguments)
        return instance


def _write_sentences(problems: Iterable[Any], path: str, owner: str, schema: type[pydantic.BaseModel]) -> list[str]:
    """One sentence for each argument. A union gives an error for each of its types; they become alternatives."""
    by_path: dict[str, list[str]] = {}
    for problem in problems:
        field, *within = problem["loc"]
        # Behind the field stand indices and keys, and the names of the types that a union tried.
        parts = [path, field, *(part for part in within if isinstance(part, int))]
        full = ".".join(str(part) for part in parts if part != "")
        by_path.setdefault(full, []).append(_write_complaint(problem, owner, schema))
    return [f"{full}: {', or '.join(dict.fromkeys(complaints))}" for full, complaints in by_path.items()]


_WORDS = {
    "greater_than": "expected more than {gt:g}",
    "greater_than_equal": "expected {ge:g} or more",
    "less_than": "expected less than {lt:g}",
    "less_than_equal": "expected {le:g} or less",
    "finite_number": "expected a finite number",
    "too_short": "expected at least {min_length} of them",
    "too_long": "expected at most {max_length} of them",
}
"""How a value out of its range is told, by pydantic's name of the problem."""


def _write_complaint(problem: Any, owner: str, schema: type[pydantic.BaseModel]) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{owner} takes no such argument; {nearest(str(problem['loc'][-1]), schema.model_fields)}"
    if kind == "missing":
        return f"{owner} needs this argument"
    if kind == "sequence_str" or (kind == "is_instance_of" and context["class"] == "Sequence"):
        return f"input should be a valid list, got {quote(problem['input'])}"
    message = _WORDS[kind].format(**context) if kind in _WORDS else problem["msg"]
    return f"{message[0].lower()}{message[1:]}, got {quote(problem['input'])}"
