"""What each quantizer costs: its forward and backward beside those of the autoencoder around it, in one run.

    python tests/benchmarks/bench_quantizers.py [--sizes 1024 4096] [--width 32] [--device cuda] [--rounds 5] [--json F]

The autoencoder is that of the small picture recipes (f = 4, crops of 64²) unless `--width` and `--multipliers` say
otherwise; latents are those of a mixture with the dimension that the recipes give each codebook size. Every round
times all of them in turn; the median of the rounds' ratios counts. No threads are set: use OMP_NUM_THREADS.

Below: FSQ and VQ beside those of vector-quantize-pytorch on the same latents, in turns, fifty steps a turn.
"""

import argparse
import json
import pathlib
import statistics
from dataclasses import asdict, dataclass

import torch
from bench_vpvae import mixture, seconds
from torch import Tensor

from tokcli.autoencoders.vqgan import VQGANAutoencoder
from tokcli.contracts import Quantizer
from tokcli.quantizers import QUANTIZERS

DIMS = {256: 3, 1024: 4, 4096: 5, 16384: 6}
LEVELS = {256: [8, 6, 5], 1024: [8, 5, 5, 5], 4096: [7, 5, 5, 5, 5], 16384: [8, 8, 8, 6, 5]}
BINS = {256: 4, 1024: 5, 4096: 6, 16384: 7}
"""Dimensions of four bins each that make so many codes."""


@dataclass(frozen=True)
class Cost:
    """One row: milliseconds of a quantizer's forward and backward, and their share of the autoencoder's.

    decodes: how often the decoder runs in a step; the extra ones are not in the share.
    """

    quantizer: str
    size: int
    milliseconds: float
    autoencoder_milliseconds: float
    share: float
    decodes: int


def quantizers_of(size: int) -> dict[str, Quantizer]:
    """Every method at one codebook size, by the name of its row."""
    dim = DIMS[size]
    made = {
        "vq": ("vq", {"dim": dim, "codebook_size": size}),
        "vq, EMA and restarts": ("vq", {"dim": dim, "codebook_size": size, "ema": True, "restart_below": 0.5}),
        "simvq": ("simvq", {"dim": dim, "codebook_size": size}),
        "fsq": ("fsq", {"levels": LEVELS[size]}),
        "fsp": ("fsp", {"levels": LEVELS[size]}),
        "tokenbridge": ("tokenbridge", {"dim": BINS[size]}),
        "vaevq": ("vaevq", {"dim": dim, "codebook_size": size}),
        "vpvae": ("vpvae", {"dim": dim, "codebook_size": size}),
    }
    return {name: QUANTIZERS[kind](**arguments).train() for name, (kind, arguments) in made.items()}


def step(quantizer: Quantizer, latents: Tensor) -> None:
    """Forward and backward, the decoder's gradient standing in as ones."""
    quantizer.zero_grad(set_to_none=True)
    leaf = latents.requires_grad_()
    output = quantizer(leaf)
    (output.loss + output.latents.sum() + sum(other.sum() for other in output.alternatives)).backward()
    leaf.grad = None


def autoencoder_step(autoencoder: VQGANAutoencoder, signals: Tensor) -> None:
    """Forward and backward of encoder and decoder, in bfloat16 like the recipes."""
    autoencoder.zero_grad(set_to_none=True)
    with torch.autocast(signals.device.type, torch.bfloat16):
        reconstruction = autoencoder.decode(autoencoder.encode(signals))
    (reconstruction.float() - signals).square().mean().backward()


def settle(quantizer: Quantizer, latents: Tensor, steps: int = 3) -> None:
    """The first steps differ: a queue is full of draws, an index is not built. Fill what there is to fill."""
    if hasattr(quantizer, "queue"):
        queue = quantizer.queue
        queue.push(latents.detach()[torch.randint(len(latents), (queue.size,))] + 0.01 * torch.randn(queue.size, 1))
    for _ in range(steps):
        step(quantizer, latents.view(1, *latents.shape))


