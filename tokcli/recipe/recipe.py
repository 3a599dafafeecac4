"""What a recipe is, and all that can be wrong with one, reported together.

A recipe has the sections `data`, `autoencoder`, `quantizer`, `losses`, `training`, `evaluation`; `adversary` where a
discriminator is trained against; and `codebook` where a codebook is built after training. A section that names a
component is a `kind` and the arguments of its constructor.
"""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from tokcli.autoencoders import AUTOENCODERS
from tokcli.data import SOURCES
from tokcli.discriminators import DISCRIMINATORS
from tokcli.errors import ArgumentError, RecipeError, quote
from tokcli.losses import LOSSES
from tokcli.metrics import METRICS
from tokcli.quantizers import QUANTIZERS
from tokcli.recipe.settings import AdversarySettings, CodebookSettings, EvaluationSettings, TrainingSettings, values_of
from tokcli.recipe.text import parse, write
from tokcli.recipe.widths import complete_widths
from tokcli.registry import CheckedNode, Registry
from tokcli.schema import already_checked, find_argument_problems
from tokcli.spelling import nearest
from tokcli.untrusted import check_plain

Node = Mapping[str, Any]
S = TypeVar("S", TrainingSettings, AdversarySettings, EvaluationSettings, CodebookSettings)

SETTINGS = ("training", "adversary", "evaluation", "codebook")
"""Sections that an override may begin where the recipe leaves them out."""
REQUIRED = ("name", "data", "autoencoder", "quantizer", "losses", "training")
UNSPECIFIED = "unspecified"
"""The licence where nobody said."""
OPTIONAL = ("seed", "licence", "credits", "adversary", "evaluation", "codebook")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A checked recipe: the record of a run, from which its parts are built by `tokcli.recipe.build`.

    Attributes:
        name: of the run.
        train_data: a node, as are the parts below: a `kind` and every argument of its constructor.
        eval_data: what the tokenizer is evaluated on.
        autoencoder: signals to latents and back.
        quantizer: latents to tokens and back.
        losses: what training minimises, besides the quantizer's own loss.
        training: how it is trained.
        evaluation: how it is evaluated while it trains, and at the end.
        codebook: the stage that builds codebooks after training; None where there is none.
        adversary: a discriminator to train against; None where there is none.
        seed: of initial weights, data order and every random draw of training.
        licence: of the weights it produces, recorded in the artifact.
        credits: whose data made them, recorded there too; a recipe without any does not write this key.
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
    licence: str = UNSPECIFIED
    credits: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, every default filled in; `from_dict` reads it back."""
        resolved = {
            "name": self.name,
            "seed": self.seed,
            "licence": self.licence,
            **({"credits": self.credits} if self.credits else {}),
            "data": {"train": make_plain(self.train_data), "eval": make_plain(self.eval_data)},
            "autoencoder": make_plain(self.autoencoder),
            "quantizer": make_plain(self.quantizer),
            "losses": [make_plain(node) for node in self.losses],
            "training": values_of(self.training),
            "evaluation": values_of(self.evaluation),
        }
        if self.adversary is not None:
            resolved["adversary"] = values_of(self.adversary)
        if self.codebook is not None:
            resolved["codebook"] = values_of(self.codebook)
        return resolved

    def to_yaml(self) -> str:
        """The resolved recipe as YAML."""
        return write(self.to_dict())

    def fingerprint(self) -> str:
        """sha256 of the resolved recipe: two runs with the same one are the same run."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def make_plain(node: Node) -> dict[str, Any]:
    """A node as a plain map, and so are the nodes within it."""
    return {name: make_plain(value) if isinstance(value, Mapping) else value for name, value in node.items()}


