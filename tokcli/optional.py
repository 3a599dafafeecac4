"""What may be absent: libraries that only some users need, asked for by name, and the network, if forbidden."""

import importlib
import os
from types import ModuleType

from tokcli.errors import UsageError

OFFLINE = "TOK_OFFLINE"
"""The environment variable that forbids the network."""


def is_offline() -> bool:
    """Whether the network is forbidden."""
    return os.environ.get(OFFLINE, "0") not in ("", "0")


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or say how to install it, and which extra of this project brings it.

    The library is named rather than `tokcli[extra]`, which pip would look for on an index. Raises UsageError.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name != package:
            raise
        name = package.replace("_", "-")
        raise UsageError(f"{name} is not installed; run: pip install {name} (extra: {extra})") from error
