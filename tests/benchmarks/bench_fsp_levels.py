"""FSP beyond uniform latents: equal cells, Lloyd–Max levels and levels for a given entropy as u departs from uniform.

    python tests/benchmarks/bench_fsp_levels.py [--levels 8] [--json FILE]
    python tests/benchmarks/bench_fsp_levels.py RUN... [--checkpoints] [--json FILE]

Without runs: densities on [0, 1] whose departure grows, Beta(a, a), truncated normals and two heaps with a gap, each
quantized to L levels in four ways: equal cells with their centres (FSP as trained), the same cells with the means of
what falls into them, Lloyd–Max levels, and Lloyd levels constrained to the entropy of the equal cells (Chou, Lookabaugh
and Gray 1989). Errors are ratios to 1/(12 L²), that of equal cells on a uniform density. Beside them the limit for many
levels of Lloyd–Max's, (∫p^⅓)³ (Panter and Dite 1951), in closed form for Beta(a, a).

With runs of FSP: how far each dimension of u is from uniform (its differential entropy in bits, 0 where uniform, and
10·log10 of Panter and Dite's factor), in the last step and with --checkpoints in every checkpoint that was kept; then
PSNR or mel distance, CVU and bits per token with equal cells, with their means, and with Lloyd–Max levels.
"""

import argparse
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy import special, stats

from tokcli.artifacts import load_artifact
from tokcli.artifacts.artifact import Artifact
from tokcli.codebooks import sample_latents
from tokcli.evaluation.run import evaluate
from tokcli.quantizers.codebooks import lloyd_max
from tokcli.quantizers.fsp import FiniteScalarPerturbation
from tokcli.recipe.build import build_evaluation_source, build_training_source

POINTS = 20_000
"""Quantiles that stand for a density: every one carries the same probability."""

BINS = 64
"""Of the histograms of trained latents."""

Density = Callable[[NDArray], NDArray]
"""The quantile function of a law on [0, 1]."""


def list_densities() -> dict[str, Density]:
    """By name, from uniform outwards in each family."""

    def make_heaps(width: float) -> Density:
        return lambda p: numpy.where(p < 0.5, 2 * p * width, 1 - 2 * (1 - p) * width)

    def make_truncated(deviation: float) -> Density:
        return stats.truncnorm(-0.5 / deviation, 0.5 / deviation, 0.5, deviation).ppf

    found: dict[str, Density] = {}
    for a in (1.0, 1.5, 2.0, 3.0, 5.0, 0.7, 0.5):
        found[f"Beta({a:g}, {a:g})"] = stats.beta(a, a).ppf
    for deviation in (0.5, 0.3, 0.2, 0.1):
        found[f"normal, deviation {deviation:g}, cut"] = make_truncated(deviation)
    for width in (0.45, 0.4, 0.3):
        found[f"two heaps, gap {1 - 2 * width:.2g}"] = make_heaps(width)
    return found


def compute_panter_dite(a: float) -> float:
    """(∫p^⅓)³ of Beta(a, a), a > 0: B((a + 2)/3, (a + 2)/3)³ / B(a, a)."""
    return math.exp(3 * special.betaln((a + 2) / 3, (a + 2) / 3) - special.betaln(a, a))


def estimate_panter_dite(u: NDArray) -> tuple[float, float]:
    """(∫p^⅓)³ and the differential entropy in bits of samples in [0, 1], by a histogram."""
    counts, _ = numpy.histogram(u, bins=BINS, range=(0, 1))
    density = counts / counts.mean()
    positive = density[density > 0]
    return float((density ** (1 / 3)).mean() ** 3), float(-(positive * numpy.log2(positive)).sum() / BINS)


def fit_levels(u: NDArray, count: int, multiplier: float) -> NDArray:
    """Tokens of Lloyd levels of sorted samples; the multiplier weighs bits against squared error."""
    values = (numpy.arange(count) + 0.5) / count
    tokens = numpy.zeros(len(u), dtype=int)
    lengths = numpy.full(count, math.log2(count))
    for _ in range(500):
        # Where two neighbours cost the same; a level that no border leaves room for stays empty.
        gaps = numpy.diff(values)
        borders = (values[1:] + values[:-1]) / 2 + multiplier * numpy.diff(lengths) / (2 * gaps)
        fresh = numpy.searchsorted(numpy.maximum.accumulate(borders), u, side="right")
        counts = numpy.bincount(fresh, minlength=count)
        kept = counts > 0
        sums = numpy.bincount(fresh, weights=u, minlength=count)
        if numpy.array_equal(fresh, tokens) or kept.sum() < 2:
            break
        tokens, values = numpy.unique(fresh, return_inverse=True)[1], sums[kept] / counts[kept]
        lengths = -numpy.log2(counts[kept] / len(u))
        count = int(kept.sum())
    return tokens


def measure_tokens(u: NDArray, tokens: NDArray, values: NDArray | None = None) -> tuple[float, float]:
    """Mean squared error and entropy in bits; values None: the mean of what falls into each."""
    counts = numpy.bincount(tokens)
    if values is None:
        values = numpy.bincount(tokens, weights=u) / numpy.maximum(counts, 1)
    shares = counts[counts > 0] / len(u)
    return float(numpy.square(u - values[tokens]).mean()), float(-(shares * numpy.log2(shares)).sum())