def measure(size: int, autoencoder: VQGANAutoencoder, signals: Tensor, rounds: int) -> list[Cost]:
    """All quantizers of one size, round by round beside the autoencoder."""
    device = signals.device
    positions = len(signals) * (signals.shape[-1] // autoencoder.stride) ** 2
    generator = torch.Generator().manual_seed(0)
    works = {}
    for name, quantizer in quantizers_of(size).items():
        latents = mixture(positions, quantizer.input_dim, generator).to(device)
        settle(quantizer.to(device), latents)
        works[name] = (quantizer, latents.view(1, *latents.shape))
    autoencoder_step(autoencoder, signals)
    times: dict[str, list[float]] = {name: [] for name in works}
    bare: list[float] = []
    for _ in range(rounds):
        bare.append(seconds(lambda: autoencoder_step(autoencoder, signals), device))
        for name, (quantizer, latents) in works.items():
            times[name].append(seconds(lambda q=quantizer, rows=latents: step(q, rows), device))
    return [
        Cost(
            quantizer=name,
            size=size,
            milliseconds=1e3 * statistics.median(taken),
            autoencoder_milliseconds=1e3 * statistics.median(bare),
            share=statistics.median(own / base for own, base in zip(taken, bare, strict=True)),
            decodes=1 + len(works[name][0](works[name][1]).alternatives),
        )
        for name, taken in times.items()
    ]


def measure_against_library(size: int, positions: int, device: torch.device, rounds: int) -> dict[str, float]:
    """Each quantizer's step over that of the library, by name: the median of the rounds' ratios."""
    from vector_quantize_pytorch import FSQ, VectorQuantize

    ours = quantizers_of(size)
    dim = DIMS[size]
    theirs = {
        "fsq": FSQ(LEVELS[size]),
        "vq": VectorQuantize(dim, size, commitment_weight=0.25, learnable_codebook=True, ema_update=False),
    }
    ratios = {}
    for name, library in theirs.items():
        quantizer, library = ours[name].to(device), library.to(device).train()
        latents = torch.randn(1, positions, quantizer.input_dim, device=device)

        def library_step(library: torch.nn.Module = library, latents: Tensor = latents) -> None:
            library.zero_grad(set_to_none=True)
            output = library(latents.requires_grad_())
            (output[0].sum() + sum(term.sum() for term in output[2:])).backward()
            latents.grad = None

        def our_step(quantizer: Quantizer = quantizer, latents: Tensor = latents) -> None:
            step(quantizer, latents)

        settle(quantizer, latents[0])
        library_step()
        taken = [
            [seconds(lambda work=work: [work() for _ in range(50)], device) for work in (our_step, library_step)]
            for _ in range(rounds)
        ]
        ratios[name] = statistics.median(own / other for own, other in taken)
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 4096], choices=sorted(DIMS))
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--multipliers", type=int, nargs="+", default=[1])
    parser.add_argument("--patch", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(options.device)
    signals = torch.rand(options.batch_size, 3, options.crop, options.crop, device=device) * 2 - 1
    rows = []
    for size in options.sizes:
        autoencoder = VQGANAutoencoder(
            latent_dim=DIMS[size], width=options.width, multipliers=options.multipliers, blocks=1, patch=options.patch,
            groups=2,
        ).to(device)  # fmt: skip
        rows += measure(size, autoencoder, signals, options.rounds)
    print(f"{'K':>6} {'quantizer':22} {'ms':>8} {'autoencoder ms':>15} {'share':>8} {'decodes':>8}")
    for row in rows:
        figures = f"{row.milliseconds:8.2f} {row.autoencoder_milliseconds:15.1f} {row.share:8.1%} {row.decodes:8}"
        print(f"{row.size:6} {row.quantizer:22} {figures}")
    positions = options.batch_size * (options.crop // options.patch) ** 2
    ratios = {size: measure_against_library(size, positions, device, options.rounds) for size in options.sizes}
    for size, named in ratios.items():
        for name, ratio in named.items():
            print(f"{size:6} {name:22} {ratio:8.2f} times vector-quantize-pytorch's step")
    if options.json:
        written = {"rows": [asdict(row) for row in rows], "against_library": ratios}
        options.json.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
