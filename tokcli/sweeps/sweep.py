"""What a sweep is, and all that can be wrong with one, reported together.

columns: [psnr, cvu]                     # metrics that the table shows
seeds: [0, 1]
sizes: [256, 1024]                       # K; may be left out
overrides: [training.steps=1500]         # of every cell
methods:                                 # rows
  fsq: {recipe: image-small-fsq, by_size: {256: ["quantizer.levels=[8,6,5]"], 1024: []}}
evaluate:                                # further data that every tokenizer is judged on
  dead-leaves: {kind: dead-leaves, items: 100, size: 256, seed: 1}
published: {setting: "...", metrics: [psnr], figures: {fsq: {256: [22.94]}}}
claims: [{claim: "...", metric: psnr, greater: fsp, than: fsq}]
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tokcli.data import SOURCES
from tokcli.errors import RecipeError
from tokcli.metrics import METRICS
from tokcli.recipe.text import parse
from tokcli.schema import argument_problems, nearest

IN_DOMAIN = "in domain"
"""How a claim calls the recipe's own evaluation data, which is what it means where it names none."""


@dataclass(frozen=True)
class Method:
    """A row, or a row for each size.

    recipe: a shipped name or a file. overrides: of all its cells. by_size: further ones for each size it is trained
        at; None trains every size without any. codebooks: instead of that, one training, after which a codebook of
        each of these sizes is built and judged.
    """

    recipe: str
    overrides: list[str] = field(default_factory=list)
    by_size: dict[int, list[str]] | None = None
    codebooks: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Published:
    """Figures from a paper, to stand beside ours. They are never compared with them: the settings differ.

    setting: where and how they were obtained. metrics: what the lists in `figures` hold.
    figures: by method, and by size where there are sizes: a list with null for what was not published, or a word.
    """

    setting: str
    metrics: list[str]
    figures: dict[str, Any]

    def figure(self, method: str, size: int | None, metric: str) -> float | str | None:
        """One figure, the word that stands for it (failed), or None."""
        found = self.figures.get(method)
        if isinstance(found, Mapping):
            found = found.get(size)
        if found is None or isinstance(found, str):
            return found
        return dict(zip(self.metrics, found, strict=True)).get(metric)


@dataclass(frozen=True)
class Claim:
    """A sentence that the table can bear out: at every size, `greater` is above `than`.

    metric: what is compared. than: a method, or a number. data: what it is judged on. sizes: at these alone; empty
        means all of the sweep.
    what: the `value` itself; the `drop` from in-domain data to `data`; or the `fall`, from the highest value of a
        curve over training to its last.
    """

    claim: str
    metric: str
    greater: str
    than: str | float
    what: Literal["value", "drop", "fall"] = "value"
    data: str = IN_DOMAIN
    sizes: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """The sections of a sweep file. Cells are methods × sizes × seeds.

    columns: metrics that the table shows. overrides: of every cell. evaluate: data nodes by name, that every tokenizer
        is judged on besides its recipe's evaluation data. curves: metrics drawn over training.
    """

    columns: list[str]
    methods: dict[str, Any]
    sizes: list[int] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0])
    overrides: list[str] = field(default_factory=list)
    evaluate: dict[str, Any] = field(default_factory=dict)
    curves: list[str] = field(default_factory=list)
    published: dict[str, Any] | None = None
    claims: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Sweep:
    """A checked sweep. name: of its folder. The rest as in `Table`, the nodes made into what they describe."""

    name: str
    summary: str
    columns: list[str]
    methods: dict[str, Method]
    sizes: list[int]
    seeds: list[int]
    overrides: list[str]
    evaluate: dict[str, dict[str, Any]]
    curves: list[str]
    published: Published | None
    claims: list[Claim]


def sweep_from_text(text: str, name: str, summary: str = "") -> Sweep:
    """Read YAML and check everything but the recipes. Raises RecipeError with every problem, one a line."""
    content = parse(text, name)
    if not isinstance(content, dict):
        raise RecipeError(f"{name}: expected a sweep with columns and methods; got {type(content).__name__}")
    found = problems(content)
    if found:
        raise RecipeError("\n".join(found))
    table = Table(**content)
    return Sweep(
        name=name,
        summary=summary,
        columns=table.columns,
        methods={method: Method(**node) for method, node in table.methods.items()},
        sizes=table.sizes,
        seeds=table.seeds,
        overrides=table.overrides,
        evaluate=table.evaluate,
        curves=table.curves,
        published=Published(**table.published) if table.published is not None else None,
        claims=[Claim(**node) for node in table.claims],
    )


