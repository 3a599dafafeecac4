"""Writing commands, killed at random moments or started two at a time, and what must hold afterwards.

Every command works in a copy of one folder and writes one output. Killed, it leaves the output whole or not there, and
the same command, with the option that a refusal names, ends as if nothing had happened. Of two at once each is
right or is refused, and afterwards both can be done again.
"""

import hashlib
import itertools
import os
import pathlib
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy
from hostile_base import TINY, make_pictures
from hostile_harness import Ended, end_tok, run_tok, start_tok
from safetensors.torch import load_file

from tokcli.tokens import open_tokens

VPVAE = "{kind: vpvae, dim: 3, codebook_size: 36, queue_fraction: 0.2}"
SWEEP = """columns: [psnr]
sizes: [36]
overrides: [training.steps=2, evaluation.items=2]
methods: {fsp: {recipe: tiny.yaml, by_size: {36: []}}}
evaluate: {leaves: {kind: dead-leaves, items: 2, size: 16, seed: 9}}
"""
REFUSALS = {1, 2, 4}
"""Exit codes of a command that finds another one at work, or its output half-made."""


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Attributes:
        arguments: as after `tok`, in the folder of work.
        outputs: what it writes, by their names.
        is_whole: of one output that is there: raises where it is half-made.
    """

    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    is_whole: Callable[[pathlib.Path], object]


def _load_run(path: pathlib.Path) -> None:
    load_file(path)


def _open_png(path: pathlib.Path) -> None:
    from PIL import Image

    for file in sorted(path.rglob("*.png")):
        Image.open(file).load()


def _read_page(path: pathlib.Path) -> None:
    assert path.read_text().rstrip().endswith("</html>")


def _read_tokens(path: pathlib.Path) -> None:
    assert len(list(open_tokens(path))) == 24


COMMANDS = {
    "train": Command(("train", "vpvae.yaml", "--out", "trained"), ("trained/tokenizer.safetensors",), _load_run),
    "encode npy": Command(("encode", "many", "-o", "t.npy", "-m", "runs/tiny"), ("t.npy", "t.npy.json"), lambda _: 0),
    "encode safetensors": Command(
        ("encode", "many", "-o", "t.safetensors", "-m", "runs/tiny"), ("t.safetensors",), _read_tokens
    ),
    "encode shards": Command(("encode", "many", "-o", "shards", "-m", "runs/tiny"), ("shards",), lambda _: 0),
    "decode": Command(("decode", "tokens.npy", "-o", "out", "-m", "runs/tiny"), ("out",), _open_png),
    "build-codebook": Command(
        ("build-codebook", "built/tokenizer.safetensors", "--size", "20", "--samples", "300", "--data", "many"),
        ("built/tokenizer.safetensors",),
        _load_run,
    ),
    "eval": Command(("eval", "runs/tiny", "--report", "page.html", "--sheet", "sheet.png"), ("page.html",), _read_page),
    "build-codebook shards": Command(
        (
            "build-codebook",
            "built/tokenizer.safetensors",
            *["--size", "21", "--samples", "300", "--data", "many", "--shards", "sample"],
        ),
        ("sample", "built/tokenizer.safetensors"),
        lambda _: 0,
    ),
    "eval shards": Command(("eval", "runs/tiny", "-o", "scores"), ("scores",), lambda _: 0),
    "export": Command(("export", "tokens.npy", "--to", "bin", "-o", "exported"), ("exported",), lambda _: 0),
    "import": Command(("import", "whole-export", "-m", "runs/tiny", "-o", "back.npy"), ("back.npy",), _read_tokens),
    "sweep": Command(("sweep", "table.yaml", "--out", "table", "--device", "cpu"), ("table",), lambda _: 0),
}

QUICK = [name for name in COMMANDS if name != "sweep"]
"""A sweep starts processes of its own, each of which takes seconds."""


def make_work(folder: pathlib.Path) -> None:
    """Fill an empty folder with what the commands start from; some seconds."""
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "vpvae.yaml").write_text(
        re.sub("quantizer: .*", f"quantizer: {VPVAE}", TINY).replace("name: tiny", "name: vpvae")
        + "codebook: {sizes: [36], samples: 300}\n"
    )
    (folder / "table.yaml").write_text(SWEEP)
    make_pictures(folder / "many", 24)
    for arguments in [
        ("train", "tiny.yaml"),
        ("train", "vpvae.yaml", "--out", "built"),
        ("encode", "many", "-o", "tokens.npy", "-m", "runs/tiny"),
        ("export", "tokens.npy", "--to", "bin", "-o", "whole-export"),
    ]:
        ended = run_tok(arguments, folder, seconds=120)
        assert ended.code == 0, f"{arguments}: {ended}"


def describe_output(path: pathlib.Path) -> dict[str, str]:
    """Each file of an output and its digest; a page's and a table's times of the day left out."""
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return {str(each.relative_to(path.parent)): _digest(each) for each in files if not _is_private(each)}


def _digest(path: pathlib.Path) -> str:
    content = path.read_bytes()
    if path.suffix in (".html", ".json"):
        content = re.sub(rb"\d{4}-\d\d-\d\d[T ][\d:.]+|[\d.]+ ?(s|seconds)\b|\"seconds\": [\d.e-]+", b"", content)
    return hashlib.sha256(content).hexdigest()


def _is_private(path: pathlib.Path) -> bool:
    """Locks stay; what starts with a dot is not the output."""
    return any(part.startswith(".") for part in path.parts[-3:])


def kill_at(name: str, share: float, whole: float, template: pathlib.Path, folder: pathlib.Path) -> str:
    """Kill a command after a share of the seconds that it takes, and look; "killed" or "ended" comes back.

    Args:
        name: of the command in COMMANDS.
        share: in [0, 1).
        whole: seconds of an undisturbed run.
        template: a folder of work.
        folder: a path for its copy; not there yet.

    Raises:
        AssertionError: where something was lost or half-made, or going on does not end like an undisturbed run.
    """
    shutil.copytree(template, folder)
    return _recover(
        COMMANDS[name], folder, run_tok(COMMANDS[name].arguments, folder, seconds=120, kill_after=share * whole)
    )


def count_changes(name: str, folder: pathlib.Path) -> int:
    """How often a command that is not disturbed changes what its folder holds; it does it."""
    with tempfile.NamedTemporaryFile() as file:

        def count(what: str) -> None:
            os.write(file.fileno(), b".")

        ended = run_tok(COMMANDS[name].arguments, folder, seconds=120, before_change=count)
        assert ended.code == 0, ended
        return os.stat(file.name).st_size


def kill_before(name: str, change: int, template: pathlib.Path, folder: pathlib.Path) -> str:
    """Kill a command before its change number `change`, from 0, of what its folder holds; then as `kill_at`."""
    passed = itertools.count()

    def kill(what: str) -> None:
        if next(passed) == change:
            os.kill(os.getpid(), signal.SIGKILL)

    shutil.copytree(template, folder)
    return _recover(COMMANDS[name], folder, run_tok(COMMANDS[name].arguments, folder, seconds=120, before_change=kill))


def _recover(command: Command, folder: pathlib.Path, ended: Ended) -> str:
    """Look at what a command that may have been killed has left, and go on; "killed" or "ended" comes back."""
    for output in command.outputs:
        if (folder / output).exists():
            command.is_whole(folder / output)
    if ended.code == 0:
        return "ended"
    assert ended.code == -9, ended
    go_on(command, folder)
    return "killed"


def go_on(command: Command, folder: pathlib.Path) -> None:
    """The same command until it is done, each time with the option that its refusal names."""
    arguments = command.arguments
    for path in folder.rglob(".*.tmp"):
        os.utime(path, (0, 0))  # a younger one could be somebody's who is still writing
    for _ in range(3):
        ended = run_tok(arguments, folder, seconds=120)
        if ended.code == 0:
            break
        assert ended.code in REFUSALS, ended
        assert ended.verdict == "refused", ended
        options = [option for option in ("--resume", "--force") if option in ended.err]
        assert options, ended.err
        arguments = (*command.arguments, options[0])
    assert ended.code == 0, ended
    for output in command.outputs:
        command.is_whole(folder / output)
    left = [path for path in folder.rglob("*") if re.search(r"\.(tmp|partial)$|^\..*\.tmp", path.name)]
    assert not left, f"left behind: {left}"


def start_both(
    first: str, second: str, delay: float, template: pathlib.Path, folder: pathlib.Path
) -> tuple[Ended, Ended]:
    """Two commands in one folder, the second so many seconds behind the first; then what must hold is looked at.

    Raises:
        AssertionError: where one is neither right nor refused, an output is half-made, or one cannot be done again.
    """
    shutil.copytree(template, folder)
    scratch = [folder.with_name(f"{folder.name}-{number}") for number in range(2)]
    children = []
    for name, place in zip((first, second), scratch, strict=True):
        children.append(start_tok(COMMANDS[name].arguments, folder, place))
        time.sleep(delay if len(children) == 1 else 0)
    ended = [end_tok(child, place, seconds=120) for child, place in zip(children, scratch, strict=True)]
    for each in ended:
        assert each.code == 0 or (each.code in REFUSALS and each.verdict == "refused"), each
    assert first != second or any(each.code == 0 for each in ended), ended
    for name in {first, second}:
        for output in COMMANDS[name].outputs:
            if (folder / output).exists():
                COMMANDS[name].is_whole(folder / output)
        redo(COMMANDS[name], folder)
    return ended[0], ended[1]


def redo(command: Command, folder: pathlib.Path) -> None:
    """Once more over what is there: done, done again with --force, or refused because it is done."""
    ended = run_tok(command.arguments, folder, seconds=120)
    if ended.code and "--force" in ended.err:
        ended = run_tok((*command.arguments, "--force"), folder, seconds=120)
    assert ended.code == 0 or ended.verdict == "refused", ended
    for output in command.outputs:
        command.is_whole(folder / output)


def compare_with(reference: dict[str, dict[str, str]], name: str, folder: pathlib.Path) -> None:
    """Every output of a command is what an undisturbed run writes.

    Raises:
        AssertionError: naming the files that differ.
    """
    found = {output: describe_output(folder / output) for output in COMMANDS[name].outputs}
    for output, files in reference.items():
        differing = [file for file in files.keys() | found[output].keys() if files.get(file) != found[output].get(file)]
        assert not differing, f"{name}: {differing} differ from those of an undisturbed run"


def seeded_shares(seed: int, count: int) -> list[float]:
    """Moments to kill at, as shares of a whole run."""
    return numpy.random.default_rng(seed).random(count).tolist()
