"""What a trained model bears: codebooks of other sizes than its own, and tokens that are wrong.

    python tests/benchmarks/bench_codebooks.py RUN... --data photos/val [--sizes 256,1024,4096] [--json FILE]
    python tests/benchmarks/bench_codebooks.py RUN... --data photos/val --sizes 1024 --evenness=-1,0,0.5,1

A run is a folder called METHOD-SEED, of a quantizer whose codebook can be built anew. The first tables: PSNR, CVU and
bits per token with a codebook of each size and evenness, built from the run's own training data, beside the codebook
learnt in training where there is one. The last: PSNR with the codebook that was built at --wrong-size, and what it
loses when a share of the tokens become other codes nearby, the second to the eighth nearest. Means over seeds ±
standard deviation.
"""

import argparse
import itertools
import json
import pathlib
import statistics
from collections import defaultdict

import torch

from tokcli.artifacts import load_artifact
from tokcli.artifacts.artifact import Artifact
from tokcli.codebooks import require_builder, sample_latents
from tokcli.contracts import Item, Source
from tokcli.data import SOURCES
from tokcli.data.items import read_items
from tokcli.evaluation.run import evaluate
from tokcli.metrics.images import psnr
from tokcli.quantizers.fsp import FiniteScalarPerturbation
from tokcli.quantizers.nearest import NearestCodeQuantizer
from tokcli.recipe.build import build_training_source

SHARES = (0.0, 0.05, 0.1, 0.2, 0.4)
NEIGHBOURS = 8
LEARNT = "learnt"


def open_source(path: str, size: int) -> Source:
    """Pictures of a folder, their centre of size x size pixels."""
    return SOURCES.build({"kind": "images", "path": path, "size": size, "resize": False}, "data")


METRICS = ["psnr", "cvu", "entropy_bits_per_token"]


def measure_sizes(
    artifact: Artifact, source: Source, sizes: list[int], evenness: list[float], samples: int, passes: int
) -> dict[str, dict[str, float]]:
    """The figures by codebook; the last one built of each size stays."""
    tokenizer = artifact.tokenizer
    quantizer = require_builder(tokenizer)
    figures = {}
    if isinstance(quantizer, NearestCodeQuantizer | FiniteScalarPerturbation):
        figures[LEARNT] = dict(evaluate(tokenizer, source, METRICS, workers=0).metrics)
    training = build_training_source(artifact.recipe, tokenizer.modality)
    latents = sample_latents(tokenizer, training, samples, passes=passes, workers=0)
    for size, even in itertools.product(sizes, evenness):
        quantizer.build_codebook(latents, size, evenness=even)
        name = str(size) if evenness == [0.0] else f"{size}, E = {even:g}"
        figures[name] = dict(evaluate(tokenizer, source, METRICS, workers=0).metrics)
    return figures


@torch.no_grad()
def measure_wrong_tokens(artifact: Artifact, size: int, source: Source, items: int) -> dict[str, float]:
    """PSNR by the share of tokens that are replaced by neighbours, with the codebook that was built of `size` codes."""
    tokenizer = artifact.tokenizer
    quantizer = require_builder(tokenizer)
    quantizer.use_codebook(size)
    codes = quantizer.dequantize(torch.arange(quantizer.codebook_size).view(1, -1, 1))[0]
    neighbours = torch.cdist(codes, codes).topk(NEIGHBOURS, largest=False).indices
    generator = torch.Generator().manual_seed(0)
    scores: dict[str, list[float]] = defaultdict(list)
    for item in read_items(source, workers=0, indices=range(min(items, len(source)))):
        if not isinstance(item, Item):
            continue
        signal = item.signal[None]
        tokens = tokenizer.encode(signal)
        for share in SHARES:
            wrong = torch.rand(tokens.shape, generator=generator) < share
            rank = torch.randint(1, NEIGHBOURS, tokens.shape, generator=generator)
            sent = torch.where(wrong, neighbours[tokens, rank], tokens)
            scores[str(share)].append(float(psnr(tokenizer.decode(sent, signal.shape[2:]), signal)))
    return {share: statistics.fmean(values) for share, values in scores.items()}


def show(title: str, rows: dict[str, dict[str, list[float]]], digits: int) -> None:
    """A Markdown table of means over seeds."""
    columns = list(dict.fromkeys(column for figures in rows.values() for column in figures))
    print(f"\n| {title} | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for method, figures in rows.items():
        cells = []
        for column in columns:
            values = figures.get(column, [])
            spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.{digits}f}{spread}" if values else "–")
        print(f"| {method} | " + " | ".join(cells) + " |")


def main() -> None:
    """Both tables, and everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", type=int, default=256, help="pixels of a side that are judged")
    parser.add_argument("--sizes", default="256,1024,4096")
    parser.add_argument("--evenness", default="0", help="of the codes' use, separated by commas")
    parser.add_argument("--wrong-size", type=int, default=1024, help="one of --sizes")
    parser.add_argument("--samples", type=int, default=200000)
    parser.add_argument("--passes", type=int, default=2, help="over the training data")
    parser.add_argument("--items", type=int, default=40, help="pictures with wrong tokens")
    parser.add_argument("--json", type=pathlib.Path)
    given = parser.parse_args()
    source = open_source(given.data, given.size)
    found = []
    for run in given.runs:
        artifact = load_artifact(run)
        numbers, evenness = list(map(int, given.sizes.split(","))), list(map(float, given.evenness.split(",")))
        sizes = measure_sizes(artifact, source, numbers, evenness, given.samples, given.passes)
        wrong = measure_wrong_tokens(artifact, given.wrong_size, source, given.items)
        found.append({"run": run.name, "sizes": sizes, "wrong": wrong})
        print(json.dumps(found[-1]), flush=True)
        if given.json is not None:
            given.json.write_text(json.dumps(found, indent=1) + "\n")
    tables: dict[str, dict[str, dict[str, list[float]]]] = {
        name: defaultdict(lambda: defaultdict(list)) for name in (*METRICS, "wrong")
    }
    for row in found:
        method = row["run"].rpartition("-")[0] or row["run"]
        for column, figures in row["sizes"].items():
            for metric in METRICS:
                tables[metric][method][column].append(figures[metric])
        for share, value in row["wrong"].items():
            lost = value if float(share) == 0 else value - row["wrong"]["0.0"]
            tables["wrong"][method][share].append(lost)
    show("PSNR, by codebook", tables["psnr"], 2)
    show("CVU", tables["cvu"], 3)
    show("bits per token", tables["entropy_bits_per_token"], 2)
    show("PSNR, then what wrong tokens cost", tables["wrong"], 2)


if __name__ == "__main__":
    main()
