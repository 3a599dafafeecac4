"""Two sha256 sums that tie token files to the tokenizer that made them.

One of the network and one of the codebook in use, so that building another codebook into an artifact does not disown
the tokens that were made with the first.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tokcli.contracts import Quantizer
from tokcli.recipe.recipe import Recipe
from tokcli.tokenizer import Tokenizer


@dataclass(frozen=True)
class Fingerprints:
    """Hexadecimal sha256 sums; equal sums mean that tokens mean the same."""

    network: str
    codebook: str


def compute_fingerprints(tokenizer: Tokenizer, recipe: Recipe) -> Fingerprints:
    """Both sums of a tokenizer with a codebook in use.

    The network's covers the recipe's words for both parts too: the same weights under another activation or another
    set of levels give other tokens.
    """
    codebook = tokenizer.quantizer.codebook_tensors()
    return Fingerprints(compute_network_fingerprint(tokenizer, recipe), digest_tensors(codebook))


def compute_network_fingerprint(tokenizer: Tokenizer, recipe: Recipe) -> str:
    """The network's sum alone, which a tokenizer has before its codebook is built."""
    quantizer = tokenizer.quantizer
    network = dict(tokenizer.autoencoder.state_dict(prefix="autoencoder."))
    network |= {f"quantizer.{name}": tensor for name, tensor in _projections(quantizer).items()}
    words = json.dumps([dict(recipe.autoencoder), dict(recipe.quantizer)], sort_keys=True)
    return digest_tensors(network, words)


def digest_tensors(tensors: Mapping[str, Tensor], words: str = "") -> str:
    """sha256 over `words`, then names, types, shapes and bytes in the order of the names."""
    digest = hashlib.sha256(words.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


def _projections(quantizer: Quantizer) -> dict[str, Tensor]:
    """The learnt parameters of a quantizer that are no codebook: they belong to the network."""
    codebook = quantizer.codebook_parameters()
    return {name: tensor for name, tensor in quantizer.named_parameters() if name not in codebook}
