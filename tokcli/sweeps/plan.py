"""What a sweep is, and all that can be wrong with one, reported together.

columns: [psnr, cvu]                     # metrics that the table shows
seeds: [0, 1]
sizes: [256, 1024]                       # K; may be left out
overrides: [training.steps=1500]         # of every cell
methods:                                 # rows
  fsq: {recipe: image-small-fsq, by_size: {256: ["quantizer.levels=[8,6,5]"], 1024: []}}
evaluate:                                # further data that every tokenizer is judged on
  dead-leaves: {kind: dead-leaves, items: 100, size: 256, seed: 1}
published: {setting: "...", metrics: [psnr], figures: {fsq: {256: [22.94]}}, out_of_domain: {dead-leaves: {...}}}
claims: [{claim: "...", metric: psnr, greater: fsp, than: fsq}]
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tokcli.data import SOURCES
from tokcli.errors import RecipeError
from tokcli.metrics import METRICS
from tokcli.recipe.text import parse
from tokcli.schema import find_argument_problems
from tokcli.spelling import nearest

IN_DOMAIN = "in domain"
"""How a claim calls the recipe's own evaluation data, which is what it means where it names none."""


@dataclass(frozen=True)
class Method:
    """A row, or a row for each size.

    Attributes:
        recipe: A shipped name or a file.
        overrides: Of all its cells.
        by_size: Further ones for each size it is trained at; None trains every size without any.
        codebooks: Instead of that, one training, after which a codebook of each of these sizes is built and evaluated.
    """

    recipe: str
    overrides: list[str] = field(default_factory=list)
    by_size: dict[int, list[str]] | None = None
    codebooks: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Published:
    """Figures from a paper, to stand beside ours. They are never compared with them: the settings differ.

    Attributes:
        setting: Where and how they were obtained.
        metrics: What the lists in `figures` hold.
        figures: By method, and by size where there are sizes: a list with null for what was not published, or a word.
        out_of_domain: By data of `evaluate`, the same.
    """

    setting: str
    metrics: list[str]
    figures: dict[str, Any]
    out_of_domain: dict[str, Any] = field(default_factory=dict)

    def figure(self, method: str, size: int | None, data: str, metric: str) -> float | str | None:
        """One figure, the word that stands for it (failed), or None."""
        figures = self.figures if data == IN_DOMAIN else self.out_of_domain.get(data, {})
        published = figures.get(method)
        if isinstance(published, Mapping):
            published = published.get(size)
        if published is None or isinstance(published, str):
            return published
        return dict(zip(self.metrics, published, strict=True)).get(metric)


@dataclass(frozen=True)
class Claim:
    """A sentence that the table can bear out: at every size, `greater` is above `than`.

    Attributes:
        claim: The sentence.
        metric: What is compared.
        greater: A method.
        than: A method, or a number.
        what: The `value` itself; the `drop` from in-domain data to `data`; or the `fall`, from the highest value of a
            curve over training to its last.
        data: What the metric is computed on.
        sizes: At these alone; empty means all of the sweep.
    """

    claim: str
    metric: str
    greater: str
    than: str | float
    what: Literal["value", "drop", "fall"] = "value"
    data: str = IN_DOMAIN
    sizes: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class SweepFile:
    """The sections of a sweep file. Cells are methods × sizes × seeds.

    Attributes:
        columns: Metrics that the table shows.
        methods: Nodes of methods by name.
        sizes: Of codebooks; none where every method has one.
        seeds: A training for each.
        overrides: Of every cell.
        evaluate: Nodes of data by name, that every tokenizer is evaluated on besides its recipe's evaluation data.
        curves: Metrics drawn over training.
        published: The node of figures from a paper.
        claims: Nodes of what the table can bear out.
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
    """A checked sweep: what `SweepFile` says, its nodes made into what they describe.

    Attributes:
        name: Of its folder.
        summary: The first line of the file's header.
    """

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


def read_sweep(text: str, name: str, summary: str = "") -> Sweep:
    """Read YAML and check everything but the recipes.

    Args:
        text: Of the file.
        name: Of the sweep.
        summary: What it is, in a line.

    Raises:
        RecipeError: With every problem, one a line.
    """
    content = parse(text, name)
    if not isinstance(content, dict):
        raise RecipeError(f"{name}: expected a sweep with columns and methods; got {type(content).__name__}")
    if "autoencoder" in content and "methods" not in content:
        raise RecipeError(f"{name} is a recipe, and no sweep: give it to tok train")
    problems = find_problems(content)
    if problems:
        raise RecipeError("\n".join(problems))
    file = SweepFile(**content)
    return Sweep(
        name=name,
        summary=summary,
        columns=file.columns,
        methods={method: Method(**node) for method, node in file.methods.items()},
        sizes=file.sizes,
        seeds=file.seeds,
        overrides=file.overrides,
        evaluate=file.evaluate,
        curves=file.curves,
        published=Published(**file.published) if file.published is not None else None,
        claims=[Claim(**node) for node in file.claims],
    )


def find_problems(content: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a sweep's words, without reading a recipe."""
    problems = find_argument_problems(SweepFile, content, "", "a sweep")
    methods, evaluate = _mapping(content.get("methods")), _mapping(content.get("evaluate"))
    sizes = _list(content.get("sizes"))
    problems += [
        f"{key}: expected at least one" for key in ("columns", "methods", "seeds") if content.get(key) in ([], {})
    ]
    for key in ("columns", "curves"):
        problems += _find_metric_problems(content.get(key), key)
    for method, node in methods.items():
        problems += _find_method_problems(node, f"methods.{method}", sizes)
    for data, node in evaluate.items():
        problems += SOURCES.problems(node, f"evaluate.{data}")
    if isinstance(content.get("published"), Mapping):
        problems += _find_published_problems(content["published"], methods, sizes, evaluate)
    for index, claim in enumerate(_list(content.get("claims"))):
        if isinstance(claim, Mapping):
            problems += _find_claim_problems(claim, f"claims.{index}", methods, [IN_DOMAIN, *evaluate])
            problems += _find_size_problems(claim.get("sizes") or (), f"claims.{index}.sizes", sizes)
    return problems


