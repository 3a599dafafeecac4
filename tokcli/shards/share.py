"""`--shard I/N`: which shards of a plan one of N workers takes, said by hand or by what started it."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokcli.errors import UsageError

COUNTED = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", ""),
    ("RANK", "WORLD_SIZE", ""),
)
"""What Slurm's arrays, Kubernetes' indexed jobs and torchrun tell a worker: its number, how many there are, and the
smallest number."""


@dataclass(frozen=True)
class Share:
    """Every `workers`-th shard from `worker` on.

    Attributes:
        worker: from 0.
        workers: how many there are.
    """

    worker: int
    workers: int

    def of(self, shards: int) -> Sequence[int]:
        """The worker's shards among so many."""
        return range(self.worker, shards, self.workers)


EVERY = Share(0, 1)
"""Any shard: workers that share nothing out pull what is left."""


def read_share(text: str | None, environment: Mapping[str, str] = os.environ) -> Share:
    """What `--shard` means: `3/64`, `auto`, or nothing.

    Raises:
        UsageError: where it means nothing.
    """
    if text is None:
        return EVERY
    if text == "auto":
        return _read_environment(environment)
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not match or int(match[1]) >= int(match[2]):
        raise UsageError(f"--shard: expected I/N with I from 0 to N-1, such as 3/64, or auto; got '{text[:40]}'")
    return Share(int(match[1]), int(match[2]))


def _read_environment(environment: Mapping[str, str]) -> Share:
    for number, count, least in COUNTED:
        if number not in environment:
            continue
        if number == "JOB_COMPLETION_INDEX" and count not in environment:
            return EVERY  # Kubernetes does not say how many there are; pulling needs not know
        try:
            share = Share(int(environment[number]) - int(environment.get(least, 0)), int(environment[count]))
        except (KeyError, ValueError):
            raise UsageError(f"--shard auto: {number} is set and {count} is no number; say --shard I/N") from None
        if not 0 <= share.worker < share.workers:
            raise UsageError(
                f"--shard auto: {number} {environment[number]} is not below {count} {environment[count]}; say --shard "
                "I/N"
            )
        return share
    names = ", ".join(f"{number} and {count}" for number, count, _ in COUNTED)
    raise UsageError(f"--shard auto: nothing says which worker this is; expected one of {names}, or --shard I/N")
