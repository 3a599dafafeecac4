"""What an evaluation leaves to look at and to listen to: a labelled sheet, a few sounds, and the same for trackers.

samples/step-00000500.png  samples/original-1.wav  samples/step-00000500-1.wav
"""

import pathlib

import numpy
from torch import Tensor

from tokcli.data.modality import MODALITIES
from tokcli.evaluation.run import Scores
from tokcli.training.parts import Training
from tokcli.training.run_folder import RunFolder

PAIRS = 3
"""Pairs of sounds that a run keeps."""

SECONDS = 10
"""Of each of them, from its beginning."""

BARS = 256
"""Of the histogram of codes, at most; neighbours share one in larger codebooks."""


def keep_samples(training: Training, run: RunFolder, scores: Scores) -> pathlib.Path | None:
    """Write the sheet and the sounds of the present step, and show them to trackers; returns where the sheet is."""
    if not scores.examples:
        return None
    view, sample_rate = MODALITIES[training.tokenizer.modality].view, training.tokenizer.sample_rate
    references = [example.reference for example in scores.examples]
    reconstructions = [example.reconstruction for example in scores.examples]
    labels = [f"original{view.describe_axes(references, sample_rate)}", "reconstruction"]
    sheet = view.sheet(references, reconstructions, labels=labels)
    for tracker in training.accelerator.trackers:
        if tracker.name == "tensorboard":
            tracker.tracker.add_image("evaluation/samples", numpy.asarray(sheet), training.step, dataformats="HWC")
        elif tracker.name == "wandb":
            import wandb

            tracker.tracker.log({"evaluation/samples": wandb.Image(sheet)}, step=training.step)
    if sample_rate is not None:
        for number, (reference, reconstruction) in enumerate(zip(references, reconstructions, strict=True), start=1):
            if number <= PAIRS:
                _keep_audio(training, run, number, reference, reconstruction, sample_rate)
    return run.save_sheet(sheet, training.step)


def _keep_audio(
    training: Training, run: RunFolder, number: int, reference: Tensor, reconstruction: Tensor, sample_rate: int
) -> None:
    """Write the beginning of a sound and of what came back, each (channels, samples), and play them to trackers."""
    save = MODALITIES[training.tokenizer.modality].save
    pair = {"original": reference, "reconstruction": reconstruction}
    for kind, signal in pair.items():
        clip = signal[:, : SECONDS * sample_rate].detach().cpu().float().clamp(-1, 1)
        first = run.samples / f"original-{number}.wav"
        if kind == "reconstruction" or not first.exists():
            save(run.locate_audio(training.step, number) if kind == "reconstruction" else first, [clip], sample_rate)
        name = f"evaluation/{kind}-{number}"
        for tracker in training.accelerator.trackers:
            if tracker.name == "tensorboard":
                tracker.tracker.add_audio(name, clip.mean(0)[None], training.step, sample_rate=sample_rate)
            elif tracker.name == "wandb":
                import wandb

                audio = wandb.Audio(clip.mean(0).numpy(), sample_rate=sample_rate)
                tracker.tracker.log({name: audio}, step=training.step)


def show_codes(training: Training, scores: Scores) -> None:
    """Show trackers how often each code occurred, in the order of the codebook."""
    if scores.counts is None or not training.accelerator.trackers:
        return
    counts = scores.counts.to_dense() if scores.counts.is_sparse else scores.counts
    codes = counts.sum(0).double().cpu().numpy()
    edges = numpy.unique(numpy.linspace(0, len(codes), min(BARS, len(codes)) + 1).round().astype(int))
    bars = numpy.add.reduceat(codes, edges[:-1])
    for tracker in training.accelerator.trackers:
        if tracker.name == "tensorboard":
            places = numpy.arange(len(codes))
            tracker.tracker.add_histogram_raw(
                "evaluation/codes",
                min=0,
                max=len(codes),
                num=codes.sum(),
                sum=(codes * places).sum(),
                sum_squares=(codes * places**2).sum(),
                bucket_limits=edges[1:].tolist(),
                bucket_counts=bars.tolist(),
                global_step=training.step,
            )
        elif tracker.name == "wandb":
            import wandb

            histogram = wandb.Histogram(np_histogram=(bars, edges))
            tracker.tracker.log({"evaluation/codes": histogram}, step=training.step)
