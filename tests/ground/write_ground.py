"""How the files beside this script were written: by the program at version 0.1.0, before its modules moved.

They are never written again: what they hold is what later versions must still read. The script stays as the record of
what each case is, and to add a case (a new quantizer, a new format) beside the old ones:

    OMP_NUM_THREADS=1 python tests/ground/write_ground.py [CASE...]

A case is a folder:

    interrupted/         the run as a kill after step 4 of 6 leaves it: recipe.yaml, metrics.jsonl, one checkpoint
    tokenizer.safetensors  what the same run made when nobody interrupted it
    tokens.*             what `tok encode` made of `inputs/` with it, in all three forms
    expected.safetensors tokens of `inputs/` by item, and the signals that they decode to
    expected.json        fingerprints, lines of metrics.jsonl after step 4, the machine

names.json beside them has the fingerprints of all shipped recipes, and of the folder names of all shipped sweeps.
"""

import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tokcli.artifacts import load_artifact
from tokcli.artifacts.fingerprint import compute_fingerprints
from tokcli.cli.app import run
from tokcli.recipe.recipe import from_text
from tokcli.sweeps.cells import make_cells
from tokcli.sweeps.plan import read_sweep

GROUND = pathlib.Path(__file__).parent
SHIPPED = GROUND.parent.parent / "recipes"
CUT = 4
STEPS = 6

IMAGE = """name: CASE
data:
  train: {kind: dead-leaves, items: 32, size: 16}
  eval: {kind: dead-leaves, items: 4, size: 16, seed: 1}
autoencoder: NET
quantizer: QUANTIZER
losses:
  - {kind: l1}
training: {steps: 6, batch_size: 4, learning_rate: 1e-3, ema_decay: 0.9, workers: 0, log_every: 1, checkpoint_every: 4}
evaluation: {every: 5, batch_size: 4, metrics: [psnr, ssim, usage, perplexity, cvu, bits_per_pixel_empirical]}
"""

AUDIO = """name: CASE
data:
  train: {kind: synthetic-voices, items: 32, size: 960}
  eval: {kind: synthetic-voices, items: 2, size: 1920, seed: 1}
autoencoder: NET
quantizer: QUANTIZER
losses:
  - {kind: l1}
  - {kind: multi-resolution-stft, windows: [256]}
  - {kind: mel, windows: [256], bands: [20]}
training: {steps: 6, batch_size: 2, learning_rate: 1e-3, ema_decay: 0.9, workers: 0, log_every: 1, checkpoint_every: 4}
evaluation: {every: 5, batch_size: 2, metrics: [si-sdr, mel-distance, usage, perplexity, cvu, kbps_empirical]}
"""

VQGAN = (
    "{kind: vqgan, latent_dim: LATENTS, decoder_dim: DIM, width: 4, multipliers: [1], blocks: 1, patch: 2, groups: 2}"
)
SPECTRAL = "{kind: spectral, latent_dim: LATENTS, decoder_dim: DIM, width: 8, blocks: 1, hop: 48, frame: 96}"
WAVEFORM = (
    "{kind: waveform, latent_dim: LATENTS, decoder_dim: DIM, width: 2, strides: [6, 8], dilations: [1], "
    "attention: 1, attention_reach: 4, causal: true}"
)

QUANTIZERS = {
    "vq": ("{kind: vq, dim: 3, codebook_size: 20}", 3),
    "vq-ema": ("{kind: vq, dim: 3, codebook_size: 20, ema: true, restart_below: 0.5, kmeans_start: true}", 3),
    "vq-cosine": ("{kind: vq, dim: 3, codebook_size: 20, cosine: true, gradient: rotation}", 3),
    "simvq": ("{kind: simvq, dim: 3, codebook_size: 300}", 3),
    "fsq": ("{kind: fsq, levels: [4, 5, 3], variant: symmetric, noise: 0.5}", 3),
    "fsp": ("{kind: fsp, levels: [4, 5, 3]}", 3),
    "vpvae": ("{kind: vpvae, dim: 3, codebook_size: 20, queue_fraction: 0.2}", 3),
    "tokenbridge": ("{kind: tokenbridge, dim: 3, bins: 4}", 6),
    "vaevq": ("{kind: vaevq, dim: 3, codebook_size: 20}", 6),
}

