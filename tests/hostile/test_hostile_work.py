"""Writing commands killed at random moments and before each change of a file, and two of them at once.

`hostile_work.py` says what must hold.
"""

import itertools
import pathlib
import shutil

import pytest
from hostile_harness import run_tok
from hostile_work import (
    COMMANDS,
    QUICK,
    compare_with,
    count_changes,
    describe_output,
    kill_at,
    kill_before,
    make_work,
    seeded_shares,
    start_both,
)

KILLS = 8
"""Of each command, with `-m slow`: in the middle of a write, for between any two of them it is killed too."""

TRIES = 2
"""Of each pair of commands, with `-m slow`."""


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder that commands start from."""
    folder = tmp_path_factory.mktemp("work")
    make_work(folder)
    return folder


def try_kills(name: str, shares: list[float], work: pathlib.Path, scratch: pathlib.Path) -> list[str]:
    """Kill a command so often, and compare what it ends in with what it writes undisturbed."""
    shutil.copytree(work, scratch / "whole")
    whole = run_tok(COMMANDS[name].arguments, scratch / "whole", seconds=120)
    assert whole.code == 0, whole
    reference = {output: describe_output(scratch / "whole" / output) for output in COMMANDS[name].outputs}
    ends = []
    for number, share in enumerate(shares):
        folder = scratch / f"killed-{number}"
        ends.append(kill_at(name, share, whole.seconds, work, folder))
        if name not in ("eval", "sweep"):  # their files hold the time that they took
            compare_with(reference, name, folder)
        shutil.rmtree(folder)
    return ends


@pytest.mark.parametrize("name", ["train", "encode npy", "decode", "build-codebook"])
def test_a_command_killed_at_random_loses_nothing(name: str, work: pathlib.Path, tmp_path: pathlib.Path) -> None:
    try_kills(name, [0.5], work, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(QUICK))
def test_many_kills_lose_nothing(name: str, work: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert "killed" in try_kills(name, seeded_shares(0, KILLS), work, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(QUICK))
def test_a_kill_before_any_change_of_a_file_loses_nothing(
    name: str, work: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(work, tmp_path / "whole")
    changes = count_changes(name, tmp_path / "whole")
    reference = {output: describe_output(tmp_path / "whole" / output) for output in COMMANDS[name].outputs}
    for change in range(changes):
        folder = tmp_path / f"killed-{change}"
        assert kill_before(name, change, work, folder) == "killed"
        if name != "eval":  # its page holds the time that it took
            compare_with(reference, name, folder)
        shutil.rmtree(folder)


def test_two_commands_at_once_are_right_or_refused(work: pathlib.Path, tmp_path: pathlib.Path) -> None:
    start_both("encode npy", "encode npy", 0.0, work, tmp_path / "both")


@pytest.mark.slow
@pytest.mark.parametrize("pair", list(itertools.combinations_with_replacement(sorted(QUICK), 2)), ids=" + ".join)
def test_every_two_commands_at_once_are_right_or_refused(
    pair: tuple[str, str], work: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for number, share in enumerate(seeded_shares(1, TRIES)):
        start_both(*pair, share, work, tmp_path / f"both-{number}")
        shutil.rmtree(tmp_path / f"both-{number}")
