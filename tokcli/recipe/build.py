"""From a checked recipe to the components it names, cross-checked where they meet."""

from typing import TypeVar

from tokcli.autoencoders import AUTOENCODERS
from tokcli.contracts import Autoencoder, Discriminator, Loss, Metric, ModalityName, Source
from tokcli.data import SOURCES
from tokcli.discriminators import DISCRIMINATORS
from tokcli.errors import InputError, RecipeError, UsageError
from tokcli.losses import LOSSES
from tokcli.metrics import build_metrics
from tokcli.quantizers import QUANTIZERS
from tokcli.recipe.recipe import Node, Recipe
from tokcli.registry import Registry
from tokcli.tokenizer import Tokenizer

T = TypeVar("T")

WAYS_ON = {
    "data.train": "set it with data.train.path=FOLDER",
    "data.eval": "set it with data.eval.path=FOLDER, or split one folder into two lists, a path a line: "
    "data.train.path=train.txt data.eval.path=val.txt",
}
"""What to do where data is missing, by its place in the recipe."""


def build_tokenizer(recipe: Recipe) -> Tokenizer:
    """The untrained tokenizer, of the autoencoder and the quantizer alone.

    Raises:
        RecipeError: with every problem of the two parts, or else of where they meet.
    """
    problems: list[str] = []
    autoencoder = _build_or_note(AUTOENCODERS, recipe.autoencoder, "autoencoder", problems)
    quantizer = _build_or_note(QUANTIZERS, recipe.quantizer, "quantizer", problems)
    if autoencoder is None or quantizer is None:
        raise RecipeError("\n".join(problems))
    return Tokenizer(autoencoder, quantizer)


def build_losses(recipe: Recipe, modality: ModalityName, sample_rate: int | None = None) -> dict[str, Loss]:
    """The losses by kind, for signals of the autoencoder's sample rate.

    Raises:
        RecipeError: for one of another modality or sample rate, or one that stands twice.
    """
    losses: dict[str, Loss] = {}
    for index, node in enumerate(recipe.losses):
        loss = LOSSES.build(node, f"losses.{index}")
        if loss.modality not in (None, modality):
            raise RecipeError(f"losses.{index}: '{node['kind']}' judges {loss.modality}, the recipe trains {modality}")
        if None not in (loss.sample_rate, sample_rate) and loss.sample_rate != sample_rate:
            raise RecipeError(
                f"losses.{index}: '{node['kind']}' is for {loss.sample_rate} Hz, the recipe trains at {sample_rate} "
                "Hz; make the two rates equal"
            )
        if node["kind"] in losses:
            raise RecipeError(f"losses.{index}: '{node['kind']}' stands twice; give one of them the sum of the weights")
        losses[node["kind"]] = loss
    return losses


def build_discriminator(recipe: Recipe, autoencoder: Autoencoder) -> Discriminator | None:
    """The discriminator that a recipe trains against; None where it has no adversary.

    Raises:
        RecipeError: where it does not fit the autoencoder.
    """
    if recipe.adversary is None:
        return None
    node = recipe.adversary.discriminator
    discriminator = DISCRIMINATORS.build(node, "adversary.discriminator")
    if discriminator.modality != autoencoder.modality:
        fitting = [kind for kind in DISCRIMINATORS if DISCRIMINATORS[kind].modality == autoencoder.modality]
        raise RecipeError(
            f"adversary.discriminator: '{node['kind']}' judges {discriminator.modality}, the recipe trains "
            f"{autoencoder.modality}; expected one of: {', '.join(fitting)}"
        )
    if recipe.adversary.adaptive and autoencoder.last_layer is None:
        raise RecipeError(
            "adversary.adaptive: the weight is balanced at the decoder's last layer, which "
            f"'{recipe.autoencoder['kind']}' does not name; set adversary.adaptive=false"
        )
    return discriminator


def build_evaluation(recipe: Recipe, modality: ModalityName) -> dict[str, Metric]:
    """The metrics that the recipe names, checked against its modality."""
    try:
        return build_metrics(recipe.evaluation.metrics, modality, recipe.evaluation.weights)
    except UsageError as error:
        raise RecipeError(f"evaluation.metrics: {error}") from error


def build_training_source(
    recipe: Recipe, modality: ModalityName, sample_rate: int | None = None, way_on: str = WAYS_ON["data.train"]
) -> Source:
    """The training data.

    Args:
        recipe: names it in `data.train`.
        modality: that it must have.
        sample_rate: that it must have, in Hz; None where any will do.
        way_on: what to do where it is missing, for the message.

    Raises:
        InputError: where it cannot be found.
        RecipeError: where it is of another modality or sample rate.
    """
    return _build_source(recipe.train_data, "data.train", modality, sample_rate, way_on)


def build_evaluation_source(
    recipe: Recipe, modality: ModalityName, sample_rate: int | None = None, way_on: str = WAYS_ON["data.eval"]
) -> Source:
    """The evaluation data.

    Args:
        recipe: names it in `data.eval`.
        modality: that it must have.
        sample_rate: that it must have, in Hz; None where any will do.
        way_on: what to do where it is missing, for the message.

    Raises:
        InputError: where it cannot be found.
        RecipeError: where it is of another modality or sample rate.
    """
    return _build_source(recipe.eval_data, "data.eval", modality, sample_rate, way_on)


def _build_source(node: Node, path: str, modality: ModalityName, sample_rate: int | None, way_on: str) -> Source:
    kind = str(node.get("kind"))
    if kind in SOURCES and SOURCES[kind].modality != modality:
        raise RecipeError(f"{path}.kind: '{kind}' gives {SOURCES[kind].modality}, not {modality}")
    try:
        source = SOURCES.build(node, path)
    except InputError as error:
        raise InputError(f"{error}; {way_on}") from error
    if None not in (source.sample_rate, sample_rate) and source.sample_rate != sample_rate:
        raise RecipeError(
            f"{path}.sample_rate: '{node['kind']}' gives {source.sample_rate} Hz, the autoencoder reads {sample_rate} "
            f"Hz; set {path}.sample_rate={sample_rate}"
        )
    return source


def _build_or_note(registry: Registry[T], node: Node, path: str, problems: list[str]) -> T | None:
    """What a node names; None, with one more problem, where its constructor refuses it."""
    try:
        return registry.build(node, path)
    except RecipeError as error:
        problems.append(str(error))
        return None
