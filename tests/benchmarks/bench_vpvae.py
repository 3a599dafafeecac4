"""What neighbour search saves: VP-VAE's step, k-means and the nearest code against the straightforward algorithms.

    python tests/benchmarks/bench_vpvae.py [--images DIR] [--device cuda] [--rounds 5] [--full] [--json FILE]

Straightforward is: all distances in blocks, then topk or argmin; k-means++ one centre at a time, then 200 Lloyd steps.
Both sides of a ratio take turns in one process, the straightforward one on fewer latents; the median of the rounds'
ratios counts. `--full` adds the codebook of 16384 codes from 1.3 million latents, some minutes.
"""

import argparse
import json
import math
import pathlib
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from tokcli.contracts import Source
from tokcli.data.image.dead_leaves import DeadLeaves
from tokcli.data.image.files import ImageFiles
from tokcli.quantizers.kmeans import kmeans
from tokcli.quantizers.vpvae import VectorPerturbation
from tokcli.search import CodeIndex


@dataclass(frozen=True)
class Setting:
    """A codebook and the ratio aimed at."""

    size: int
    dim: int
    target: float | None = None

    def __str__(self) -> str:
        return f"K = {self.size}, d = {self.dim}"


STEPS = [Setting(256, 3, 8), Setting(1024, 4, 20), Setting(4096, 5, 40), Setting(16384, 5, 120)]
PASSES = [Setting(1024, 4, 15), Setting(4096, 5, 35), Setting(16384, 5, 100)]
LOOKUPS = [Setting(1024, 4), Setting(16384, 5, 40), Setting(16384, 64, 3)]
BUILDS = [Setting(256, 3), Setting(1024, 4)]
LARGE_BUILD = Setting(16384, 5)
TOKENS = 4096
REFERENCE_DISTANCES = 1 << 25
"""The straightforward side of a ratio gets as many latents as make so many distances."""


@dataclass(frozen=True)
class Side:
    """One side of a ratio: the work, and how many latents it handles."""

    work: Callable[[], object]
    count: int


@dataclass(frozen=True)
class Comparison:
    """One row: microseconds per latent on both sides, the ratio, and the ratio aimed at."""

    what: str
    latents: str
    reference: float
    ours: float
    ratio: float
    target: float | None
    worst_error: float | None = None


class Lab:
    """Where latents of any dimension come from, and how the two sides of a ratio are timed."""

    def __init__(self, images: Source, device: torch.device, rounds: int) -> None:
        self._patches = patches(images)
        self.device = device
        self._rounds = rounds

    def draw(self, kind: str, count: int, dim: int, seed: int) -> Tensor:
        """(count, dim) of a correlated mixture, or of the first principal components of image patches."""
        generator = torch.Generator().manual_seed(seed)
        if kind == "mixture":
            rows = mixture(count, dim, generator)
        else:
            chosen = torch.randint(len(self._patches), (count,), generator=generator)
            rows = self._patches[chosen, :dim]
            rows = rows + 0.05 * torch.randn(rows.shape, generator=generator)
        return ((rows - rows.mean(0)) / rows.std(0)).to(self.device)

    def compare(self, what: str, setting: Setting, kind: str, reference: Side, ours: Side) -> Comparison:
        """Take turns; the first round warms up and does not count."""
        pairs = []
        for _ in range(self._rounds + 1):
            straightforward = seconds(reference.work, self.device) / reference.count
            pairs.append((straightforward, seconds(ours.work, self.device) / ours.count))
        pairs = pairs[1:]
        ratio = statistics.median(first / second for first, second in pairs)
        first, second = (1e6 * statistics.median(side) for side in zip(*pairs, strict=True))
        return Comparison(f"{what}, {setting}", kind, first, second, ratio, setting.target)


def mixture(count: int, dim: int, generator: torch.Generator) -> Tensor:
    """Twelve Gaussians with covariances of their own; always the same twelve."""
    shape = torch.Generator().manual_seed(99)
    means = torch.randn(12, dim, generator=shape)
    factors = 0.35 * torch.randn(12, dim, dim, generator=shape)
    which = torch.randint(12, (count,), generator=generator)
    noise = torch.randn(count, dim, 1, generator=generator)
    return means[which] + (factors[which] @ noise).squeeze(-1)


