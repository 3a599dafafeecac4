"""How a command ends that nobody foresaw, or that is stopped; and outputs that are tried before the work."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from tokcli.cli import app

PACKAGE = str(pathlib.Path(__file__).parents[2])


def start(folder: pathlib.Path, *arguments: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": PACKAGE, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tokcli", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def test_an_unforeseen_error_is_one_sentence_and_a_file(tok, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by \x1b[31mnought\nsecond line")

    monkeypatch.setattr("tokcli.commands.recipes.recipes", fail)
    outcome = tok("recipes")
    assert outcome.code == 1
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith(
        r"tok: an error that tok does not know (ZeroDivisionError: by \x1b[31mnought); its traceback"
    )
    (path,) = re.findall(r"is in (\S+\.log);", line)
    log = pathlib.Path(path)
    text = log.read_text()
    log.unlink()
    assert "Traceback (most recent call last)" in text
    assert "$ tok recipes" in text
    assert "please report" in line
    monkeypatch.setenv("TOK_DEBUG", "1")
    outcome = tok("recipes", "--json")
    assert "Traceback" in outcome.err
    assert outcome.json["error"]["kind"] == "unforeseen"
    pathlib.Path(re.findall(r"is in (\S+\.log);", outcome.json["error"]["message"])[0]).unlink()


def test_a_process_that_lost_the_others_says_so(tok, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer")

    monkeypatch.setattr("tokcli.commands.recipes.recipes", fail)
    monkeypatch.setenv("WORLD_SIZE", "2")
    outcome = tok("recipes")
    assert (outcome.code, "another process of this command has ended" in outcome.err) == (1, True)


def test_a_message_has_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    app._leave(app.TokError("x" * 400_000 + "\n" + "y\n" * 5000), as_json=False)
    assert len(capsys.readouterr().err) < 3000


@pytest.mark.parametrize("verb", ["train", "encode", "decode", "build-codebook", "evaluate", "eval", "info", "bench"])
def test_ctrl_c_is_a_sentence_in_every_verb(tok, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tokcli.cli.verb.importlib.import_module", stop)
    arguments = {"train": ["quickstart"], "encode": ["a", "-o", "b.npy"], "decode": ["a", "-o", "b"], "info": ["a"]}
    outcome = tok(verb, *arguments.get(verb, []), "--json")
    assert outcome.code == 130
    assert outcome.json["error"]["kind"] == "interrupted"
    assert "stopped; " in outcome.json["error"]["message"]
    outcome = tok(verb, *arguments.get(verb, []))
    assert outcome.code == 130
    assert outcome.err.startswith("tok: stopped; ")
    assert outcome.out == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [0.15, 1.0])
def test_a_signal_at_any_moment_from_the_first_import_on(
    tmp_path: pathlib.Path, number: signal.Signals, after: float
) -> None:
    process = start(tmp_path, "train", "quickstart", "--json")
    caught = pathlib.Path(f"/proc/{process.pid}/status")
    bit = 1 << (signal.SIGTERM - 1)
    while not int(re.findall(r"SigCgt:\t(\w+)", caught.read_text())[0], 16) & bit:
        time.sleep(0.005)  # Python itself is not up yet
    time.sleep(after)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert json.loads(out)["error"]["exit_code"] == 130


def test_a_signal_inside_of_exec_leaves_with_the_documented_code(tmp_path: pathlib.Path) -> None:
    """Python kills itself with SIGINT in that case, though the exception was handled: dataclasses are made by it."""
    (tmp_path / "stopped.py").write_text(
        "import os, signal\n"
        "import tokcli.__main__ as main\n"
        "main._run = lambda _: exec('os.kill(os.getpid(), signal.SIGINT)', {'os': os, 'signal': signal})\n"
        "main.main()\n"
    )
    environment = os.environ | {"PYTHONPATH": PACKAGE}
    command = [sys.executable, "-m", "stopped"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 130
    assert ended.stderr == "tok: stopped before anything was done; the same command starts again\n"


def run_as_main(folder: pathlib.Path, body: str) -> subprocess.CompletedProcess:
    """What the command line does when the work is `body`, a function `work` that sends itself a signal."""
    lines = ["import os, signal, time", "import tokcli.__main__ as main", body, "main._run = work", "main.main()"]
    (folder / "stopped.py").write_text("\n".join(lines))
    command = [sys.executable, "-m", "stopped"]
    environment = os.environ | {"PYTHONPATH": PACKAGE}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


SWALLOWS = """
def work(_):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException:
        pass
    time.sleep(30)
    return 0
"""

CLEANS_UP = """
def work(_):
    try:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            time.sleep(0.7)
    except KeyboardInterrupt:
        time.sleep(0.7)
        print("cleaned up")
    return 130
"""


def test_an_interruption_that_a_library_swallows_comes_again(tmp_path: pathlib.Path) -> None:
    ended = run_as_main(tmp_path, SWALLOWS)
    assert ended.returncode == 130
    assert ended.stderr == "tok: stopped before anything was done; the same command starts again\n"


def test_who_leaves_already_is_left_in_peace(tmp_path: pathlib.Path) -> None:
    ended = run_as_main(tmp_path, CLEANS_UP)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "cleaned up\n", "")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["eval", "--report", "x.pdf"], 2, "x.pdf: expected a name that ends in .html"),
        (["eval", "--report", "folder.html"], 2, "folder.html is a folder"),
        (["eval", "--sheet", "x.jpg"], 2, "x.jpg: expected a name that ends in .png"),
        (["eval", "--sheet", "file/x.png"], 1, "cannot write file/x.png: Not a directory"),
        (["encode", "a", "-o", "-"], 2, "'-' is not understood here"),
        (["decode", "a", "-o", "-"], 2, "'-' is not understood here"),
        (["decode", "a", "-o", "file"], 2, "file is a file; name a folder"),
        (["recipes", "copy", "quickstart", "-o", "n" * 300], 1, "File name too long"),
        (["recipes", "copy", "quickstart", "-o", "loop/x.yaml"], 1, "loop/x.yaml: "),
        (["recipes", "copy", "quickstart", "-o", "file/x.yaml"], 1, "Not a directory"),
        (["recipes", "copy", "quickstart", "-o", "/dev/null", "--force"], 2, "is no regular file"),
        (["recipes", "copy", "quickstart", "-o", "."], 2, "is a folder"),
        (["info", "n" * 300], 1, "File name too long"),
        (["encode", "a", "-o", "b.npy", "--size", "1" * 5000], 2, "--size: expected a number"),
        (["train", "quickstart", "--out", "loop"], 1, "loop"),
    ],
)
def test_outputs_are_tried_first(tok, tmp_path: pathlib.Path, arguments: list[str], code: int, words: str) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("kept")
    (tmp_path / "loop").symlink_to("loop")
    outcome = tok(*arguments)
    assert outcome.code == code, outcome.err
    assert words in outcome.err
    assert "traceback" not in outcome.err
    assert (tmp_path / "file").read_text() == "kept"
