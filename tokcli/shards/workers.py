"""What workers of one machine that share a folder are told by what started them, through their environment."""

import os
import pathlib

LOCAL_WORKERS = "LOCAL_WORLD_SIZE"
"""How many share this machine; torchrun sets it too, and LOCAL_RANK, the number of each."""

BEGUN_FILE = "TOK_BEGUN_FILE"
"""A file to be made when the plan is there, so that the others can be started."""

JOINS = "TOK_JOINS"
"""Set where a worker joins what another has begun: `--force` was that one's."""


def count_local() -> int:
    """How many workers share this machine."""
    text = os.environ.get(LOCAL_WORKERS, "1")
    return max(1, int(text)) if text.isdecimal() else 1


def joins() -> bool:
    """Whether another worker has begun what this one is to do."""
    return JOINS in os.environ


def tell_begun() -> None:
    """Say that the plan is there."""
    if BEGUN_FILE in os.environ:
        pathlib.Path(os.environ[BEGUN_FILE]).touch()
