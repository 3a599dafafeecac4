"""Tables on a terminal: names and figures stay readable however narrow it is."""

import io
import pathlib
import sys

import pytest

from tokcli.__main__ import main
from tokcli.cli.console import print_table

COLUMNS = ["model", "psnr", "bits per pixel empirical", "perplexity"]
ROWS = [("vq-ema-restarts-seed0-4cdaa68cd7", 23.45, 0.1234, 12345.0), ("other", 22.0, 0.625, None)]


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_figures_are_never_cut_and_those_without_room_stand_below(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table("a title that is longer than the table " * 5, COLUMNS, ROWS, best={(0, 1)})
    printed = lines(capsys)
    assert printed[0].startswith("a title")
    assert all(len(line) <= width for line in printed[1:])
    text = "\n".join(printed)
    for figure in ("23.45 *", "0.1234", "12,345", "0.625", "22", "–"):
        assert f" {figure} │" in text
    assert sum("┏" in line for line in printed) == (2 if width == 60 else 1)


def test_a_name_is_whole_where_headings_can_give_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table("t", COLUMNS, ROWS)
    text = "\n".join(lines(capsys))
    assert "│ vq-ema-restarts-seed0-4cdaa68cd7 │" in text
    assert "bits per pixel" not in text  # on three lines


def test_a_pipe_without_arrows_gets_the_figures_all_the_same(
    tok, tiny_run: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", pipe)
    monkeypatch.setattr(sys, "argv", ["tok", "eval", "runs/tiny", "-q"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    printed = pipe.buffer.getvalue().decode("cp1252")
    assert "psnr\N{NO-BREAK SPACE}?" in printed
    assert "| tiny " in printed