def constrain_entropy(u: NDArray, count: int, bits: float) -> tuple[float, float]:
    """Lloyd levels, more of them than `count`, whose entropy is `bits`, by bisection over the multiplier.

    The descent finds a local optimum: where the equal cells with their means are better, they are the answer.
    """
    low, high = 0.0, 1.0
    best = measure_tokens(u, numpy.minimum((u * count).astype(int), count - 1))
    for _ in range(30):
        middle = (low + high) / 2
        found = measure_tokens(u, fit_levels(u, 3 * count, middle))
        low, high = (middle, high) if found[1] > bits else (low, middle)
        if found[1] <= bits + 1e-3 and found[0] < best[0]:
            best = found
    return best


def study_densities(count: int) -> list[dict[str, Any]]:
    """A row for each density."""
    rows = []
    for name, quantile in list_densities().items():
        u = quantile((numpy.arange(POINTS) + 0.5) / POINTS)
        equal = numpy.minimum((u * count).astype(int), count - 1)
        centres = (numpy.arange(count) + 0.5) / count
        unit = 1 / (12 * count**2)
        error, bits = measure_tokens(u, equal, centres)
        means, _ = measure_tokens(u, equal)
        levels = lloyd_max(torch.from_numpy(u).float(), count).numpy()
        lloyd, lloyd_bits = measure_tokens(u, numpy.searchsorted((levels[1:] + levels[:-1]) / 2, u), levels)
        constrained, constrained_bits = constrain_entropy(u, count, bits)
        law = name.removeprefix("Beta(").partition(",")[0] if name.startswith("Beta") else None
        limit = compute_panter_dite(float(law)) if law else estimate_panter_dite(u)[0]
        rows.append(
            {
                "density": name,
                "equal": error / unit,
                "equal_bits": bits,
                "means": means / unit,
                "lloyd": lloyd / unit,
                "lloyd_bits": lloyd_bits,
                "limit": limit,
                "same_entropy": constrained / unit,
                "same_entropy_bits": constrained_bits,
                "gain_db": 10 * math.log10(error / lloyd),
            }
        )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """A Markdown table."""
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        cells = [f"{row[key]:.3f}" if isinstance(row[key], float) else str(row[key]) for key in columns]
        print("| " + " | ".join(cells) + " |")


# Trained models


def describe_units(artifact: Artifact, latents: torch.Tensor) -> dict[str, Any]:
    """Entropy and Panter and Dite's factor in dB of each dimension of u."""
    quantizer = artifact.tokenizer.quantizer
    assert isinstance(quantizer, FiniteScalarPerturbation)
    columns = quantizer.activation.to_unit(latents).T.double().numpy()
    found = [estimate_panter_dite(column) for column in columns]
    return {
        "bits from uniform": [round(entropy, 3) for _, entropy in found],
        "dB": [round(-10 * math.log10(factor), 2) for factor, _ in found],
    }


def study_run(path: pathlib.Path, checkpoints: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """How u is distributed, by step, and what the levels give."""
    artifact = load_artifact(path)
    tokenizer, quantizer = artifact.tokenizer, artifact.tokenizer.quantizer
    assert isinstance(quantizer, FiniteScalarPerturbation)
    training = build_training_source(artifact.recipe, tokenizer.modality)
    source = build_evaluation_source(artifact.recipe, tokenizer.modality)
    final = {key: value.clone() for key, value in tokenizer.state_dict().items()}
    laws = []
    for kept in sorted((path / "checkpoints").glob("*.safetensors")) if checkpoints else []:
        prefixes = ("tokenizer/", "averages/")  # the averages are what is evaluated
        tensors = load_file(kept)
        state = {
            key.removeprefix(prefix): tensors[key] for prefix in prefixes for key in tensors if key.startswith(prefix)
        }
        tokenizer.load_state_dict(state)
        latents = sample_latents(tokenizer, training, 50_000, items=100, workers=0)
        laws.append({"run": path.name, "step": kept.stem} | describe_units(artifact, latents))
    tokenizer.load_state_dict(final)
    latents = sample_latents(tokenizer, training, 200_000, workers=0)
    laws.append({"run": path.name, "step": "last"} | describe_units(artifact, latents))
    quality = ["psnr", "cvu"] if tokenizer.modality == "image" else ["mel-distance", "stoi", "cvu"]
    equal = quantizer.values.clone()
    means = quantizer.values.clone()
    start = 0
    for units, count in zip(quantizer.activation.to_unit(latents).T, quantizer.counts, strict=True):
        digits = (units * count).long().clamp_max(count - 1)
        for level in range(count):
            inside = units[digits == level]
            if len(inside):
                means[start + level] = inside.mean()
        start += count
    quantizer.build_codebook(latents)
    lloyd = quantizer.values.clone()
    rows = []
    for name, values in (("equal", equal), ("means", means), ("lloyd", lloyd)):
        quantizer.values.copy_(values)
        # The cells of the means are the equal ones: only what is decoded differs.
        scores = evaluate(tokenizer, source, quality, workers=0, rates=True, items=40 if quality[0] != "psnr" else None)
        rows.append({"run": path.name, "levels": name} | scores.metrics | scores.rates)
    return laws, rows


def main() -> None:
    """The tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=pathlib.Path)
    parser.add_argument("--levels", type=int, default=8)
    parser.add_argument("--checkpoints", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    if not given.runs:
        found["densities"] = study_densities(given.levels)
        show(found["densities"])
    for run in given.runs:
        laws, rows = study_run(run, given.checkpoints)
        show(laws)
        show(rows)
        found[run.name] = {"laws": laws, "levels": rows}
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
