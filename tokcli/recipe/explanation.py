"""What can stand in a recipe, from the constructors themselves: their docstrings, annotations and defaults.

explain("quantizer", "vpvae")       that part, with every argument
explain("quantizer")                every kind of quantizer, in a line each; of a section of settings, its keys
explain()                           every place in a recipe
"""

import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

from tokcli.autoencoders import AUTOENCODERS
from tokcli.contracts import Metric, Quantizer
from tokcli.data import SOURCES
from tokcli.discriminators import DISCRIMINATORS
from tokcli.errors import UsageError
from tokcli.losses import LOSSES
from tokcli.metrics import METRICS
from tokcli.quantizers import QUANTIZERS
from tokcli.recipe.settings import AdversarySettings, CodebookSettings, EvaluationSettings, TrainingSettings
from tokcli.recipe.widths import describe_followers
from tokcli.registry import Registry
from tokcli.schema import read_signature
from tokcli.spelling import nearest

PARTS: Mapping[str, Registry[Any]] = {
    "data": SOURCES,
    "autoencoder": AUTOENCODERS,
    "quantizer": QUANTIZERS,
    "losses": LOSSES,
    "discriminator": DISCRIMINATORS,
    "metrics": METRICS,
}
SETTINGS: Mapping[str, type] = {
    "training": TrainingSettings,
    "adversary": AdversarySettings,
    "evaluation": EvaluationSettings,
    "codebook": CodebookSettings,
}
PLACES = {
    "data": "data.train and data.eval",
    "discriminator": "adversary.discriminator",
    "metrics": "evaluation.metrics, by their names",
}
"""Where a part stands, if not in the section of its name."""

OTHER_NAMES = {"data.train": "data", "data.eval": "data", "loss": "losses", "metric": "metrics", "sources": "data"}
OTHER_NAMES |= {"adversary.discriminator": "discriminator", "evaluation.metrics": "metrics"}


@dataclass(frozen=True)
class Argument:
    """One key that can be written.

    Attributes:
        name: the key.
        values: what it takes, in words.
        default: as a recipe writes it; None where it must be written.
        meaning: of the docstring.
    """

    name: str
    values: str
    default: str | None
    meaning: str


@dataclass(frozen=True)
class Explanation:
    """One thing that a recipe names.

    Attributes:
        name: the section, or the kind.
        place: where it stands in a recipe.
        summary: its first sentence.
        arguments: its keys; empty where only names are listed.
    """

    name: str
    place: str
    summary: str
    arguments: Sequence[Argument] = ()


def explain(section: str | None = None, kind: str | None = None) -> list[Explanation]:
    """What can stand there.

    Args:
        section: a place in a recipe, as `quantizer` or `training`, or a key of settings, as `training.steps`;
            None: all places.
        kind: of the part in that section.

    Raises:
        UsageError: where there is no such section, kind or key, with the nearest.
    """
    if section is None:
        return [_explain_section(name) for name in (*PARTS, *SETTINGS)]
    section = OTHER_NAMES.get(section, section)
    name, _, key = section.partition(".")
    if name in SETTINGS and (key or kind):
        return [_pick(_explain_class(name, name, SETTINGS[name]), key or str(kind))]
    if name in SETTINGS:
        return [_explain_class(name, name, SETTINGS[name])]
    if name not in PARTS:
        raise UsageError(f"a recipe has no part '{section}'; {nearest(section, (*PARTS, *SETTINGS))}")
    registry = PARTS[name]
    if kind is None and key in registry:
        kind, key = key, ""
    if kind is not None:
        if kind not in registry:
            raise UsageError(f"there is no {registry.family} '{kind}'; {nearest(kind, registry)}")
        found = _explain_class(kind, PLACES.get(name, name), registry[kind])
        return [_pick(found, key) if key else found]
    everything = [_explain_class(each, PLACES.get(name, name), registry[each]) for each in registry]
    if key:
        kept = [_pick(each, key) for each in everything if any(own.name == key for own in each.arguments)]
        if not kept:
            raise UsageError(f"no {registry.family} takes '{key}'; tok recipes explain {name} lists them")
        return kept
    return [Explanation(each.name, each.place, each.summary) for each in everything]


def _explain_section(name: str) -> Explanation:
    if name in SETTINGS:
        return Explanation(name, name, _read_summary(SETTINGS[name]))
    return Explanation(name, PLACES.get(name, name), f"kinds: {', '.join(PARTS[name])}")


def _pick(whole: Explanation, key: str) -> Explanation:
    """The same with one argument. Raises UsageError where it has none of this name."""
    arguments = [argument for argument in whole.arguments if argument.name == key]
    if not arguments:
        known = nearest(key, [argument.name for argument in whole.arguments])
        raise UsageError(f"'{whole.name}' takes no '{key}'; {known}")
    return Explanation(whole.name, whole.place, whole.summary, arguments)


