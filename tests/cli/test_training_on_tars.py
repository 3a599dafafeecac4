"""Training on tars by real commands: whoever is killed and however many processes go on, the same items are read.

A step's noise and dropout differ from rank to rank, so the recipe here has neither: what is left between one process
and two is the order in which gradients are added up.
"""

import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from io import BytesIO

import numpy
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from tokcli.data.batches import TrainingOrder

STEPS, BATCH, SEED, EVERY = 60, 4, 3, 5
TARS, ITEMS = 10, 9
"""Windows are of four tars, and there are 90 items: an epoch ends within a step."""

PATIENCE = 200.0

LOGGED = """
import os

from tokcli.data.image.files import ImageFiles


class Logged(ImageFiles):
    '''Pictures that keep a list of who read them.'''

    def load(self, index, draw=0):
        if draw:
            line = f"{os.getpid()} {os.environ.get('RANK', 0)} {os.environ.get('WORLD_SIZE', 1)} {index} {draw}"
            with open(os.environ["READS"], "a") as file:
                file.write(line + chr(10))
        return super().load(index, draw)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Tars, a recipe, and `whole`, a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("tars")
    generator = numpy.random.default_rng(0)
    for shard in range(TARS):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for number in range(ITEMS):
                content = BytesIO()
                coarse = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=numpy.uint8))
                coarse.resize((20, 24)).save(content, "PNG")
                member = tarfile.TarInfo(f"{number}.png")
                member.size = len(content.getvalue())
                tar.addfile(member, BytesIO(content.getvalue()))
    (folder / "logged.py").write_text(LOGGED)
    training = {"steps": STEPS, "batch_size": BATCH, "learning_rate": 1e-3, "ema_decay": 0.9, "workers": 0}
    source = {"kind": "logged:Logged", "path": f"{{0..{TARS - 1}}}.tar", "size": 16, "crop": "random", "flip": True}
    recipe = {
        "name": "packed",
        "seed": SEED,
        "data": {"train": source, "eval": {"kind": "images", "path": "0.tar", "size": 16}},
        "autoencoder": {
            "kind": "vqgan", "latent_dim": 3, "width": 8, "multipliers": [1, 1], "blocks": 1, "patch": 2, "groups": 2,
        },
        "quantizer": {"kind": "fsq", "levels": [4, 3, 3]},
        "losses": [{"kind": "l1"}],
        "training": training | {"log_every": 2, "checkpoint_every": EVERY},
        "evaluation": {"every": 25, "batch_size": 4, "metrics": ["psnr"]},
    }  # fmt: skip
    (folder / "packed.yaml").write_text(yaml.safe_dump(recipe))
    assert start(folder, "whole").wait(PATIENCE) == 0, (folder / "whole.log").read_text()
    assert check_reads(folder, "whole") == [0]
    return folder


def start(folder: pathlib.Path, run: str, *before: str, more: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """`tok train` into a run; `before`: what starts it, other than Python."""
    package = str(pathlib.Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": f"{package}:{folder}", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    words = ["-m", "tokcli", "train", "packed.yaml", "--out", run, "--device", "cpu", "--quiet", *more]
    log = (folder / f"{run}.log").open("ab")
    return subprocess.Popen(
        [sys.executable, *before, *words],
        cwd=folder,
        env=environment | {"READS": str(folder / f"{run}.reads")},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def read_lines(folder: pathlib.Path, run: str) -> list[list[int]]:
    """(process, rank, world, index, draw) of each item that was read, in order."""
    path = folder / f"{run}.reads"
    text = path.read_text() if path.exists() else ""
    return [list(map(int, line.split())) for line in text.splitlines()]


def wait_for(processes: Sequence[subprocess.Popen[bytes]], reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert all(process.poll() is None for process in processes), "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def kill_at_random(
    folder: pathlib.Path, run: str, processes: Sequence[subprocess.Popen[bytes]], step: int, seed: int
) -> None:
    """Kill -9 everyone, at a random moment behind the checkpoint of a step."""
    wait_for(processes, lambda: (folder / run / "checkpoints" / f"step-{step:08d}.safetensors").exists())
    time.sleep(random.Random(seed).random() / 10)
    workers = {line[0] for line in read_lines(folder, run)[-2 * BATCH :]}
    assert all(process.poll() is None for process in processes), "it ended before it could be killed"
    for number in {*(process.pid for process in processes), *workers}:
        os.kill(number, signal.SIGKILL)
    for process in processes:
        process.wait(PATIENCE)


def check_reads(folder: pathlib.Path, run: str) -> list[int]:
    """Compare what was read with what the order says, for every process; the steps that they began at, in order."""
    starts = numpy.arange(TARS + 1) * ITEMS
    begun: list[int] = []
    reached = 0
    lines = read_lines(folder, run)
    for process in dict.fromkeys(line[0] for line in lines):
        own = [line for line in lines if line[0] == process]
        rank, world = own[0][1:3]
        share = BATCH // world
        pairs = [(index, draw) for *_, index, draw in own]
        batches = [TrainingOrder(TARS * ITEMS, BATCH, SEED, rank, world, starts).batch(step) for step in range(STEPS)]
        first = next(step for step in range(STEPS) if batches[step][0] == pairs[0])
        assert first % EVERY == 0
        assert pairs == [pair for batch in batches[first:] for pair in batch][: len(pairs)]
        assert first <= reached
        reached = max(reached, first + len(pairs) // share)
        begun.append(first)
    assert reached == STEPS
    return begun


def compare(folder: pathlib.Path, run: str) -> float:
    """The largest difference between the weights of a run and those of the undisturbed one."""
    whole, other = (load_file(folder / name / "tokenizer.safetensors") for name in ("whole", run))
    assert whole.keys() == other.keys()
    return max(float((whole[name].double() - other[name].double()).abs().max()) for name in whole)


@pytest.mark.slow
def test_a_training_killed_in_mid_epoch_ends_byte_for_byte_like_one_that_was_not(folder: pathlib.Path) -> None:
    for step in (15, 35):
        kill_at_random(folder, "parts", [start(folder, "parts")], step, seed=step)
    assert start(folder, "parts").wait(PATIENCE) == 0, (folder / "parts.log").read_text()
    begun = check_reads(folder, "parts")
    assert len(begun) == 3
    assert begun[2] > begun[1] > begun[0] == 0
    whole, parts = (load_file(folder / name / "tokenizer.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())
    whole, parts = (folder / name / "checkpoints" / f"step-{STEPS:08d}.safetensors" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


@pytest.mark.slow
def test_one_process_then_two_then_one_read_the_same_items(folder: pathlib.Path) -> None:
    for step, more in ((15, []), (35, ["--processes", "2"])):
        kill_at_random(folder, "shared", [start(folder, "shared", more=more)], step, seed=step)
    assert start(folder, "shared").wait(PATIENCE) == 0, (folder / "shared.log").read_text()
    begun = check_reads(folder, "shared")
    assert len(begun) == 4
    assert begun[3] > begun[2] == begun[1] > begun[0] == 0
    assert compare(folder, "shared") < 1e-5


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_training_in_a_sentence(folder: pathlib.Path) -> None:
    training = start(folder, "lost", more=["--processes", "2"])
    wait_for([training], lambda: len(read_lines(folder, "lost")) > 20)
    killed = random.Random(0).choice(sorted({line[0] for line in read_lines(folder, "lost")}))
    os.kill(killed, signal.SIGKILL)
    assert training.wait(PATIENCE) == 1
    told = (folder / "lost.log").read_text()
    assert "a process of this command was killed by signal 9, and the others ended with it" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_two_machines_begin_and_one_goes_on(folder: pathlib.Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    agents = [
        start(
            folder,
            "nodes",
            *("-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", f"--node-rank={rank}"),
            *("--master-addr=127.0.0.1", f"--master-port={port}"),
        )
        for rank in range(2)
    ]
    kill_at_random(folder, "nodes", agents, 25, seed=0)
    assert {(rank, world) for _, rank, world, *_ in read_lines(folder, "nodes")} == {(0, 2), (1, 2)}
    assert start(folder, "nodes").wait(PATIENCE) == 0, (folder / "nodes.log").read_text()
    assert len(check_reads(folder, "nodes")) == 3
    assert compare(folder, "nodes") < 1e-5