STAGES = {
    "vpvae": "codebook: {sizes: [16, 20], samples: 200, finetune_steps: 2}\n",
    "tokenbridge": "codebook: {samples: 200}\n",
    "fsp": "codebook: {samples: 200}\n",
}

ADVERSARIES = {
    "image-vq": "adversary: {discriminator: {kind: patchgan, width: 4, layers: 1}, lecam_weight: 0.01}\n",
    "audio-vq": "adversary: {discriminator: {kind: multi-scale-stft, windows: [256], width: 4}}\n",
    "audio-fsp": "adversary: {discriminator: {kind: multi-period, periods: [2], width: 1}}\n",
}

WAVEFORMS = {"audio-vq", "audio-fsq", "audio-vpvae"}
"""The cases with a network of strided convolutions; the others of sound compute on spectra."""


FINISHED_ONLY = {"image-vq-cosine", "audio-vq-ema", "audio-simvq", "audio-fsq", "audio-tokenbridge", "audio-vaevq"}
"""The cases without an interrupted run: its checkpoint is four times as large as all the rest."""


def cases() -> dict[str, str]:
    """The text of the recipe of every case."""
    texts = {}
    for modality, frame, net in [("image", IMAGE, VQGAN), ("audio", AUDIO, SPECTRAL)]:
        for name, (quantizer, latents) in QUANTIZERS.items():
            case = f"{modality}-{name}"
            text = frame.replace("CASE", case).replace("NET", WAVEFORM if case in WAVEFORMS else net)
            text = text.replace("QUANTIZER", quantizer).replace("LATENTS", str(latents)).replace("DIM", "3")
            texts[case] = text + STAGES.get(name, "") + ADVERSARIES.get(case, "")
    del texts["audio-vq-cosine"]
    return texts


def write_inputs() -> None:
    """Three smooth pictures of 16 by 16, one of another size; two short sounds."""
    generator = numpy.random.default_rng(0)
    for folder in ("image", "audio", "image-ragged"):
        (GROUND / "inputs" / folder).mkdir(parents=True, exist_ok=True)
    for index in range(3):
        coarse = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=numpy.uint8))
        coarse.resize((16, 16), Image.Resampling.BICUBIC).save(GROUND / f"inputs/image/{index}.png")
    coarse.resize((22, 17), Image.Resampling.BICUBIC).save(GROUND / "inputs/image-ragged/wide.png")
    shutil.copy(GROUND / "inputs/image/0.png", GROUND / "inputs/image-ragged/0.png")
    for index, samples in enumerate([1000, 1500]):
        sound = numpy.cumsum(generator.standard_normal(samples)) / 60
        soundfile.write(GROUND / f"inputs/audio/{index}.wav", numpy.clip(sound, -1, 1), 16_000, subtype="PCM_16")


def tok(*arguments: object) -> None:
    """Run a command in this process; it must succeed."""
    code = run([*map(str, arguments), "--quiet", "--json"])
    if code:
        sys.exit(f"tok {arguments} left with {code}")


