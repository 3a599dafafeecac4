"""Help is written for who reads it: every command once, nothing cut off, no types of a programming language."""

import pytest

COMMANDS = [
    "train",
    "build-codebook",
    "encode",
    "decode",
    "evaluate",
    "sweep",
    "bench",
    "probe",
    "info",
    "recipes",
    "export",
    "import",
    "push",
    "pull",
]

PANELS = ["Make tokens:", "Judge:", "Look:", "Exchange:"]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch, tok):
    """The command line on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return tok


def test_commands_are_listed_once_each_and_in_whole_sentences(narrow) -> None:
    told = narrow("--help").out
    whole = told[told.index(PANELS[0]) :].partition("\n\n  Start with")[0].splitlines()
    assert [line for line in whole if line and not line.startswith(" ")] == PANELS
    listed = [line for line in whole if line.startswith("  ")]
    assert [line.split()[0] for line in listed] == COMMANDS
    for line in listed:
        assert line.endswith("."), line
        assert not line.endswith("..."), line


@pytest.mark.parametrize("command", [*COMMANDS, "eval"])
def test_no_command_speaks_of_types_or_says_a_default_twice(narrow, command: str) -> None:
    told = narrow(command, "--help").out
    assert "<" not in told
    assert told.count("[default: list]") == (command == "recipes")


def test_usage_shows_what_can_be_left_out_and_what_repeats(narrow) -> None:
    told = narrow("train", "--help").out
    assert "Usage: tok train [OPTIONS] [RECIPE] [KEY.PATH=VALUE]...\n" in told
    assert "--processes N|auto " in told
    assert "Usage: tok recipes [OPTIONS] [list|show|copy|explain] [NAME] [KIND]\n" in narrow("recipes", "--help").out
