"""Official weight files that the user brings: found in torch hub's folder, checked, and never fetched."""

import hashlib
import pathlib

import torch
from torch import Tensor

from tokcli.errors import InputError


def load_official_weights(name: str, source: str, needed_by: str) -> dict[str, Tensor]:
    """The tensors of the file `name`, whose stem ends in the first digits of the sha256 of its content.

    source: the address of the folder that offers it. needed_by: what asks for it; begins the message.
    Raises InputError where the file is absent or is not the official one.
    """
    path = _checked(name, source, needed_by)
    # The one place that reads a .pth: official weights come in no other form. Its content has been checked against
    # the sha256 in its name, and weights_only admits tensors alone. The file: address leaves the network out.
    return torch.hub.load_state_dict_from_url(
        path.as_uri(), model_dir=str(path.parent), map_location="cpu", progress=False, weights_only=True
    )


def find_weight_file(name: str) -> pathlib.Path:
    """Where the file `name` lies, or would."""
    return pathlib.Path(torch.hub.get_dir()).resolve() / "checkpoints" / name


def _checked(name: str, source: str, needed_by: str) -> pathlib.Path:
    """Where the file lies, after checking that it is there and is the official one."""
    path = find_weight_file(name)
    if not path.is_file():
        raise InputError(
            f"{needed_by} needs the file {name}, which is not in {path.parent}; "
            f"download {source}/{name} and put it there (TORCH_HOME moves that folder)"
        )
    expected = path.stem.rpartition("-")[2]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()[: len(expected)]
    if found != expected:
        raise InputError(
            f"{path} is not the official file: its sha256 begins with {found}, expected {expected}; "
            f"download {source}/{name} again and put it there"
        )
    return path
