"""What hostile cases start from: a finished run of each modality, pictures, sounds, tokens, and interrupted work."""

import pathlib
import shutil

import numpy
import soundfile
from hostile_harness import run_tok
from PIL import Image

TINY = """name: tiny
data:
  train: {kind: dead-leaves, items: 32, size: 16}
  eval: {kind: dead-leaves, items: 4, size: 16, seed: 1}
autoencoder: {kind: vqgan, latent_dim: 3, width: 8, multipliers: [1, 1], blocks: 1, patch: 2, groups: 2}
quantizer: {kind: fsp, levels: [4, 3, 3]}
losses:
  - {kind: l1}
training: {steps: 4, batch_size: 4, learning_rate: 1e-3, ema_decay: 0.9, workers: 0, log_every: 2, checkpoint_every: 2}
evaluation: {every: 4, batch_size: 4, metrics: [psnr, usage, cvu]}
"""

TINY_AUDIO = """name: tiny-audio
data:
  train: {kind: synthetic-voices, items: 16, size: 1600}
  eval: {kind: synthetic-voices, items: 2, size: 1600, seed: 1}
autoencoder: {kind: waveform, latent_dim: 3, width: 4, strides: [4, 5]}
quantizer: {kind: fsp, levels: [4, 3, 3]}
losses:
  - {kind: l1}
training: {steps: 2, batch_size: 4, learning_rate: 1e-3, workers: 0, log_every: 1, checkpoint_every: 2}
evaluation: {every: 2, batch_size: 4, metrics: [si-sdr, usage]}
"""

LONG = "training.steps=100000", "training.checkpoint_every=2"


def make_base(folder: pathlib.Path) -> pathlib.Path:
    """Fill an empty folder; a few seconds."""
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "tiny-audio.yaml").write_text(TINY_AUDIO)
    make_pictures(folder / "photos", 5)
    _make_odd_pictures(folder / "odd-pictures")
    _make_sounds(folder / "sounds")
    _must(folder, "train", "tiny.yaml")
    _must(folder, "train", "tiny-audio.yaml")
    for form in ("t.npy", "t.safetensors", "t"):
        _must(folder, "encode", "photos", "-o", f"tokens/{form}", "-m", "runs/tiny", "--size", "16")
    return folder


def interrupt_work(folder: pathlib.Path) -> None:
    """Leave a killed training and a killed encode in the base's folder; a few seconds."""
    _interrupt(
        folder, "train", "tiny.yaml", *LONG, "--out", "interrupted-run", until="interrupted-run/checkpoints/step-*"
    )
    (folder / "interrupted-encode").mkdir()
    many = folder / "many"
    many.mkdir()
    for number in range(400):
        shutil.copy(folder / "photos" / f"photo-{number % 5}.png", many / f"{number:03d}.png")
    command = ("encode", "../many", "-o", "t.npy", "-m", "../runs/tiny", "--size", "16", "--batch-size", "1")
    _interrupt(folder / "interrupted-encode", *command, until=".t.npy.partial/journal.jsonl")


def _must(folder: pathlib.Path, *arguments: str) -> None:
    ended = run_tok(arguments, folder, seconds=120)
    assert ended.code == 0, f"{arguments}: {ended}"


def _interrupt(folder: pathlib.Path, *arguments: str, until: str) -> None:
    """Kill a command as soon as files of that pattern are there."""
    ended = run_tok(arguments, folder, seconds=120, kill_when=lambda: any(folder.glob(until)))
    assert list(folder.glob(until)), f"{arguments} left nothing: {ended}"


def make_pictures(folder: pathlib.Path, count: int) -> None:
    """A new folder of so many smooth pictures of 24²."""
    folder.mkdir()
    generator = numpy.random.default_rng(0)
    for number in range(count):
        coarse = generator.integers(0, 256, (4, 4, 3), dtype=numpy.uint8)
        Image.fromarray(coarse).resize((24, 24)).save(folder / f"photo-{number}.png")


def _make_odd_pictures(folder: pathlib.Path) -> None:
    """One of each kind that decoders treat apart."""
    folder.mkdir()
    generator = numpy.random.default_rng(1)
    rgb = Image.fromarray(generator.integers(0, 256, (20, 22, 3), dtype=numpy.uint8))
    rgb.save(folder / "a.jpg", quality=90)
    rgb.save(folder / "b.png")
    rgb.convert("P").save(folder / "c.png")
    rgb.convert("CMYK").save(folder / "d.jpg")
    rgb.convert("LA").save(folder / "e.png")
    rgb.save(folder / "f.webp")
    rgb.save(folder / "g.tiff")
    rgb.save(folder / "h.bmp")
    Image.fromarray(generator.integers(0, 2**16, (20, 22), dtype=numpy.uint16)).save(folder / "i.png")
    rgb.save(folder / "j.jpg", progressive=True)


def _make_sounds(folder: pathlib.Path) -> None:
    folder.mkdir()
    generator = numpy.random.default_rng(2)
    sound = (0.1 * generator.standard_normal((1600, 2))).astype("float32")
    soundfile.write(folder / "a.wav", sound, 16000)
    soundfile.write(folder / "b.flac", sound[:, 0], 8000)
    soundfile.write(folder / "c.ogg", sound, 44100)
    soundfile.write(folder / "d.wav", sound, 22050, subtype="FLOAT")
    soundfile.write(folder / "e.mp3", sound, 32000)
    soundfile.write(folder / "f.aiff", sound, 16000)
