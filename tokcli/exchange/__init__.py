"""Token files as the generators of the field read them, and the way back.

`tok export TOKENS --to KIND` writes one of these, `tok import FILE -m MODEL` reads it back into a token file.

To add one: a class in a file of this folder that fills in `ExchangeFormat` (check, write_part, join_parts, read); its
constructor's arguments are its options, documented under `Args:`; a line in the table below; an example in
tests/exchange/test_contract.py, which then runs the whole suite on it; and, beside that, a golden test that reads the
files as their reader does.
"""

from collections.abc import Mapping
from typing import Any

from tokcli.errors import UsageError
from tokcli.exchange.base import ExchangeFormat, ExchangeItem, Expected, TokenSet
from tokcli.exchange.binary import Binary
from tokcli.exchange.jsonl import JsonLines
from tokcli.exchange.npy_tree import NpyTree
from tokcli.exchange.parquet import Parquet
from tokcli.exchange.webdataset import WebDataset
from tokcli.registry import Registry

EXCHANGE_FORMATS: Registry[ExchangeFormat] = Registry(
    "export format",
    {"parquet": Parquet, "bin": Binary, "webdataset": WebDataset, "npy-tree": NpyTree, "jsonl": JsonLines},
    ExchangeFormat,
)

__all__ = ["EXCHANGE_FORMATS", "ExchangeFormat", "ExchangeItem", "Expected", "TokenSet", "build_format"]


def build_format(kind: str, options: Mapping[str, Any]) -> ExchangeFormat:
    """The format of that kind with those options.

    Raises:
        UsageError: for a kind or an option that there is not, or a value that an option cannot have; options are named
            by their flags.
    """
    EXCHANGE_FORMATS[kind]  # a wrong kind is said in its own words
    problems = EXCHANGE_FORMATS.problems({"kind": kind, **options}, "")
    if problems:
        flags = [
            "--" + problem.partition(":")[0].replace("_", "-") + ": " + problem.partition(": ")[2]
            for problem in problems
        ]
        raise UsageError("\n".join(flags))
    return EXCHANGE_FORMATS.build({"kind": kind, **options}, "")
