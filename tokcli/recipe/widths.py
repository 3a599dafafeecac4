"""Widths that follow from each other: what a recipe says once of the latents' channels holds for both parts.

`quantizer.dim` follows the autoencoder where it is not said; `autoencoder.latent_dim` follows the quantizer's levels,
or its `dim`, where it is not said. In a quantizer made of others it is the width within. What is said stays as it is.
"""

from typing import Any

from tokcli.contracts import Quantizer
from tokcli.quantizers import QUANTIZERS
from tokcli.quantizers.composite import CompositeQuantizer
from tokcli.schema import read_signature


def complete_widths(content: dict[str, Any]) -> None:
    """Write the width of the latents where one of the two parts leaves it out; wrong values stay for their own check.

    Args:
        content: a recipe as plain values, changed in place.
    """
    autoencoder, quantizer = content.get("autoencoder"), content.get("quantizer")
    if not isinstance(autoencoder, dict) or not isinstance(quantizer, dict):
        return
    _complete_quantizer(quantizer, autoencoder.get("latent_dim"), autoencoder.get("decoder_dim"))
    widths = _find_widths(quantizer)
    if widths is None:
        return
    read, given = widths
    autoencoder.setdefault("latent_dim", read)
    if read != given and autoencoder["latent_dim"] == read:
        autoencoder.setdefault("decoder_dim", given)


def _complete_quantizer(quantizer: dict[str, Any], latent: Any, decoded: Any) -> None:
    """Write the `dim` of a node, or of the one within it, where it is left out.

    Args:
        quantizer: the node.
        latent: channels that it is to read, as far as that is known.
        decoded: channels that it is to give, likewise.
    """
    constructor, within = _find_constructor(quantizer), quantizer.get("of")
    if constructor is None:
        return
    if issubclass(constructor, CompositeQuantizer):
        parts = _count_parts(quantizer)
        if isinstance(within, dict) and parts and quantizer.get("dim") is None:
            _complete_quantizer(within, _divide(latent, parts), _divide(decoded, parts))
        return
    ratio = constructor.latents_per_dim
    if "dim" in read_signature(constructor).parameters and "dim" not in quantizer:
        if type(decoded) is int:
            quantizer["dim"] = decoded
        elif type(latent) is int and latent > 0 and latent % ratio == 0:
            quantizer["dim"] = latent // ratio


def _find_constructor(quantizer: dict[str, Any]) -> type[Quantizer] | None:
    kind = quantizer.get("kind")
    return QUANTIZERS[kind] if isinstance(kind, str) and kind in QUANTIZERS else None


def _count_parts(quantizer: dict[str, Any]) -> int | None:
    """In how many equal parts a composite takes the channels; None where its node does not say."""
    if quantizer["kind"] != "grouped":
        return 1
    groups = quantizer.get("groups")
    return groups if type(groups) is int and groups > 0 else None


def _divide(width: Any, parts: int) -> int | None:
    return width // parts if type(width) is int and width > 0 and width % parts == 0 else None


def _find_widths(quantizer: dict[str, Any]) -> tuple[int, int] | None:
    """Channels that the quantizer reads and gives the decoder; None where its node does not say."""
    constructor, within = _find_constructor(quantizer), quantizer.get("of")
    if constructor is None:
        return None
    dim, levels = quantizer.get("dim"), quantizer.get("levels")
    if issubclass(constructor, CompositeQuantizer) and dim is None:
        widths, parts = _find_widths(within) if isinstance(within, dict) else None, _count_parts(quantizer)
        return (parts * widths[0], parts * widths[1]) if widths and parts else None
    width = len(levels) if isinstance(levels, list) else dim
    if type(width) is not int or width <= 0:
        return None
    ratio = 1 if issubclass(constructor, CompositeQuantizer) else constructor.latents_per_dim
    return ratio * width, width


def describe_followers(constructor: type[Quantizer]) -> dict[str, str]:
    """For the arguments of a quantizer that may be left out though they have no default: what they follow."""
    if "dim" not in read_signature(constructor).parameters or issubclass(constructor, CompositeQuantizer):
        return {}
    return {"dim": "half of autoencoder.latent_dim" if constructor.latents_per_dim == 2 else "autoencoder.latent_dim"}
