"""From tensors under a publisher's names to a tokenizer of ours with the same tokens and the same pictures.

names and shapes -> the network's recipe -> a tokenizer -> every tensor of theirs in its place, none left over
"""

import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokcli.artifacts.promises import build_as_promised, load_strictly
from tokcli.errors import MismatchError, RecipeError, quote
from tokcli.foreign_weights.naming import CODES, NAMINGS, Naming, Shape, find_naming, map_names, read_shape
from tokcli.recipe.recipe import Recipe, from_dict
from tokcli.tokenizer import Tokenizer

GROUPS = 32
"""Of every GroupNorm in these networks."""

NAMED = 6
"""Tensors that a message names."""

UNKNOWN = "unknown"
"""What is said of data that nobody recorded."""

USUAL_SIZE = 256
"""Side of the square pictures that these publishers train and judge on; the weights do not say it."""


@dataclass(frozen=True)
class Foreign:
    """An imported tokenizer.

    Attributes:
        tokenizer: with the weights in their places.
        recipe: of the network; its data is unknown, its losses and its training are ours to begin from.
        tensors: how many were taken over.
        ignored: how many were left out by their names.
    """

    tokenizer: Tokenizer
    recipe: Recipe
    tensors: int
    ignored: int


def convert(path: pathlib.Path, tensors: Mapping[str, Tensor], publisher: str, licence: str | None = None) -> Foreign:
    """The tokenizer whose weights these are.

    Args:
        path: of the file, for messages, and for the recipe's name.
        tensors: by the publisher's names.
        publisher: whose names they are, a key of NAMINGS.
        licence: of the weights; None: nobody said.

    Raises:
        UsageError: there is no such publisher.
        MismatchError: tensors do not fit, lack, or are too many, or are of a network that is not taken over.
    """
    naming = find_naming(publisher)
    wanted = {name: tensor for name, tensor in tensors.items() if not name.startswith(naming.ignored)}
    _refuse_others(path, wanted, publisher)
    try:
        shape = read_shape(naming, wanted)
    except MismatchError as error:
        raise MismatchError(f"{path} is not of {naming.title}: {error}{_hint(wanted, publisher)}") from error
    _check_values(path, wanted)
    try:
        recipe = _make_recipe(path, naming, shape, licence)
        tokenizer = build_as_promised(path, recipe, wanted)
    except RecipeError as error:
        raise MismatchError(f"{path}: its shapes make no network of {naming.title}: {error}") from error
    _require_groups(path, tokenizer.autoencoder)
    own = _rename(path, tokenizer, map_names(naming, shape), wanted)
    load_strictly(path, tokenizer, own, {})
    return Foreign(tokenizer.eval().requires_grad_(False), recipe, len(wanted), len(tensors) - len(wanted))


def _refuse_others(path: pathlib.Path, tensors: Mapping[str, Tensor], publisher: str) -> None:
    """Raise MismatchError for networks of the same names whose tokens are no nearest codes of three-colour pictures."""
    if "quantize.embed.weight" in tensors or "quantize.proj.weight" in tensors:
        raise MismatchError(
            f"{path} is a Gumbel VQGAN: its encoder gives a score for each code, and no latents; import one that has "
            f"{CODES}"
        )
    stem = tensors.get("encoder.conv_in.weight")
    if stem is not None and stem.dim() == 4 and stem.shape[1] != 3:
        raise MismatchError(f"{path} reads pictures of {stem.shape[1]} channels; only those of 3 are imported")
    if CODES not in tensors and "quant_conv.weight" in tensors:
        raise MismatchError(
            f"{path} has no codebook ({CODES}): it is no discrete tokenizer; import a VQGAN, "
            f"as {NAMINGS[publisher].title}"
        )