def from_text(text: str, name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe that the user trains from: YAML, then `key.path=value` overrides.

    A kind `module:Class` is imported, for the user has named it.

    Raises:
        RecipeError: with every problem, one a line.
    """
    content = parse(text, name)
    if not isinstance(content, dict):
        raise RecipeError(f"{name}: expected a recipe with {', '.join(REQUIRED)}; got {type(content).__name__}")
    if "methods" in content and "autoencoder" not in content:
        raise RecipeError(f"{name} is a sweep, and no recipe: tok sweep {name}")
    problems = [problem for override in overrides for problem in _apply(content, override)]
    complete_widths(content)
    return _Reader(content, may_import=True, problems=problems).read()


def from_dict(content: Node) -> Recipe:
    """Read a recipe from plain values, all of it.

    Raises:
        RecipeError: with every problem, one a line; a kind `module:Class` is one unless TOK_ALLOW_IMPORTS lists it.
    """
    return _Reader(content).read()


def from_artifact(content: Node) -> Recipe:
    """Read the resolved recipe of an artifact, so that its tokenizer can be built.

    Only the autoencoder and the quantizer need to be known here. Losses, data, metrics and the discriminator may be of
    kinds that this installation does not have, or must not import: their nodes are kept as they are written, and
    `tokcli.recipe.build` says what is wrong with them if they are ever built. So the fingerprint stays the same.

    Raises:
        RecipeError: with every problem, one a line; a kind `module:Class` of the autoencoder or of the quantizer is one
            unless TOK_ALLOW_IMPORTS lists its module.
    """
    return _Reader(content, tokenizer_only=True).read()


def change_record(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe of an artifact with other words for what its tokens do not depend on: its licence, credits, paths.

    Args:
        recipe: of the artifact.
        overrides: `key.path=value` each; name, licence and credits take the text as it is.

    Raises:
        RecipeError: with every problem, one a line.
    """
    content = copy.deepcopy(recipe.to_dict())
    problems = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if equals and key in ("name", "licence", "credits"):
            content[key] = text
        else:
            problems += _apply(content, override)
    if problems:
        raise RecipeError("\n".join(problems))
    changed = from_artifact(content)
    if (changed.autoencoder, changed.quantizer) != (recipe.autoencoder, recipe.quantizer):
        raise RecipeError("autoencoder and quantizer decide what tokens mean: they cannot be recorded otherwise")
    return changed


class _Reader:
    """Reads a recipe's plain values section by section, and gathers everything that is wrong with them.

    Args:
        content: the recipe as plain values.
        may_import: whether kinds of the form `module:Class` may be imported.
        tokenizer_only: parts other than the tokenizer's are kept as they are where something is wrong with them.
        problems: that are known already.

    Raises:
        RecipeError: for what is no map of plain values, which no section could be read of.
    """

    def __init__(
        self, content: Node, may_import: bool = False, tokenizer_only: bool = False, problems: Sequence[str] = ()
    ) -> None:
        if not isinstance(content, dict):
            raise RecipeError(f"expected a recipe with {', '.join(REQUIRED)}; got {quote(content)}")
        try:
            check_plain(content)
        except ValueError as error:
            raise RecipeError(f"the recipe holds {error}") from error
        self.content = content
        self.may_import = may_import
        self.tokenizer_only = tokenizer_only
        self.problems = list(problems)

    def read(self) -> Recipe:
        """The recipe. Raises RecipeError with every problem, one a line."""
        self._check_sections()
        content = self.content
        values = {key: content[key] for key in ("name", "seed", "licence", "credits") if key in content}
        train_data, eval_data = self._read_data()
        autoencoder = self._read_part(AUTOENCODERS, "autoencoder")
        quantizer = self._read_part(QUANTIZERS, "quantizer")
        losses = self._read_losses()
        training = self._read_settings(TrainingSettings, "training") if "training" in content else None
        adversary = self._read_adversary(training)
        evaluation = self._read_settings(EvaluationSettings, "evaluation") or EvaluationSettings()
        self._check_metrics(evaluation.metrics)
        codebook = self._read_settings(CodebookSettings, "codebook")
        if self.problems or training is None:
            raise RecipeError("\n".join(self.problems))
        return Recipe(
            **values,
            train_data=train_data,
            eval_data=eval_data,
            autoencoder=autoencoder,
            quantizer=quantizer,
            losses=losses,
            training=training,
            evaluation=evaluation,
            codebook=codebook,
            adversary=adversary,
        )

    def _check_sections(self) -> None:
        """Names of sections, and the values that are no sections."""
        known = (*REQUIRED, *OPTIONAL)
        for key in self.content:
            if key not in known:
                self.problems.append(f"{key}: a recipe has no such section; {nearest(str(key), known)}")
        self.problems += [f"{key}: a recipe needs this section" for key in REQUIRED if key not in self.content]
        for key, kind in (("name", str), ("seed", int), ("licence", str), ("credits", str)):
            if key in self.content and type(self.content[key]) is not kind:
                self.problems.append(f"{key}: expected {kind.__name__}, got {quote(self.content[key])}")
        seed = self.content.get("seed")
        if type(seed) is int and seed < 0:
            self.problems.append(f"seed: expected 0 or more, got {seed}")
        name = self.content.get("name")
        if isinstance(name, str) and (
            name in ("", ".", "..") or name != name.strip() or any(part in name for part in "/\\\0")
        ):
            self.problems.append(
                f"name: it names the run's folder, so it needs to be a plain file name, got {quote(name)}"
            )

    def _read_data(self) -> tuple[Node, Node]:
        data = self.content.get("data", {})
        if not isinstance(data, Mapping):
            self.problems.append("data: expected the parts 'train' and 'eval'")
            return {}, {}
        for key in data:
            if key not in ("train", "eval"):
                self.problems.append(f"data.{key}: data has no such part; {nearest(str(key), ('train', 'eval'))}")
        if "data" not in self.content:
            return {}, {}
        return self._read_node(SOURCES, data.get("train"), "data.train"), self._read_node(
            SOURCES, data.get("eval"), "data.eval"
        )

    def _read_losses(self) -> list[Node]:
        losses = self.content.get("losses", [])
        if not isinstance(losses, list) or not losses:
            self.problems.append("losses: expected a list of losses, each with a 'kind'")
            return []
        return [self._read_node(LOSSES, node, f"losses.{index}") for index, node in enumerate(losses)]

    def _read_part(self, registry: Registry[Any], section: str) -> Node:
        """A part of the tokenizer: nothing may be wrong with it."""
        if section not in self.content:
            return {}
        return self._checked(registry.check(self.content[section], section, self.may_import))

    def _read_node(self, registry: Registry[Any], node: Any, path: str) -> Node:
        """A part that training needs and a tokenizer does not."""
        checked = registry.check(node, path, self.may_import)
        if self.tokenizer_only and isinstance(node, Mapping) and not isinstance(checked, CheckedNode):
            return dict(node)
        return self._checked(checked)

    def _checked(self, outcome: CheckedNode | list[str]) -> Node:
        if isinstance(outcome, CheckedNode):
            return outcome
        self.problems += outcome
        return {}

    def _read_settings(self, settings: type[S], section: str) -> S | None:
        """A section of settings; None where it is absent, or where something is wrong with it."""
        content = self.content.get(section)
        if content is None and section not in REQUIRED:
            return None
        if not isinstance(content, Mapping):
            self.problems.append(f"{section}: expected settings, got {quote(content)}")
            return None
        problems = find_argument_problems(settings, content, section, section)
        if problems:
            self.problems += problems
            return None
        try:
            with already_checked():
                return settings(**content)
        except ArgumentError as error:
            self.problems.append(f"{section}.{error}")
            return None

    def _read_adversary(self, training: TrainingSettings | None) -> AdversarySettings | None:
        """With what its settings cannot see by themselves: the discriminator, and how long training is."""
        content = self.content.get("adversary")
        settings = self._read_settings(AdversarySettings, "adversary")
        given = content.get("discriminator") if isinstance(content, Mapping) else None
        node = given if given is not None else AdversarySettings().discriminator
        if content is None:
            return None
        discriminator = self._read_node(DISCRIMINATORS, node, "adversary.discriminator")
        start = content.get("start_step") if isinstance(content, Mapping) else None
        if training is not None and isinstance(start, int) and training.steps <= start:
            self.problems.append(f"adversary.start_step: {start} never comes, for training.steps is {training.steps}")
        if settings is None:
            return None
        with already_checked():
            return dataclasses.replace(settings, discriminator=discriminator)

    def _check_metrics(self, names: Sequence[str]) -> None:
        if self.tokenizer_only:
            return
        for name in names:
            try:
                METRICS.find(name, self.may_import)
            except RecipeError as error:
                self.problems.append(f"evaluation.metrics: {error}")


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
