"""Weights of networks made elsewhere: official files in torch hub's folder, fetched once and checked, or a user's own.

`TOK_OFFLINE=1` keeps from the network: what is absent is then asked for, by name and place.
"""

import hashlib
import pathlib
import socket
import sys
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import urlsplit

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from tokcli.errors import InputError
from tokcli.files import require_regular
from tokcli.locking import wait
from tokcli.optional import OFFLINE, is_offline
from tokcli.progress import SILENT, listener

PATIENCE = 30.0
"""Seconds without an answer after which a server is given up."""


@dataclass(frozen=True)
class OfficialFile:
    """A weight file that its makers offer.

    Attributes:
        name: its stem ends in the first digits of the sha256 of its content.
        folder: the address of the folder that offers it.
        megabytes: of 1,000,000 bytes.
        needed_by: what asks for it; begins messages.
        way_on: what a user without a network can do besides fetching it; may be empty.
    """

    name: str
    folder: str
    megabytes: int
    needed_by: str
    way_on: str = ""

    @property
    def address(self) -> str:
        """Where it is offered."""
        return f"{self.folder}/{self.name}"

    @property
    def digest(self) -> str:
        """The first digits of its sha256."""
        return pathlib.PurePath(self.name).stem.rpartition("-")[2]


def load_official_weights(file: OfficialFile) -> dict[str, Tensor]:
    """The tensors of an official file, which is fetched first where it is absent.

    Raises:
        InputError: it is absent and cannot be fetched, or is not the official one.
    """
    path = find_weight_file(file.name)
    if not path.is_file():
        _fetch(file, path)
    _check(file, path)
    # The one place that reads a .pth: official weights come in no other form. Its content has been checked against
    # the sha256 in its name, and weights_only admits tensors alone. The file: address leaves the network out.
    return torch.hub.load_state_dict_from_url(
        path.as_uri(), model_dir=str(path.parent), map_location="cpu", progress=False, weights_only=True
    )


def find_weight_file(name: str) -> pathlib.Path:
    """Where the file `name` lies, or would."""
    return pathlib.Path(torch.hub.get_dir()).resolve() / "checkpoints" / name


def read_local_weights(path: pathlib.Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a user's safetensors file, and the sha256 of its content.

    Raises:
        InputError: there is no such file, or it is no safetensors file.
    """
    require_regular(path)
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is not a safetensors file ({error}); nothing else is read as weights") from error
    return tensors, compute_digest(path)


def compute_digest(path: pathlib.Path) -> str:
    """The sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(file: OfficialFile, path: pathlib.Path) -> None:
    """Bring an official file into torch hub's folder; other processes that want it wait for the first."""
    absent = (
        f"{file.needed_by} needs the file {file.name}, which is not in {path.parent}; "
        f"download {file.address} and put it there (TORCH_HOME moves that folder){file.way_on}"
    )
    if is_offline():
        raise InputError(f"{absent}; {OFFLINE} is set, so nothing was fetched")
    reporter = listener()
    try:
        with wait(path.with_name(f".{file.name}.lock"), path, reporter):
            if path.is_file():
                return
            host = urlsplit(file.address).hostname
            reporter.note(
                f"{file.needed_by}: fetching {file.name} ({file.megabytes} MB) from {host} into {path.parent}, once; "
                f"{OFFLINE}=1 forbids it"
            )
            _download(file, path, shown=reporter is not SILENT and sys.stderr.isatty())
            reporter.note(f"fetched {path}; its sha256 begins with {file.digest}, as it should")
    except (OSError, HTTPException, RuntimeError) as error:  # torch hub's name for a wrong sum is RuntimeError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{absent}; fetching it failed: {reason}") from error


def _download(file: OfficialFile, path: pathlib.Path, shown: bool) -> None:
    """Through torch hub, which writes beside `path`, compares the sum and moves the file into place."""
    former = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        torch.hub.download_url_to_file(file.address, str(path), hash_prefix=file.digest, progress=shown)
    finally:
        socket.setdefaulttimeout(former)


def _check(file: OfficialFile, path: pathlib.Path) -> None:
    """Raise InputError where what lies at `path` is not the official file."""
    found = compute_digest(path)[: len(file.digest)]
    if found != file.digest:
        raise InputError(
            f"{path} is not the official file: its sha256 begins with {found}, expected {file.digest}; "
            f"remove it, and it is fetched again from {file.address}"
        )
