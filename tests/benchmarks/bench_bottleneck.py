"""What holds a trained model back: the width of its latents, or the codes they are rounded to.

    python tests/benchmarks/bench_bottleneck.py RUN... [--items 100] [--json FILE]

A run is a folder called METHOD-SEED, or a cell of a sweep. For each: PSNR (SI-SDR of sound) of what its decoder makes
of the latents as they are, of the codes, and of latents as far off as their codes in a random direction; and the codes'
error, as a share of the latents' variance. On the run's evaluation data; means over seeds ± standard deviation.
"""

import argparse
import json
import pathlib
import re
import statistics
from collections import defaultdict

import torch
from torch import Tensor

from tokcli.artifacts import load_artifact
from tokcli.contracts import Item, Source
from tokcli.data.items import read_items
from tokcli.metrics.audio import si_sdr, to_mono
from tokcli.metrics.images import psnr
from tokcli.recipe.build import build_evaluation_source
from tokcli.tokenizer import Tokenizer


def score_sound(reconstruction: Tensor, reference: Tensor) -> Tensor:
    """SI-SDR of clips (batch, channels, samples)."""
    return si_sdr(to_mono(reconstruction), to_mono(reference))


SCORES = {"image": psnr, "audio": score_sound}
COLUMNS = ("latents as they are", "their codes", "noise of that length", "error of the codes")


@torch.no_grad()
def measure(tokenizer: Tokenizer, source: Source, items: int) -> dict[str, float]:
    """The mean of each column over items."""
    generator = torch.Generator().manual_seed(0)
    score, quantizer = SCORES[tokenizer.modality], tokenizer.quantizer
    found: dict[str, list[float]] = defaultdict(list)
    errors, points_seen = [], []
    for item in read_items(source, workers=0, indices=range(min(items, len(source)))):
        if not isinstance(item, Item):
            continue
        signal = item.signal[None]
        latents = tokenizer.latents(signal)
        points = quantizer.points(latents)
        codes = quantizer.dequantize(quantizer.quantize(latents))
        noise = torch.randn(points.shape, generator=generator)
        noise *= (codes - points).norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
        for column, decoded in zip(COLUMNS, (points, codes, points + noise), strict=False):
            made = tokenizer.decode_latents(decoded, signal.shape[2:])
            found[column].append(float(score(made, signal)))
        errors.append(flatten(codes - points).square().sum(dim=-1))
        points_seen.append(flatten(points))
    spread = torch.cat(points_seen).var(dim=0).sum()
    means = {column: statistics.fmean(values) for column, values in found.items()}
    return means | {COLUMNS[-1]: float(torch.cat(errors).mean() / spread)}


def flatten(latents: Tensor) -> Tensor:
    """latents: (batch, *positions, dim) -> (count, dim)."""
    return latents.flatten(0, -2)


def name_method(run: pathlib.Path) -> str:
    """The run's name without its seed, and without a cell's fingerprint."""
    return re.sub(r"-(seed)?\d+(-[0-9a-f]{10})?$", "", run.name)


def main() -> None:
    """The table, and everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--json", type=pathlib.Path)
    given = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for run in given.runs:
        artifact = load_artifact(run)
        tokenizer = artifact.tokenizer
        source = build_evaluation_source(artifact.recipe, tokenizer.modality, tokenizer.sample_rate)
        found[name_method(run)].append(measure(tokenizer, source, given.items))
        print(json.dumps({"run": run.name, **found[name_method(run)][-1]}), flush=True)
    print("\n| | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (len(COLUMNS) + 1))
    for method, rows in found.items():
        print(f"| {method} | " + " | ".join(show([row[column] for row in rows]) for column in COLUMNS) + " |")
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


def show(values: list[float]) -> str:
    """Mean ± standard deviation."""
    digits = 2 if abs(statistics.fmean(values)) >= 1 else 4
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


if __name__ == "__main__":
    main()
