"""What a recipe is, and all that can be wrong with one, reported together.

A recipe has the sections `data`, `autoencoder`, `quantizer`, `losses`, `training`, `evaluation`; `adversary` where a
discriminator is trained against; and `codebook` where a codebook is built after training. A section that names a
component is a `kind` and the arguments of its constructor.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tokcli.autoencoders import AUTOENCODERS
from tokcli.data import SOURCES
from tokcli.discriminators import DISCRIMINATORS
from tokcli.errors import RecipeError
from tokcli.losses import LOSSES
from tokcli.metrics import METRICS
from tokcli.quantizers import QUANTIZERS
from tokcli.recipe.settings import AdversarySettings, CodebookSettings, EvaluationSettings, TrainingSettings
from tokcli.recipe.text import parse, write
from tokcli.registry import argument_problems, nearest

Node = Mapping[str, Any]

SETTINGS = {
    "training": TrainingSettings,
    "adversary": AdversarySettings,
    "evaluation": EvaluationSettings,
    "codebook": CodebookSettings,
}
REQUIRED = ("name", "data", "autoencoder", "quantizer", "losses", "training")
OPTIONAL = ("seed", "licence", "adversary", "evaluation", "codebook")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A checked recipe. Its nodes have every argument of their component; `tokcli.recipe.build` makes it of them.

    name: of the run. licence: of the weights it produces, recorded in the artifact. seed: of initial weights, data
    order and every random draw of training.
    """

    name: str
    train_data: Node
    eval_data: Node
    autoencoder: Node
    quantizer: Node
    losses: Sequence[Node]
    training: TrainingSettings
    evaluation: EvaluationSettings
    codebook: CodebookSettings | None
    adversary: AdversarySettings | None = None
    seed: int = 0
    licence: str = "unspecified"

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, every default filled in; `from_dict` reads it back."""
        resolved = {
            "name": self.name,
            "seed": self.seed,
            "licence": self.licence,
            "data": {"train": dict(self.train_data), "eval": dict(self.eval_data)},
            "autoencoder": dict(self.autoencoder),
            "quantizer": dict(self.quantizer),
            "losses": [dict(node) for node in self.losses],
            "training": dataclasses.asdict(self.training),
            "evaluation": dataclasses.asdict(self.evaluation),
        }
        if self.adversary is not None:
            resolved["adversary"] = dataclasses.asdict(self.adversary)
        if self.codebook is not None:
            resolved["codebook"] = dataclasses.asdict(self.codebook)
        return resolved

    def to_yaml(self) -> str:
        """The resolved recipe as YAML."""
        return write(self.to_dict())

    def fingerprint(self) -> str:
        """sha256 of the resolved recipe: two runs with the same one are the same run."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def from_text(text: str, name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read YAML, apply `key.path=value` overrides, check everything.

    Raises RecipeError with every problem, one a line.
    """
    content = parse(text, name)
    if not isinstance(content, dict):
        raise RecipeError(f"{name}: expected a recipe with {', '.join(REQUIRED)}; got {type(content).__name__}")
    found = [problem for override in overrides for problem in _apply(content, override)]
    found += problems(content)
    if found:
        raise RecipeError("\n".join(found))
    return from_dict(content)


def from_dict(content: Node) -> Recipe:
    """A recipe from plain values. Raises RecipeError with every problem, one a line."""
    found = problems(content)
    if found:
        raise RecipeError("\n".join(found))
    try:
        return Recipe(
            name=content["name"],
            seed=content.get("seed", 0),
            licence=content.get("licence", "unspecified"),
            train_data=SOURCES.resolved(content["data"]["train"]),
            eval_data=SOURCES.resolved(content["data"]["eval"]),
            autoencoder=AUTOENCODERS.resolved(content["autoencoder"]),
            quantizer=QUANTIZERS.resolved(content["quantizer"]),
            losses=[LOSSES.resolved(node) for node in content["losses"]],
            training=TrainingSettings(**content["training"]),
            evaluation=EvaluationSettings(**content.get("evaluation", {})),
            codebook=CodebookSettings(**content["codebook"]) if content.get("codebook") is not None else None,
            adversary=_adversary(content["adversary"]) if content.get("adversary") is not None else None,
        )
    except ValueError as error:
        raise RecipeError(str(error)) from error


def _adversary(content: Node) -> AdversarySettings:
    settings = AdversarySettings(**content)
    return dataclasses.replace(settings, discriminator=DISCRIMINATORS.resolved(settings.discriminator))


def problems(content: Node) -> list[str]:
    """Everything that is wrong with a recipe's words, without building anything."""
    known = (*REQUIRED, *OPTIONAL)
    found = [f"{key}: a recipe has no such section; {nearest(str(key), known)}" for key in content if key not in known]
    found += [f"{key}: a recipe needs this section" for key in REQUIRED if key not in content]
    found += _plain_problems(content)
    if isinstance(data := content.get("data"), Mapping):
        found += [
            f"data.{key}: data has no such part; {nearest(str(key), ('train', 'eval'))}"
            for key in data
            if key not in ("train", "eval")
        ]
        found += [problem for part in ("train", "eval") for problem in SOURCES.problems(data.get(part), f"data.{part}")]
    elif "data" in content:
        found.append("data: expected the parts 'train' and 'eval'")
    for family, registry in (("autoencoder", AUTOENCODERS), ("quantizer", QUANTIZERS)):
        if family in content:
            found += registry.problems(content[family], family)
    found += _loss_problems(content.get("losses", []))
    for section, settings in SETTINGS.items():
        if content.get(section) is not None:
            found += _settings_problems(settings, content[section], section)
    if isinstance(content.get("adversary"), Mapping):
        found += _adversary_problems(content["adversary"], content.get("training"))
    return found