def _mapping(node: Any) -> Mapping[str, Any]:
    """A section as a mapping; empty where it is none, which is told elsewhere."""
    return node if isinstance(node, dict) else {}


def _list(node: Any) -> list[Any]:
    """A section as a list; empty where it is none, which is told elsewhere."""
    return node if isinstance(node, list) else []


def _find_metric_problems(names: Any, path: str) -> list[str]:
    unknown = [name for name in _list(names) if isinstance(name, str) and name not in METRICS]
    return [f"{path}: there is no metric '{name}'; {nearest(name, METRICS)}" for name in unknown]


def _find_method_problems(node: Any, path: str, sizes: list[Any]) -> list[str]:
    if not isinstance(node, Mapping):
        return [f"{path}: expected a method with a 'recipe', got {node!r}"]
    problems = find_argument_problems(Method, node, path, "a method")
    if node.get("by_size") and node.get("codebooks"):
        problems.append(f"{path}.codebooks: a method has by_size (a training for each) or codebooks (one for all)")
    for key in ("by_size", "codebooks"):
        problems += _find_size_problems(node.get(key) or (), f"{path}.{key}", sizes)
    return problems


def _find_size_problems(named: Any, path: str, sizes: list[Any]) -> list[str]:
    listed = named if isinstance(named, list | dict) else []
    known = ", ".join(map(str, sizes)) or "none"
    return [f"{path}: {size} is not among the sizes of this sweep ({known})" for size in listed if size not in sizes]


def _find_published_problems(
    node: Mapping[str, Any], methods: Mapping[str, Any], sizes: list[Any], evaluate: Mapping[str, Any]
) -> list[str]:
    problems = find_argument_problems(Published, node, "published", "published")
    problems += _find_metric_problems(node.get("metrics"), "published.metrics")
    metrics = node.get("metrics")
    if problems or not isinstance(metrics, list):
        return problems
    tables = {"published.figures": node.get("figures")}
    for data, figures in _mapping(node.get("out_of_domain")).items():
        tables[f"published.out_of_domain.{data}"] = figures
        if data not in evaluate:
            problems.append(
                f"published.out_of_domain.{data}: nothing is judged on '{data}'; {nearest(str(data), evaluate)}"
            )
    for path, figures in tables.items():
        problems += _find_figure_problems(figures, path, metrics, methods, sizes)
    return problems


def _find_figure_problems(
    figures: Any, path: str, metrics: list[str], methods: Mapping[str, Any], sizes: list[Any]
) -> list[str]:
    if not isinstance(figures, Mapping):
        return [f"{path}: expected figures by method, got {figures!r}"]
    problems = []
    for method, given in figures.items():
        row = f"{path}.{method}"
        if method not in methods:
            problems.append(f"{row}: the sweep has no such method; {nearest(str(method), methods)}")
        if isinstance(given, Mapping):
            problems += _find_size_problems(dict(given), row, sizes)
        for figure in given.values() if isinstance(given, Mapping) else [given]:
            if isinstance(figure, list) and len(figure) != len(metrics):
                problems.append(
                    f"{row}: {figure} are not figures of {', '.join(metrics)}; null stands for an unknown one"
                )
            elif not isinstance(figure, list | str):
                problems.append(f"{row}: expected a list of figures, or a word such as failed; got {figure!r}")
    return problems


def _find_claim_problems(node: Mapping[str, Any], path: str, methods: Mapping[str, Any], data: list[str]) -> list[str]:
    problems = find_argument_problems(Claim, node, path, "a claim")
    problems += _find_metric_problems([node.get("metric")], f"{path}.metric")
    for key in ("greater", "than"):
        method = node.get(key)
        if isinstance(method, str) and method not in methods:
            problems.append(f"{path}.{key}: the sweep has no method '{method}'; {nearest(method, methods)}")
    if isinstance(node.get("data"), str) and node["data"] not in data:
        problems.append(f"{path}.data: nothing is judged on '{node['data']}'; {nearest(node['data'], data)}")
    if node.get("what") == "drop" and node.get("data", IN_DOMAIN) == IN_DOMAIN:
        problems.append(f"{path}.data: a drop needs the data it drops to; one of: {', '.join(data[1:]) or 'none here'}")
    return problems
