"""Token files: what `tok encode` writes and `tok decode` reads, never pickled.

To add a format: a subclass of `TokenFormat` in a file of this folder, and a line in `FORMATS`. It writes from a
finished spool (`publish`), reads lazily (`open`), and says which paths are its own (`suffix`, `accepts`); names,
resuming, refusals, messages and the help of the command line are then there. `tests/tokens/test_contract.py` runs on
every line of the table. A path belongs to the first format that accepts it, so a format that keeps folders of its own
stands before the one that takes every folder.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokcli.tokens.format import TokenFormat, format_of, has_header, open_tokens
    from tokcli.tokens.header import TokenHeader, TokenItem, TokenRecord
    from tokcli.tokens.reading import TokenReader
    from tokcli.tokens.writing import TokenWriter, open_writer

__all__ = [
    "FORMATS",
    "TokenFormat",
    "TokenHeader",
    "TokenItem",
    "TokenReader",
    "TokenRecord",
    "TokenWriter",
    "format_of",
    "has_header",
    "open_tokens",
    "open_writer",
]

FORMATS = {
    "tokens.npy": "tokcli.tokens.npy:Npy",
    "tokens.safetensors": "tokcli.tokens.safetensors:Safetensors",
    "a folder": "tokcli.tokens.shards:Shards",
}
"""Where each format is, by what help says of its paths. Words, so that help needs neither numpy nor torch."""


def __getattr__(name: str) -> Any:
    """What `__all__` lists, imported when it is first asked for."""
    for module in ("format", "header", "reading", "writing"):
        if name in __all__ and hasattr(found := importlib.import_module(f"tokcli.tokens.{module}"), name):
            return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
