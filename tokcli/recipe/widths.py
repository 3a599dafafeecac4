"""Widths that follow from each other: what a recipe says once of the latents' channels holds for both parts.

`quantizer.dim` follows the autoencoder where it is not said; `autoencoder.latent_dim` follows the quantizer's levels,
or its `dim`, where it is not said. What is said stays as it is.
"""

from typing import Any

from tokcli.contracts import Quantizer
from tokcli.quantizers import QUANTIZERS
from tokcli.schema import read_signature


def complete_widths(content: dict[str, Any]) -> None:
    """Write the width of the latents where one of the two parts leaves it out; wrong values stay for their own check.

    Args:
        content: a recipe as plain values, changed in place.
    """
    autoencoder, quantizer = content.get("autoencoder"), content.get("quantizer")
    if not isinstance(autoencoder, dict) or not isinstance(quantizer, dict):
        return
    kind = quantizer.get("kind")
    if not isinstance(kind, str) or kind not in QUANTIZERS:
        return
    constructor = QUANTIZERS[kind]
    ratio = constructor.latents_per_dim
    if "dim" in read_signature(constructor).parameters and "dim" not in quantizer:
        _follow_autoencoder(autoencoder, quantizer, ratio)
    width = _find_width(quantizer)
    if width is None:
        return
    autoencoder.setdefault("latent_dim", ratio * width)
    if ratio > 1 and autoencoder["latent_dim"] == ratio * width:
        autoencoder.setdefault("decoder_dim", width)


def _follow_autoencoder(autoencoder: dict[str, Any], quantizer: dict[str, Any], ratio: int) -> None:
    latent, decoded = autoencoder.get("latent_dim"), autoencoder.get("decoder_dim")
    if type(decoded) is int:
        quantizer["dim"] = decoded
    elif type(latent) is int and latent > 0 and latent % ratio == 0:
        quantizer["dim"] = latent // ratio


def _find_width(quantizer: dict[str, Any]) -> int | None:
    """Channels that the quantizer gives the decoder, as far as its node says."""
    dim, levels = quantizer.get("dim"), quantizer.get("levels")
    width = len(levels) if isinstance(levels, list) else dim
    return width if type(width) is int and width > 0 else None


def describe_followers(constructor: type[Quantizer]) -> dict[str, str]:
    """For the arguments of a quantizer that may be left out though they have no default: what they follow."""
    if "dim" not in read_signature(constructor).parameters:
        return {}
    return {"dim": "half of autoencoder.latent_dim" if constructor.latents_per_dim == 2 else "autoencoder.latent_dim"}