def write_case(case: str, recipe: str, scratch: pathlib.Path) -> None:
    """Train it, cut a copy of the run after step 4, encode the inputs, and write down what came out."""
    folder = GROUND / case
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (scratch / f"{case}.yaml").write_text(recipe)
    made = scratch / "runs" / case
    tok("train", scratch / f"{case}.yaml", "--out", made)
    lines = (made / "metrics.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["step"] <= CUT]
    if case not in FINISHED_ONLY:
        (folder / "interrupted/checkpoints").mkdir(parents=True)
        shutil.copy(made / "recipe.yaml", folder / "interrupted")
        shutil.copy(made / f"checkpoints/step-{CUT:08d}.safetensors", folder / "interrupted/checkpoints")
        (folder / "interrupted/metrics.jsonl").write_text("".join(kept))
    shutil.copy(made / "tokenizer.safetensors", folder)
    os.chdir(GROUND)
    modality = case.partition("-")[0]
    ragged = "inputs/image-ragged" if modality == "image" else "inputs/audio"
    # Sounds of different lengths do not fit into one array; cropped to one size they do.
    same = ["inputs/image"] if modality == "image" else ["inputs/audio", "--size", "960"]
    tok("encode", *same, "-o", folder / "tokens.npy", "-m", folder / "tokenizer.safetensors")
    for form in ("tokens.safetensors", "tokens"):
        tok("encode", ragged, "-o", folder / form, "-m", folder / "tokenizer.safetensors", "--size", "native")
    write_expectations(folder, lines[len(kept) :])


def write_expectations(folder: pathlib.Path, lines_after: list[str]) -> None:
    """Tokens by item, what they decode to, and what must be equal in words."""
    artifact = load_artifact(folder / "tokenizer.safetensors")
    header = json.loads((folder / "tokens.npy.json").read_text())
    tokens = {name: value.long() for name, value in load_file(folder / "tokens.safetensors").items()}
    signals = {}
    for name, value in tokens.items():
        ragged = value if value.dim() > len(header["grid"]) else value.unsqueeze(-1)
        size = [length * artifact.tokenizer.autoencoder.stride for length in ragged.shape[:-1]]
        signals[name] = artifact.tokenizer.decode(ragged[None], size)[0].contiguous()
    both = {f"tokens/{name}": value for name, value in tokens.items()}
    save_file(both | {f"signals/{name}": value for name, value in signals.items()}, folder / "expected.safetensors")
    expected = {
        "network_fingerprint": header["network_fingerprint"],
        "codebook_fingerprint": header["codebook_fingerprint"],
        "codebooks": {str(report.size): codebook_sum(folder, report.size) for report in artifact.codebooks},
        "recipe": artifact.recipe.fingerprint(),
        "metrics": [json.loads(line) for line in lines_after],
        "machine": machine(),
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def codebook_sum(folder: pathlib.Path, size: int) -> str:
    """The fingerprint of one of the codebooks that were built into an artifact."""
    artifact = load_artifact(folder / "tokenizer.safetensors", size)
    return compute_fingerprints(artifact.tokenizer, artifact.recipe).codebook


def write_names() -> None:
    """Fingerprints of the shipped recipes, and of the names that the cells of the shipped sweeps have on disk."""
    recipes, sweeps = {}, {}
    for path in sorted(SHIPPED.glob("*.yaml")):
        recipes[path.stem] = from_text(path.read_text(), path.stem).fingerprint()
    for path in sorted(SHIPPED.glob("sweeps/*.yaml")):
        grid = make_cells(read_sweep(path.read_text(), path.stem), pathlib.Path(path.stem))
        sweeps[path.stem] = hashlib.sha256("\n".join(str(cell.path) for cell in grid).encode()).hexdigest()
    (GROUND / "names.json").write_text(json.dumps({"recipes": recipes, "sweeps": sweeps}, indent=1) + "\n")


def machine() -> dict[str, str]:
    """What decides the last bits of a computation: the version of torch, and the processor with all its features."""
    about = pathlib.Path("/proc/cpuinfo")
    wanted = ("model name", "cpu family", "model", "stepping", "cache size", "flags")
    first = about.read_text().partition("\n\n")[0].splitlines() if about.exists() else []
    lines = [line for line in first if line.partition("\t")[0].partition(":")[0].strip() in wanted]
    return {"torch": torch.__version__, "processor": hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]}


def main() -> None:
    torch.set_num_threads(1)
    write_inputs()
    write_names()
    apply_choices = {case: text for case, text in cases().items() if case in sys.argv[1:] or len(sys.argv) == 1}
    with tempfile.TemporaryDirectory() as scratch:
        for case, text in apply_choices.items():
            write_case(case, text, pathlib.Path(scratch))


if __name__ == "__main__":
    main()
