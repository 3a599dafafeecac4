"""A step of residual quantization beside that of vector-quantize-pytorch, on the same latents, in turns, in one run.

    python tests/benchmarks/bench_residual.py [--sizes 1024] [--depths 1 4 8] [--positions 2048] [--rounds 5]
        [--quantizers fsq fsp] [--processor-time] [--json F]

Plain VQ, VQ with moving averages, FSQ, and FSP beside the library's FSQ, for it has no other stages; a single stage
beside its FSP too. Forward and backward, the decoder's gradient standing in as ones. The median of the rounds' ratios
counts. No threads are set: use OMP_NUM_THREADS.
"""

import argparse
import json
import pathlib
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from bench_quantizers import DIMS, LEVELS, step
from bench_vpvae import seconds
from vector_quantize_pytorch import ResidualFSQ, ResidualVQ
from vector_quantize_pytorch.finite_scalar_perturbation import FSP

from tokcli.quantizers.residual import ResidualQuantizer


@dataclass(frozen=True)
class Ratio:
    """One row: milliseconds of a step here and there, and the median of their ratios."""

    quantizer: str
    size: int
    depth: int
    milliseconds: float
    library_milliseconds: float
    ratio: float


class LibraryFSP(torch.nn.Module):
    """The library's FSP, which has no residual stages, with codes, tokens and loss alone."""

    def __init__(self, levels: list[int]) -> None:
        super().__init__()
        self.stage = FSP(levels, quantize_rate=0.5)

    def forward(self, latents: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.stage(latents)[:3]


def pairs_of(size: int, depth: int) -> dict[str, tuple[ResidualQuantizer, torch.nn.Module]]:
    """Both sides of each row, by its name."""
    vq = {"kind": "vq", "dim": DIMS[size], "codebook_size": size}
    fsq = {"kind": "fsq", "levels": LEVELS[size], "variant": "symmetric", "edges": "full"}
    fsp = {"kind": "fsp", "levels": LEVELS[size]}
    shape = {"dim": DIMS[size], "codebook_size": size, "num_quantizers": depth}
    return {
        "vq": (ResidualQuantizer(vq, depth), ResidualVQ(**shape, learnable_codebook=True, ema_update=False)),
        "vq, EMA": (ResidualQuantizer({**vq, "ema": True}, depth), ResidualVQ(**shape)),
        "fsq": (ResidualQuantizer(fsq, depth), ResidualFSQ(levels=LEVELS[size], num_quantizers=depth)),
        "fsp": (ResidualQuantizer(fsp, depth), ResidualFSQ(levels=LEVELS[size], num_quantizers=depth)),
        **({"fsp, FSP": (ResidualQuantizer(fsp, 1), LibraryFSP(LEVELS[size]))} if depth == 1 else {}),
    }


def measure(
    size: int,
    depth: int,
    positions: int,
    device: torch.device,
    rounds: int,
    steps: int,
    quantizers: list[str] | None,
    clock: Callable[[Callable[[], object], torch.device], float],
) -> list[Ratio]:
    """Every row of one size and depth, or some of them, by a clock."""
    rows = []
    for name, (ours, library) in pairs_of(size, depth).items():
        if quantizers and name not in quantizers:
            continue
        ours, library = ours.to(device).train(), library.to(device).train()
        latents = torch.randn(1, positions, ours.input_dim, device=device)

        def library_step(library: torch.nn.Module = library, latents: torch.Tensor = latents) -> None:
            library.zero_grad(set_to_none=True)
            output = library(latents.requires_grad_())
            (output[0].sum() + sum(term.sum() for term in output[2:])).backward()
            latents.grad = None

        def our_step(ours: ResidualQuantizer = ours, latents: torch.Tensor = latents) -> None:
            step(ours, latents)

        for work in (our_step, library_step):
            work()
        taken = [
            [
                clock(lambda work=work: [work() for _ in range(steps)], device) / steps
                for work in (our_step, library_step)
            ]
            for _ in range(rounds)
        ]
        own, other = (1e3 * statistics.median(column) for column in zip(*taken, strict=True))
        rows.append(Ratio(name, size, depth, own, other, statistics.median(a / b for a, b in taken)))
    return rows


def processor_seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long the processor works on `work`, whatever else it does meanwhile."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024], choices=sorted(DIMS))
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--positions", type=int, default=2048)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--quantizers", nargs="+", choices=["vq", "vq, EMA", "fsq", "fsp", "fsp, FSP"])
    parser.add_argument("--processor-time", action="store_true", help="not the wall's: for a machine that others use")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(options.device)
    clock = processor_seconds if options.processor_time else seconds
    rows = [
        row
        for size in options.sizes
        for depth in options.depths
        for row in measure(
            size, depth, options.positions, device, options.rounds, options.steps, options.quantizers, clock
        )
    ]
    print(f"{'K':>6} {'stages':>6} {'quantizer':10} {'ms':>8} {'library ms':>11} {'ratio':>7}")
    for row in rows:
        figures = f"{row.milliseconds:8.2f} {row.library_milliseconds:11.2f} {row.ratio:7.2f}"
        print(f"{row.size:6} {row.depth:6} {row.quantizer:10} {figures}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