def _hint(tensors: Mapping[str, Tensor], publisher: str) -> str:
    """The end of a sentence: whose names these are instead, where that is known, or some of them."""
    for name, naming in NAMINGS.items():
        beginning = f"{naming.encoder_level.format(0)}.{naming.block}."
        if name != publisher and any(each.startswith(beginning) for each in tensors):
            return f"; its names are those of {naming.title}: --as {name}"
    return f"; its names begin {', '.join(quote(name) for name in sorted(tensors)[:3])}"


def _check_values(path: pathlib.Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise MismatchError for what is no finite number."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.layout != torch.strided:
            kind = f"{tensor.dtype}, {tensor.layout}".replace("torch.", "")
            raise MismatchError(f"{path}: {name} is of {kind}; expected weights of floating point, all of them there")
        if not bool(tensor.isfinite().all()):
            raise MismatchError(f"{path} is of no use: {name} holds values that are not finite")


def _make_recipe(path: pathlib.Path, naming: Naming, shape: Shape, licence: str | None) -> Recipe:
    """The recipe of the network. Raises RecipeError."""
    width = math.gcd(*shape.widths)
    unknown = {"kind": "images", "path": UNKNOWN, "size": USUAL_SIZE}
    return from_dict(
        {
            "name": re.sub(r"[^\w.-]+", "-", path.stem).strip(".-") or "imported",
            **({"licence": licence} if licence is not None else {}),
            "data": {"train": {**unknown, "crop": "random", "flip": True}, "eval": unknown},
            "autoencoder": {
                "kind": "vqgan",
                "latent_dim": shape.latents,
                "width": width,
                "multipliers": [each // width for each in shape.widths],
                "blocks": shape.blocks,
                "attention": shape.attention,
                "groups": GROUPS,
                "feature_dim": shape.features,
                "always_project": True,
            },
            "quantizer": {
                "kind": "vq",
                "dim": shape.latents,
                "codebook_size": shape.codes,
                "cosine": naming.cosine,
            },
            "losses": [{"kind": "l1"}],
            "training": {"steps": 10_000, "learning_rate": 1e-5},
        }
    )


def _require_groups(path: pathlib.Path, network: nn.Module) -> None:
    """Raise MismatchError where a GroupNorm of ours has other groups than theirs would."""
    for module in network.modules():
        if isinstance(module, nn.GroupNorm) and module.num_groups != GROUPS:
            raise MismatchError(
                f"{path} has a layer of {module.num_channels} channels, too few for {GROUPS} groups of at least 4; "
                "networks whose layers have multiples of 128 channels are imported"
            )


def _rename(
    path: pathlib.Path, tokenizer: Tokenizer, modules: Mapping[str, Sequence[str]], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Their tensors by our names and in our shapes. Raises MismatchError, with the names of those that do not fit."""
    state = dict(tokenizer.state_dict())
    theirs = {"quantizer.codebook": (CODES,)}
    for name in state:
        module, _, kind = name.removeprefix("autoencoder.").rpartition(".")
        theirs |= {name: tuple(f"{each}.{kind}" for each in modules[module])} if module in modules else {}
    expected = {each: (name, len(those)) for name, those in theirs.items() for each in those}
    problems = [("lacks", [name for name in expected if name not in tensors])]
    problems += [("has too many", sorted(tensors.keys() - expected.keys()))]
    unfit = []
    for name, (own, parts) in expected.items():
        shape = [state[own].shape[0] // parts, *state[own].shape[1:]]
        given = list(tensors[name].shape) if name in tensors else shape
        if given != shape and not (tensors[name].dim() == 4 and given == [*shape, 1, 1]):
            unfit.append(f"{name} {given} in the place of {shape}")
    problems += [("has of another shape", unfit)]
    told = [f"{verb} {_list(names)}" for verb, names in problems if names]
    if told:
        raise MismatchError(f"{path} does not fit: it {'; it '.join(told)}")
    return {
        name: torch.cat([tensors[each] for each in those]).reshape(state[name].shape).float()
        for name, those in theirs.items()
    }


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} tensor{'s' * (len(names) != 1)}: {', '.join(names[:NAMED])}{more}"