def patches(images: Source) -> Tensor:
    """(count, 64) principal components of 8×8 patches of 100 images at most."""
    rows = []
    for index in range(min(len(images), 100)):
        signal = images.load(index).signal
        rows.append(signal.mean(0).unfold(0, 8, 4).unfold(1, 8, 4).reshape(-1, 64))
    stacked = torch.cat(rows)
    stacked = stacked - stacked.mean(0)
    _, _, directions = torch.linalg.svd(stacked[:: max(1, len(stacked) // 20_000)], full_matrices=False)
    return stacked @ directions.T


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long `work` takes until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def reference_radii(points: Tensor, queue: Tensor, ranks: tuple[int, int]) -> list[Tensor]:
    """All distances, then topk."""
    nearest = torch.cdist(points, queue).topk(ranks[1], largest=False).values
    return [nearest[:, rank - 1] for rank in ranks]


def reference_step(latents: Tensor, queue: Tensor, ranks: tuple[int, int]) -> Tensor:
    """Radius, proposal, acceptance, written plainly."""
    dim = latents.shape[1]
    near, far = reference_radii(latents, queue, ranks)
    direction = torch.nn.functional.normalize(torch.randn_like(latents), dim=1)
    length = far * torch.rand_like(far).pow(1 / dim)
    proposal = latents + length[:, None] * direction
    near_there, far_there = reference_radii(proposal, queue, ranks)
    accepted = torch.rand_like(far) < (near * far / (near_there * far_there)).pow(dim)
    return torch.where((accepted & (length <= far_there))[:, None], proposal, latents)


def bench_step(lab: Lab, kind: str, setting: Setting) -> Comparison:
    """Both queries and the test, with a queue that takes in one latent in a hundred at every step."""
    quantizer = VectorPerturbation(setting.dim, setting.size).to(lab.device).train()
    quantizer.queue.push(lab.draw(kind, quantizer.queue.size, setting.dim, seed=0))
    latents = lab.draw(kind, TOKENS, setting.dim, seed=1)
    few = latents[: max(16, REFERENCE_DISTANCES // quantizer.queue.size)]
    ranks = (quantizer.density_neighbours, quantizer.neighbours_per_code)
    reference = Side(lambda: reference_step(few, quantizer.queue.latents, ranks), len(few))
    with torch.no_grad():
        row = lab.compare("step", setting, kind, reference, Side(lambda: quantizer(latents.unsqueeze(0)), TOKENS))
    return replace(row, worst_error=worst_error(quantizer, latents[:32], ranks))


def worst_error(quantizer: VectorPerturbation, points: Tensor, ranks: tuple[int, int]) -> float:
    """Largest relative error of the radii against float64 brute force."""
    found = quantizer.queue.kth_distances(points, ranks).double()
    queue = quantizer.queue.latents.double()
    sorted_distances = [(queue - point).square().sum(1).sqrt().sort().values for point in points.double()]
    exact = torch.stack(sorted_distances)[:, [rank - 1 for rank in ranks]]
    return float(((found - exact) / exact).abs().max())


def bench_pass(lab: Lab, kind: str, setting: Setting) -> Comparison:
    """One pass of k-means over the samples: assign each to its centre, the tree's construction included."""
    samples = lab.draw(kind, 40 * setting.size, setting.dim, seed=2)
    centres = kmeans(samples, setting.size, max_iterations=3).centres
    few = samples[: REFERENCE_DISTANCES // setting.size]
    reference = Side(lambda: [torch.cdist(block, centres).argmin(1) for block in few.split(1024)], len(few))
    ours = Side(lambda: CodeIndex(centres).query(samples, 1), len(samples))
    return lab.compare("k-means pass", setting, kind, reference, ours)


def bench_lookup(lab: Lab, kind: str, setting: Setting) -> Comparison:
    """Nearest code at encode time, with an index that is there already."""
    latents = lab.draw(kind, 8 * TOKENS, setting.dim, seed=3)
    codes = lab.draw(kind, setting.size, setting.dim, seed=4)
    few = latents[: REFERENCE_DISTANCES // setting.size]
    index = CodeIndex(codes)
    reference = Side(lambda: [expanded(block, codes).argmin(1) for block in few.split(1024)], len(few))
    ours = Side(lambda: index.nearest(latents), len(latents))
    return lab.compare("nearest code", setting, kind, reference, ours)


def expanded(latents: Tensor, codes: Tensor) -> Tensor:
    """All squared distances, as VQ implementations have them."""
    return latents.square().sum(1, keepdim=True) + codes.square().sum(1) - 2 * latents @ codes.T


def reference_kmeans(samples: Tensor, size: int, seed: int, passes: int = 200) -> Tensor:
    """k-means++ one centre at a time, then Lloyd. Its assignments come from our index: the result is the same."""
    generator = torch.Generator(samples.device).manual_seed(seed)
    centres = samples[torch.randint(len(samples), (1,), generator=generator, device=samples.device)]
    costs = torch.full((len(samples),), math.inf, device=samples.device)
    chosen = torch.empty(size, samples.shape[1], device=samples.device)
    for place in range(size):
        chosen[place] = centres[0]
        costs = torch.minimum(costs, (samples - centres[0]).square().sum(1))
        centres = samples[torch.multinomial(costs, 1, generator=generator)]
    for _ in range(passes):
        tokens = CodeIndex(chosen).nearest(samples)
        counts = torch.bincount(tokens, minlength=size).clamp_min(1).unsqueeze(1)
        means = torch.zeros_like(chosen).index_add_(0, tokens, samples) / counts
        if torch.equal(means, chosen):
            break
        chosen = means
    return chosen


def mean_error(latents: Tensor, centres: Tensor) -> float:
    """Mean squared distance to the nearest centre."""
    return float(CodeIndex(centres).query(latents, 1).squared_distances.mean())


def bench_build(lab: Lab, kind: str, setting: Setting) -> dict[str, str | float]:
    """Error on held-out latents and time of whole builds, medians of three seeds; straightforward up to K = 1024."""
    size, dim = setting.size, setting.dim
    samples, held_out = (lab.draw(kind, 80 * size, dim, seed=seed) for seed in (5, 6))
    builds: dict[str, Callable[[int], Tensor]] = {"ours": lambda seed: kmeans(samples, size, seed=seed).centres}
    if size <= 1024:
        builds["reference"] = lambda seed: reference_kmeans(samples, size, seed)
    row: dict[str, str | float] = {"what": f"build, {setting}, {len(samples)} latents", "latents": kind}
    for name, build in builds.items():
        errors, times = [], []
        for seed in range(3 if size <= 1024 else 1):
            started = time.perf_counter()
            centres = build(seed)
            times.append(time.perf_counter() - started)
            errors.append(mean_error(held_out, centres))
        row |= {f"{name}_mse": statistics.median(errors), f"{name}_seconds": statistics.median(times)}
    return row


def table_row(row: Comparison) -> str:
    """One line of the table."""
    target = f"{row.target:8.0f}" if row.target else " " * 8
    error = f"   worst error {row.worst_error:.1e}" if row.worst_error is not None else ""
    return f"{row.what:32}{row.latents:>9}{row.reference:11.2f}{row.ours:9.2f}{row.ratio:8.1f}{target}{error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=pathlib.Path, help="photographs to take patches from, in place of dead leaves")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    run = parser.parse_args()
    images = ImageFiles(str(run.images), size=256) if run.images else DeadLeaves(items=100, size=256)
    lab = Lab(images, run.device, run.rounds)
    work = [(bench, setting) for bench, settings in BENCHES.items() for setting in settings]
    rows, builds = [], []
    print(f"{'':32}{'latents':>9}{'reference':>11}{'ours':>9}{'ratio':>8}{'target':>8}   (µs per latent)")
    for kind in ("mixture", "patches"):
        for bench, setting in work:
            rows.append(bench(lab, kind, setting))
            print(table_row(rows[-1]), flush=True)
    for kind in ("mixture", "patches"):
        for setting in [*BUILDS, LARGE_BUILD] if run.full else BUILDS:
            builds.append(bench_build(lab, kind, setting))
            print(*(f"{value:.5g}" if isinstance(value, float) else value for value in builds[-1].values()), flush=True)
    if run.json:
        run.json.write_text(json.dumps({"ratios": [asdict(row) for row in rows], "builds": builds}, indent=2))


BENCHES = {bench_step: STEPS, bench_pass: PASSES, bench_lookup: LOOKUPS}

if __name__ == "__main__":
    main()
