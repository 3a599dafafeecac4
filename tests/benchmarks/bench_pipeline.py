"""What the program adds to the model: the training loop against a bare one, encoding a folder against bare forwards.

    python tests/benchmarks/bench_pipeline.py [--images DIR] [--rounds 5] [--copies 10] [--json FILE]

Both sides of a ratio take turns in one process, so that a machine whose speed drifts cannot favour one of them.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy
import torch
from PIL import Image
from torch.nn import functional

from tokcli.artifacts import Artifact, save_artifact
from tokcli.commands.encode import encode
from tokcli.contracts import Item, Source
from tokcli.data.image.files import ImageFiles
from tokcli.data.items import read_items
from tokcli.recipe.build import build_tokenizer
from tokcli.recipe.recipe import from_text
from tokcli.recipe.shipped import read_shipped
from tokcli.tokenizer import Tokenizer
from tokcli.training.loop import train
from tokcli.training.parts import make_accelerator, prepare
from tokcli.training.run_folder import RunFolder

STEPS = 200
"""Enough that starting and saving, which a run does once, do not count as loop."""


class Prepared(Source):
    """Signals in memory, so that both loops read for nothing."""

    modality = "image"

    def __init__(self, count: int, size: int) -> None:
        self.names = [str(index) for index in range(count)]
        self.signals = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def load(self, index: int, draw: int = 0) -> Item:
        return Item(self.names[index], self.signals[index], tuple(self.signals.shape[2:]))

    def protocol(self) -> dict[str, object]:
        return {}


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def bare_loop(training, batches: list[torch.Tensor]) -> None:
    """The shortest loop that does the same arithmetic: forward, loss, backward, clip, step, average."""
    tokenizer, optimizer = training.tokenizer, training.optimizer
    averages = [value.detach().clone() for value in training.parameters]
    tokenizer.train()
    for signals in batches:
        signals = signals.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            output = tokenizer(signals)
        loss = functional.l1_loss(output.reconstructions[0].float(), signals) + output.quantized.loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(training.parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(averages, [value.detach() for value in training.parameters], 0.001)


def loop_overhead(rounds: int) -> dict[str, float]:
    """Our loop's time over the bare loop's, one pair a round."""
    options = [
        f"training.steps={STEPS}", "training.workers=0", "training.log_every=10", "training.checkpoint_every=1000000",
        "training.channels_last=true", "training.precision=bf16", "training.ema_decay=0.999", "evaluation.every=null",
    ]  # fmt: skip
    recipe = from_text(read_shipped("quickstart").text, "quickstart", options)
    accelerator = make_accelerator("cpu")
    source = Prepared(256, 64)
    ratios, ours = [], []
    for _ in range(rounds + 1):
        training = prepare(recipe, accelerator)
        training.train_source = source
        batches = list(source.signals.split(16)) * (STEPS // 16 + 1)
        bare = seconds(lambda: bare_loop(training, batches[:STEPS]))  # noqa: B023 - called at once
        with tempfile.TemporaryDirectory() as folder:
            run = RunFolder(pathlib.Path(folder))
            run.prepare(recipe.to_yaml())
            whole = seconds(lambda: train(training, run, lambda _: None))  # noqa: B023 - called at once
        ratios.append(whole / bare)
        ours.append(whole / STEPS)
    return {"ratio": statistics.median(ratios[1:]), "seconds_per_step": statistics.median(ours[1:])}


@torch.no_grad()
def bare_forwards(tokenizer: Tokenizer, batches: Sequence[torch.Tensor]) -> None:
    """The model alone, on batches that are in memory."""
    for batch in batches:
        tokenizer.quantizer.quantize(tokenizer.autoencoder.encode(batch))


def encode_rate(rounds: int, images: pathlib.Path, overrides: Sequence[str]) -> dict[str, float]:
    """Images a second of `tok encode` over those of bare forwards of the same tokenizer, one pair a round."""
    recipe = from_text(read_shipped("quickstart").text, "quickstart", overrides)
    tokenizer = build_tokenizer(recipe).eval()
    items = list(read_items(ImageFiles(str(images), size=256), workers=0))
    batches = torch.stack([item.signal for item in items]).split(8)
    ratios, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / "model.safetensors"
        save_artifact(model, Artifact(tokenizer, recipe, "raw"))
        for turn in range(rounds + 1):
            bare = len(items) / seconds(lambda: bare_forwards(tokenizer, batches))
            result = encode([str(images)], str(pathlib.Path(folder) / f"{turn}.npy"), model=str(model), size=256)
            ratios.append(result.items_per_second / bare)
            ours.append(result.items_per_second)
    return {"ratio": statistics.median(ratios[1:]), "items_per_second": statistics.median(ours[1:])}


def worker_rate(images: pathlib.Path, overrides: Sequence[str]) -> dict[str, float]:
    """The pictures that two workers encode into a folder in the time in which one encodes one, on two cores.

    By the records of the shards, from the first one's beginning to the last one's end: starting a command is not in it.
    One worker has the other core for its reader; small shards would cost it a new reader each, so these are of 250.
    """
    recipe = from_text(read_shipped("quickstart").text, "quickstart", overrides)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    rates = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        save_artifact(folder / "model.safetensors", Artifact(build_tokenizer(recipe).eval(), recipe, "raw"))
        for workers in (1, 2):
            tokens = folder / f"tokens-{workers}"
            command = [sys.executable, "-m", "tokcli", "encode", str(images), "-o", str(tokens), "--size", "256", "-q"]
            command += ["-m", str(folder / "model.safetensors"), "--shard-items", "250", "--device", "cpu"]
            subprocess.run([*command, "--processes", str(workers)], env=environment, check=True, capture_output=True)
            records = [(path.stat().st_mtime, json.loads(path.read_text())) for path in tokens.glob("shard-*.json")]
            took = max(end for end, _ in records) - min(end - record["seconds"] for end, record in records)
            rates[workers] = sum(record["items"] for _, record in records) / took
    return {"ratio": rates[2] / rates[1], "items_per_second": rates[2]}


def made_images(folder: pathlib.Path, count: int) -> pathlib.Path:
    """JPEG files with the size and the detail of photographs."""
    generator = numpy.random.default_rng(0)
    for index in range(count):
        coarse = generator.integers(0, 256, (48, 64, 3), dtype=numpy.uint8)
        Image.fromarray(coarse).resize((384, 288), Image.Resampling.BICUBIC).save(
            folder / f"{index:03}.jpg", quality=92
        )
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--copies", type=int, default=40, help="of the pictures, for the workers")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made, copies = pathlib.Path(folder) / "made", pathlib.Path(folder) / "copies"
        made.mkdir()
        copies.mkdir()
        images = arguments.images or made_images(made, 100)
        for number, path in enumerate(sorted(images.iterdir()) * arguments.copies):
            shutil.copyfile(path, copies / f"{number:05}{path.suffix}")
        results = {
            "two workers / one on two cores, --processes (items per second; at least 1.7)": worker_rate(copies, []),
            "training loop / bare loop (seconds; at most 1.03)": loop_overhead(arguments.rounds),
            "tok encode / bare forward, quickstart's net (items per second; at least 0.95)": encode_rate(
                arguments.rounds, images, []
            ),
            "tok encode / bare forward, twice the width and the blocks": encode_rate(
                arguments.rounds, images, ["autoencoder.width=64", "autoencoder.blocks=2", "autoencoder.groups=4"]
            ),
        }
    for name, figures in results.items():
        print(f"{name:78}  " + "  ".join(f"{key} {value:.4g}" for key, value in figures.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