def _explain_class(name: str, place: str, constructor: type) -> Explanation:
    if issubclass(constructor, Metric) and constructor.higher_is_better is not None:
        better = "higher is better" if constructor.higher_is_better else "lower is better"
        summary = _read_summary(constructor)
        summary = summary if better in summary else f"{summary} ({better})"
    else:
        summary = _read_summary(constructor)
    meanings = {}
    for base in reversed(constructor.__mro__):
        meanings |= read_arguments(base)
    function = constructor.__init__  # type: ignore[misc] - a class is one of many here
    hints = typing.get_type_hints(function, include_extras=True)
    follows = describe_followers(constructor) if issubclass(constructor, Quantizer) else {}
    arguments = []
    for key, parameter in read_signature(constructor).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = _find_default(constructor, parameter)
        if default is None and key in follows:
            default = follows[key]
        arguments.append(Argument(key, describe_type(hints.get(key, Any)), default, meanings.get(key, "")))
    return Explanation(name, place, summary, arguments)


def _find_default(constructor: type, parameter: inspect.Parameter) -> str | None:
    """The default as a recipe writes it; None where there is none."""
    value = parameter.default
    if is_dataclass(constructor):
        made = next((each for each in fields(constructor) if each.name == parameter.name), None)
        if made is not None and made.default_factory is not MISSING:
            value = made.default_factory()
    return None if value is parameter.empty else write_value(value)


def write_value(value: Any) -> str:
    """A plain value on one line, as YAML has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {write_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(write_value, value)) + "]"
    return str(value)


def _read_summary(constructor: type) -> str:
    lines = (inspect.cleandoc(constructor.__doc__ or "")).partition("\n\n")[0]
    return " ".join(lines.split())


def read_arguments(constructor: type) -> dict[str, str]:
    """The meanings that the `Args:` of its docstring give, by name."""
    text = inspect.cleandoc(constructor.__doc__ or "")
    _, found, rest = text.partition("Args:\n")
    meanings: dict[str, str] = {}
    name = ""
    for line in rest.splitlines() if found else []:
        if line and not line.startswith(" "):
            break
        entry = re.match(r"    (\w[\w, ]*): (.*)", line)
        if entry:
            name = entry[1]
            meanings[name] = entry[2]
        elif name and line.strip():
            meanings[name] += " " + line.strip()
    # Docstrings speak Python, recipes speak YAML.
    plain = {name: re.sub(r"\bNone\b", "null", meaning) for name, meaning in meanings.items()}
    return {each.strip(): meaning for names, meaning in plain.items() for each in names.split(",")}


def describe_type(hint: Any) -> str:
    """What an annotated type takes, in words: `a whole number, 1 or more`, `one of: tanh, normal`."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _describe_range(describe_type(inner[0]), inner[1:])
    if origin is typing.Literal:
        return "one of: " + ", ".join(map(write_value, inner))
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if each is type(None) else describe_type(each) for each in inner)
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return f"a map of {describe_type(inner[1])}" if len(inner) == 2 and inner[1] is not Any else "{kind: ...}"
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        return f"a list, each {describe_type(inner[0])}" if inner else "a list"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(hint, "any value")


def _describe_range(base: str, constraints: Sequence[Any]) -> str:
    """`a number, more than 0`. Constraints: pydantic's fields, whose metadata has the limits."""
    limits: dict[str, Any] = {}
    for constraint in constraints:
        for limit in getattr(constraint, "metadata", [constraint]):
            for name in ("gt", "ge", "lt", "le", "min_length", "max_length"):
                value = vars(limit).get(name) if hasattr(limit, "__dict__") else None
                if value is None and name in getattr(type(limit), "__dataclass_fields__", ()):
                    value = getattr(limit, name)
                if value is not None:
                    limits[name] = value
    words = []
    if "ge" in limits and "le" in limits:
        words.append(f"{limits['ge']:g} to {limits['le']:g}")
    elif "ge" in limits:
        words.append(f"{limits['ge']:g} or more")
    elif "gt" in limits:
        words.append(f"more than {limits['gt']:g}")
    if "lt" in limits:
        words.append(f"less than {limits['lt']:g}")
    elif "le" in limits and "ge" not in limits:
        words.append(f"{limits['le']:g} or less")
    if limits.get("min_length") is not None and limits.get("min_length") == limits.get("max_length"):
        words.append(f"{limits['min_length']} of them")
    return f"{base}, {' and '.join(words)}" if words else base