def _plain_problems(content: Node) -> list[str]:
    found = []
    for key, kind in (("name", str), ("seed", int), ("licence", str)):
        if key in content and not isinstance(content[key], kind):
            found.append(f"{key}: expected {kind.__name__}, got {content[key]!r}")
    name = content.get("name")
    if isinstance(name, str) and (not name or name != name.strip() or any(part in name for part in "/\\\0")):
        found.append(f"name: it names the run's folder, so it needs to be a plain file name, got {name!r}")
    return found


def _loss_problems(losses: Any) -> list[str]:
    if not isinstance(losses, list) or not losses:
        return ["losses: expected a list of losses, each with a 'kind'"]
    return [problem for index, node in enumerate(losses) for problem in LOSSES.problems(node, f"losses.{index}")]


def _settings_problems(settings: type, section: Any, path: str) -> list[str]:
    if not isinstance(section, Mapping):
        return [f"{path}: expected settings, got {section!r}"]
    found = argument_problems(settings, section, path, path)
    if found:
        return found
    try:
        values = settings(**section)
    except ValueError as error:
        return [f"{path}.{error}"]
    names = values.metrics if isinstance(values, EvaluationSettings) else []
    return [
        f"{path}.metrics: there is no metric '{name}'; {nearest(name, METRICS)}"
        for name in names
        if name not in METRICS
    ]


def _adversary_problems(adversary: Node, training: Any) -> list[str]:
    """What the settings of the adversary cannot see by themselves: its component, and how long training is."""
    found = []
    if "discriminator" in adversary:
        found += DISCRIMINATORS.problems(adversary["discriminator"], "adversary.discriminator")
    start, steps = adversary.get("start_step"), training.get("steps") if isinstance(training, Mapping) else None
    if isinstance(start, int) and isinstance(steps, int) and 0 < steps <= start:
        found.append(f"adversary.start_step: {start} never comes, for training.steps is {steps}")
    return found


def _apply(content: dict[str, Any], override: str) -> list[str]:
    """Write one `key.path=value` into the recipe's plain values; what is wrong with it comes back."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        return [f"{override}: expected an override as key.path=value, such as training.steps=100"]
    *parents, last = path.split(".")
    place: Any = content
    for depth, part in enumerate(parents):
        if isinstance(place, list) and part.isdecimal() and int(part) < len(place):
            place = place[int(part)]
        elif isinstance(place, dict) and (part in place or (part in SETTINGS and depth == 0)):
            place = place.setdefault(part, {})
        else:
            known = place if isinstance(place, dict) else [str(index) for index in range(len(place or []))]
            return [f"{override}: the recipe has no '{'.'.join(parents[: depth + 1])}'; {nearest(part, known)}"]
    value = parse(text, override)
    if isinstance(place, list) and last.isdecimal() and int(last) < len(place):
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        return [f"{override}: '{'.'.join(parents)}' takes no entry '{last}'"]
    return []
