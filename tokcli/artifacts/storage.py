"""How many bits the network's numbers take in an artifact's file: what is stored is what runs.

Matrices and kernels of the autoencoder may be stored as float16 or bfloat16. They are rounded before codebooks,
fingerprints and figures are made of them, and read back as float32, which holds every such number exactly. So what was
measured is what everybody has. Vectors, tables and codebooks stay as they are: they weigh little.
"""

from typing import Literal, get_args

import torch

from tokcli.errors import UsageError
from tokcli.tokenizer import Tokenizer

Storage = Literal["float32", "float16", "bfloat16"]
STORAGES: tuple[str, ...] = get_args(Storage)
DTYPES: dict[Storage, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def list_weights(tokenizer: Tokenizer) -> dict[str, torch.nn.Parameter]:
    """The parameters that may be stored in fewer bits, by their names in an artifact."""
    network = tokenizer.autoencoder.named_parameters(prefix="autoencoder")
    return {name: value for name, value in network if value.dim() > 1 and value.dtype == torch.float32}


@torch.no_grad()
def round_weights(tokenizer: Tokenizer, storage: Storage) -> None:
    """Make the weights, in place, the nearest ones that `storage` holds.

    Raises:
        UsageError: where one of them is too large for it.
    """
    for name, value in list_weights(tokenizer).items():
        rounded = value.to(DTYPES[storage]).float()
        if not bool(rounded.isfinite().all()):
            largest = value.abs().max().item()
            raise UsageError(f"{name} holds {largest:g}, more than {storage} can; use --storage bfloat16")
        value.copy_(rounded)
