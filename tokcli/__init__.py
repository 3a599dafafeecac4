"""`tok`: train, apply and judge discrete tokenizers of images and audio.

    >>> import tokcli
    >>> tokenizer = tokcli.load("runs/quickstart")
    >>> tokens = tokenizer.encode("photos/000.png")
    >>> picture = tokenizer.decode(tokens)

What the command line does, the functions of the same names do: `train`, `evaluate`, `build_codebook`. `load` opens
what was trained, `load_tokens` what was encoded. All of them are imported when first used: `import tokcli` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokcli.commands.build_codebook import build_codebook
    from tokcli.commands.evaluate import evaluate
    from tokcli.commands.train import train
    from tokcli.errors import TokError
    from tokcli.library import LoadedTokenizer, load, load_tokens

__version__ = "0.1.0"

__all__ = ["LoadedTokenizer", "TokError", "build_codebook", "evaluate", "load", "load_tokens", "train"]

_HOMES = {
    "LoadedTokenizer": "tokcli.library",
    "TokError": "tokcli.errors",
    "build_codebook": "tokcli.commands.build_codebook",
    "evaluate": "tokcli.commands.evaluate",
    "load": "tokcli.library",
    "load_tokens": "tokcli.library",
    "train": "tokcli.commands.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tokcli' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