def problems(content: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a sweep's words, without reading a recipe."""
    found = argument_problems(Table, content, "", "a sweep")
    methods, sizes, evaluate = (
        content.get(key) if isinstance(content.get(key), kind) else kind()
        for key, kind in (("methods", dict), ("sizes", list), ("evaluate", dict))
    )
    found += [
        f"{key}: expected at least one" for key in ("columns", "methods", "seeds") if content.get(key) in ([], {})
    ]
    for key in ("columns", "curves"):
        found += _metric_problems(content.get(key), key)
    for method, node in methods.items():
        found += _method_problems(node, f"methods.{method}", sizes)
    for data, node in evaluate.items():
        found += SOURCES.problems(node, f"evaluate.{data}")
    if isinstance(content.get("published"), Mapping):
        found += _published_problems(content["published"], methods, sizes)
    claims = content.get("claims")
    for index, claim in enumerate(claims if isinstance(claims, list) else []):
        if isinstance(claim, Mapping):
            found += _claim_problems(claim, f"claims.{index}", methods, [IN_DOMAIN, *evaluate])
            found += _size_problems(claim.get("sizes") or (), f"claims.{index}.sizes", sizes)
    return found


def _metric_problems(names: Any, path: str) -> list[str]:
    listed = names if isinstance(names, list) else []
    unknown = [name for name in listed if isinstance(name, str) and name not in METRICS]
    return [f"{path}: there is no metric '{name}'; {nearest(name, METRICS)}" for name in unknown]


def _method_problems(node: Any, path: str, sizes: list[Any]) -> list[str]:
    if not isinstance(node, Mapping):
        return [f"{path}: expected a method with a 'recipe', got {node!r}"]
    found = argument_problems(Method, node, path, "a method")
    if node.get("by_size") and node.get("codebooks"):
        found.append(f"{path}.codebooks: a method has by_size (a training for each) or codebooks (one for all)")
    for key in ("by_size", "codebooks"):
        found += _size_problems(node.get(key) or (), f"{path}.{key}", sizes)
    return found


def _size_problems(named: Any, path: str, sizes: list[Any]) -> list[str]:
    listed = named if isinstance(named, list | dict) else []
    known = ", ".join(map(str, sizes)) or "none"
    return [f"{path}: {size} is not among the sizes of this sweep ({known})" for size in listed if size not in sizes]


def _published_problems(node: Mapping[str, Any], methods: Mapping[str, Any], sizes: list[Any]) -> list[str]:
    found = argument_problems(Published, node, "published", "published")
    found += _metric_problems(node.get("metrics"), "published.metrics")
    metrics, figures = node.get("metrics"), node.get("figures")
    if found or not isinstance(metrics, list) or not isinstance(figures, Mapping):
        return found
    for method, given in figures.items():
        path = f"published.figures.{method}"
        if method not in methods:
            found.append(f"{path}: the sweep has no such method; {nearest(str(method), methods)}")
        if isinstance(given, Mapping):
            found += _size_problems(dict(given), path, sizes)
        for figure in given.values() if isinstance(given, Mapping) else [given]:
            if isinstance(figure, list) and len(figure) != len(metrics):
                found.append(
                    f"{path}: {figure} are not figures of {', '.join(metrics)}; null stands for an unknown one"
                )
            elif not isinstance(figure, list | str):
                found.append(f"{path}: expected a list of figures, or a word such as failed; got {figure!r}")
    return found


def _claim_problems(node: Mapping[str, Any], path: str, methods: Mapping[str, Any], data: list[str]) -> list[str]:
    found = argument_problems(Claim, node, path, "a claim")
    found += _metric_problems([node.get("metric")], f"{path}.metric")
    for key in ("greater", "than"):
        method = node.get(key)
        if isinstance(method, str) and method not in methods:
            found.append(f"{path}.{key}: the sweep has no method '{method}'; {nearest(method, methods)}")
    if isinstance(node.get("data"), str) and node["data"] not in data:
        found.append(f"{path}.data: nothing is judged on '{node['data']}'; {nearest(node['data'], data)}")
    if node.get("what") == "drop" and node.get("data", IN_DOMAIN) == IN_DOMAIN:
        found.append(f"{path}.data: a drop needs the data it drops to; one of: {', '.join(data[1:]) or 'none here'}")
    return found
