"""What a GPU makes of image-vqgan's net: steps, the share of every quantizer, encoding against bare forwards.

    python tests/benchmarks/bench_gpu.py [--device cuda] [--json FILE]      # some minutes of a GPU, at 256²
    python tests/benchmarks/bench_gpu.py --tiny --device cpu                # seconds, to see that it runs

A quantizer's share is its time over that of the whole forward and backward, each timed alone; `readers` is how many
processes must read for the device never to wait, by the seconds an item takes to read and to encode.
"""

import argparse
import json
import math
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tokcli.artifacts import Artifact, save_artifact
from tokcli.commands.encode import encode
from tokcli.commands.encoded import Encoded
from tokcli.data.image.files import ImageFiles
from tokcli.recipe.build import build_tokenizer
from tokcli.recipe.recipe import Recipe, from_text
from tokcli.recipe.shipped import read_shipped
from tokcli.tokenizer import Tokenizer

SIZES = (256, 1024, 16384)
LEVELS = {256: [8, 8, 4], 1024: [8, 8, 4, 4], 16384: [8, 8, 8, 8, 4]}
"""Products of levels that make K."""

QUANTIZERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "vq": lambda size: {"kind": "vq", "codebook_size": size, "dim": 8},
    "simvq": lambda size: {"kind": "simvq", "codebook_size": size, "dim": 8},
    "fsq": lambda size: {"kind": "fsq", "levels": LEVELS[size]},
    "fsp": lambda size: {"kind": "fsp", "levels": LEVELS[size]},
    "vpvae": lambda size: {"kind": "vpvae", "codebook_size": size, "dim": 8},
}


@dataclass(frozen=True)
class Setting:
    """How much is measured.

    Attributes:
        overrides: of the recipe image-vqgan.
        side: of the pictures in pixels.
        batch: pictures of a step.
        repeats: of everything that is timed; the median counts.
        pictures: that are encoded.
        sizes: of codebooks.
    """

    overrides: tuple[str, ...]
    side: int
    batch: int
    repeats: int
    pictures: int
    sizes: tuple[int, ...]


WHOLE = Setting((), 256, 16, 20, 2000, SIZES)
SMALL_NET = ("autoencoder.width=8", "autoencoder.multipliers=[1, 1]", "autoencoder.blocks=1", "autoencoder.groups=2")
TINY = Setting(SMALL_NET, 32, 2, 2, 20, SIZES[:1])


def seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """The median of how long `work` takes, with all that it left to the device; once unmeasured."""
    taken = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def build(setting: Setting, quantizer: dict[str, Any] | None = None) -> tuple[Tokenizer, Recipe]:
    """The recipe's net, or the same with another quantizer, whose width the latents take."""
    changes = list(setting.overrides)
    if quantizer is not None:
        width = quantizer.get("dim") or len(quantizer["levels"])
        changes += [f"quantizer={json.dumps(quantizer)}", f"autoencoder.latent_dim={width}"]
    recipe = from_text(read_shipped("image-vqgan").text, "image-vqgan", changes)
    return build_tokenizer(recipe), recipe


def measure_quantizer(setting: Setting, device: str, kind: str, size: int) -> dict[str, Any]:
    """A step of the net with one quantizer, without adversary and perceptual loss, and what of it is the quantizer."""
    tokenizer, _ = build(setting, QUANTIZERS[kind](size))
    tokenizer.to(device).train()
    signals = torch.rand(setting.batch, 3, setting.side, setting.side, device=device) * 2 - 1

    def step() -> None:
        with torch.autocast(device, torch.bfloat16):
            output = tokenizer(signals)
        loss = functional.l1_loss(output.reconstructions[0].float(), signals) + output.quantized.loss
        loss.backward()
        tokenizer.zero_grad(set_to_none=True)

    with torch.no_grad():
        latents = tokenizer.autoencoder.encode(signals).float()

    def quantize() -> None:
        own = latents.detach().requires_grad_()
        quantized = tokenizer.quantizer(own)
        (quantized.latents.sum() + quantized.loss).backward()

    whole, part = (seconds(work, device, setting.repeats) for work in (step, quantize))
    return {"kind": kind, "K": size, "step ms": 1000 * whole, "quantizer ms": 1000 * part, "share": part / whole}


def make_pictures(folder: pathlib.Path, setting: Setting) -> None:
    """JPEG files with the size and the detail of photographs."""
    generator = numpy.random.default_rng(0)
    for index in range(setting.pictures):
        coarse = Image.fromarray(generator.integers(0, 256, (48, 64, 3), dtype=numpy.uint8))
        size = (setting.side * 3 // 2, setting.side * 9 // 8)
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{index:05}.jpg", quality=92)


@torch.no_grad()
def forward_rate(tokenizer: Tokenizer, signals: Tensor, device: str, repeats: int) -> float:
    """Pictures a second of the net alone, on a batch that is there."""
    return len(signals) / seconds(
        lambda: tokenizer.quantizer.quantize(tokenizer.autoencoder.encode(signals)), device, repeats
    )


def measure_encoding(setting: Setting, device: str) -> dict[str, Any]:
    """Pictures a second of `tok encode` of a folder, over those of bare forwards, and the readers that it takes."""
    tokenizer, recipe = build(setting, QUANTIZERS["fsp"](SIZES[0]))
    tokenizer.eval()
    batch = 8 if device == "cpu" else 32
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "pictures").mkdir()
        make_pictures(folder / "pictures", setting)
        save_artifact(folder / "model.safetensors", Artifact(tokenizer, recipe, "raw"))
        source = ImageFiles(str(folder / "pictures"), size=setting.side)
        items = [source.load(index) for index in range(min(batch, len(source)))]
        reading = seconds(lambda: source.load(0), "cpu", 20)
        signals = torch.stack([item.signal for item in items]).to(device)
        bare = forward_rate(tokenizer.to(device), signals, device, setting.repeats)
        done = encode(
            [str(folder / "pictures")], str(folder / "tokens.npy"), model=str(folder / "model.safetensors"),
            size=setting.side, device=device,
        )  # fmt: skip
    assert isinstance(done, Encoded)
    return {
        "pictures/s": done.items_per_second,
        "bare forward pictures/s": bare,
        "share of the bare forward": done.items_per_second / bare,
        "ms to read a picture": 1000 * reading,
        "readers": math.ceil(reading * bare),
    }


def measure(setting: Setting, device: str) -> dict[str, Any]:
    """All figures, as plain JSON values."""
    rows = [measure_quantizer(setting, device, kind, size) for size in setting.sizes for kind in QUANTIZERS]
    name = torch.cuda.get_device_name() if device == "cuda" else device
    about = {"device": name, "torch": torch.__version__, "side": setting.side, "batch": setting.batch}
    return {"about": about, "quantizers": rows, "encode": measure_encoding(setting, device)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    results = measure(TINY if arguments.tiny else WHOLE, arguments.device)
    print(" ".join(f"{name} {value}" for name, value in results["about"].items()))
    print(f"{'kind':8}{'K':>7}{'step ms':>10}{'quantizer ms':>14}{'share':>8}")
    for row in results["quantizers"]:
        print(f"{row['kind']:8}{row['K']:7}{row['step ms']:10.2f}{row['quantizer ms']:14.3f}{row['share']:8.1%}")
    for name, value in results["encode"].items():
        print(f"{name:28}{value:10.4g}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
