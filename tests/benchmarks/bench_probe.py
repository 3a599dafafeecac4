"""What CVU says about how well tokens can be predicted: methods and codebook sizes, trained, encoded and probed.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_probe.py image --data photos --out probing/images
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_probe.py audio --data speech --out probing/speech

`--data` holds the folders `train` and `val`. Whatever is finished in `--out` is kept, so the same command goes on after
an interruption. The table, the plots and the correlations with their intervals are those of `tok probe`, in
`--out/probes`: VP-VAE's one training serves four codebook sizes.
"""

import argparse
import json
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from tokcli.commands.build_codebook import build_codebook
from tokcli.commands.encode import encode
from tokcli.commands.evaluate import evaluate
from tokcli.commands.probe import probe
from tokcli.commands.train import train
from tokcli.files import write_text

METHODS = {
    "image": ["vqvae", "vqvae-ema", "simvq", "fsq", "fsp", "tokenbridge", "vpvae"],
    "audio": ["vqvae", "simvq", "fsq", "fsp", "tokenbridge", "vpvae"],
}
STEPS = {"image": 1500, "audio": 600}
METRICS = {"image": ["psnr", "ssim", "cvu"], "audio": ["stoi", "mel-distance", "cvu"]}
SIZE = 128
"""Pictures are resized to it, so that a set of hundreds is encoded in seconds."""


def make_tokens(
    kind: str, method: str, seed: int, given: argparse.Namespace
) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Train one tokenizer and encode both sets, once for each codebook; the token files, (train, val)."""
    name = f"{method}-{seed}"
    run = given.out / "runs" / name
    data = [f"data.train.path={given.data / 'train'}", f"data.eval.path={given.data / 'val'}"]
    settings = [f"training.steps={given.training_steps or STEPS[kind]}", "training.batch_size=8", f"seed={seed}"]
    if kind == "image":
        settings.append(f"data.eval.size={SIZE}")
    if not (run / "tokenizer.safetensors").exists():
        train(f"{kind}-small-{method}", [*data, *settings], out=str(run))
    sizes: list[int | None] = [None]
    if method == "vpvae":
        sizes = list(given.sizes)
    scores = given.out / "scores" / f"{name}.json"
    if method == "vpvae" and not scores.exists():
        build_codebook(str(run), sizes=given.sizes, force=True)
    if not scores.exists():
        shape = SIZE if kind == "image" else None
        rows = evaluate(
            [str(run)],
            data=str(given.data / "val"),
            size=shape,
            metrics=METRICS[kind],
            codebooks=given.sizes if sizes[0] else None,
        )
        write_text(scores, json.dumps([row.to_json() for row in rows]))
    files = []
    for size in sizes:
        stem = f"{name}-{size}" if size else name
        pair = [
            given.out / "tokens" / part / f"{stem}.{'npy' if kind == 'image' else 'safetensors'}"
            for part in ("train", "val")
        ]
        for part, path in zip(("train", "val"), pair, strict=True):
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                shape = SIZE if kind == "image" else None
                encode([str(given.data / part)], str(path), model=str(run), codebook=size, size=shape, resume=True)
        files.append((pair[0], pair[1]))
    return files


def main() -> None:
    """Every method and seed, then one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["image", "audio"])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--methods", help="separated by commas")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--sizes", default="256,1024,4096,16384", help="codebooks of VP-VAE")
    parser.add_argument("--training-steps", type=int)
    parser.add_argument("--probe-steps", type=int, help="shorter than the protocol's, and called so")
    given = parser.parse_args()
    given.sizes = [int(size) for size in given.sizes.split(",")]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    files = []
    for seed in map(int, given.seeds.split(",")):
        for method in given.methods.split(",") if given.methods else METHODS[given.kind]:
            started = time.perf_counter()
            files += make_tokens(given.kind, method, seed, given)
            print(f"{method}, seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)
    rows = [row for path in sorted((given.out / "scores").glob("*.json")) for row in json.loads(path.read_text())]
    write_text(given.out / "scores.json", json.dumps(rows))
    done = probe(
        [str(own) for own, _ in files],
        str(given.out / "probes"),
        val=[str(other) for _, other in files],
        steps=given.probe_steps,
        labels="none",
        scores=str(given.out / "scores.json"),
        models=[str(path) for path in sorted((given.out / "runs").iterdir())],
        resume=True,
    )
    print((done.output / "table.md").read_text())


if __name__ == "__main__":
    main()
