"""`--on slurm`: the same command as an array of jobs that pull shards of one folder.

A job that is cut off and comes back, or never comes, costs nothing but its time: the others take its shard.
"""

import pathlib
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence

from tokcli.errors import TokError, UsageError

OWN = {"--on": 1, "--jobs": 1, "--time": 1, "--dry-run": 0}
"""Flags that are this launcher's, and how many words follow each."""


def submit(arguments: Sequence[str], output: str, again: str, jobs: int, dry_run: bool, time: str | None = None) -> str:
    """Hand an array of jobs to Slurm; its answer, or the script that it would get.

    Args:
        arguments: of the command, as they were typed.
        output: the folder; the logs lie beside it.
        again: what a command on that folder begins with.
        jobs: how many.
        dry_run: only make the script.
        time: of each at most, as hours:minutes; None leaves it to the partition.

    Raises:
        UsageError: for a time that is none.
        TokError: where Slurm refuses, or is not here.
    """
    script = write_script(arguments, output, jobs, time)
    if dry_run:
        return script
    name_logs(output).mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(["sbatch"], input=script, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise TokError("there is no sbatch here: give this command where Slurm is, or look at --dry-run") from error
    if done.returncode:
        raise TokError(f"sbatch refused: {done.stderr.strip()}")
    return f"{done.stdout.strip()}\nnext: {again} --status\n"


def write_script(arguments: Sequence[str], output: str, jobs: int, time: str | None) -> str:
    """The script that sbatch reads."""
    if time is not None and not re.fullmatch(r"\d{1,4}:[0-5]\d", time):
        raise UsageError(f"--time: expected hours:minutes such as 4:00, got '{time[:40]}'")
    limit = [f"#SBATCH --time={time}:00"] if time else []
    command = shlex.join([sys.executable, "-m", "tokcli", *_strip(arguments)])
    logs = f'#SBATCH --output="{name_logs(output)}/%a.txt"'
    name, array = f"#SBATCH --job-name=tok-{arguments[0]}", f"#SBATCH --array=0-{jobs - 1}"
    return "\n".join(["#!/bin/bash", name, array, "#SBATCH --requeue", *limit, logs, f"exec {command}", ""])


def name_logs(output: str) -> pathlib.Path:
    """The folder of the logs: beside an output on the disk, and here for one that is elsewhere."""
    return pathlib.Path(f"{output.rstrip('/').rpartition('/')[2] if '://' in output else output}-logs")


def _strip(arguments: Sequence[str]) -> list[str]:
    """The arguments without those of this launcher."""
    kept, skip = [], 0
    for word in arguments:
        flag, equals, _ = word.partition("=")
        if skip:
            skip -= 1
        elif flag in OWN:
            skip = 0 if equals else OWN[flag]
        else:
            kept.append(word)
    return kept
