"""Train, save and evaluate one tokenizer with the library alone: copy this file and change what you like.

    python recipes/train_by_hand.py [STEPS] [FOLDER]        (2000 steps: a minute or two on two CPU cores)

It is `tok train quickstart` without what makes a run safe (checkpoints, resuming, several processes, logs): five parts,
one loop. The recipe names the autoencoder and the quantizer, because a saved tokenizer is built again from it.
"""

import pathlib
import sys
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

import tokcli
from tokcli.artifacts import Artifact, save_artifact
from tokcli.contracts import Source
from tokcli.data.image.dead_leaves import DeadLeaves
from tokcli.losses.elementwise import Mse
from tokcli.metrics import build_metrics
from tokcli.recipe.build import build_tokenizer
from tokcli.recipe.recipe import from_text
from tokcli.tokenizer import Tokenizer

RECIPE = """
name: by-hand
data: {train: {kind: dead-leaves, size: 32}, eval: {kind: dead-leaves, size: 32, seed: 1}}
autoencoder: {kind: vqgan, latent_dim: 4, width: 16, multipliers: [1], blocks: 1, patch: 4, groups: 2}
quantizer: {kind: fsp, levels: [8, 5, 5, 5]}
losses: [{kind: mse}]
training: {steps: 2000}
"""
BATCH = 16


def batches_of(source: Source) -> Iterator[Tensor]:
    """(BATCH, channels, *size) without end; every round of the source draws its items anew."""
    number = 0
    while True:
        positions = range(number, number + BATCH)
        yield torch.stack([source.load(n % len(source), draw=n // len(source)).signal for n in positions])
        number += BATCH


def train(tokenizer: Tokenizer, source: Source, steps: int) -> None:
    """The loop: reconstruction and the quantizer's own loss, AdamW, a cosine down to nothing."""
    loss = Mse()
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    tokenizer.train()
    for step, signals in zip(range(steps), batches_of(source), strict=False):
        output = tokenizer(signals)
        # A quantizer may ask for several sets of latents to be decoded; the first is the quantized one.
        distance = torch.stack([loss(each, signals) for each in output.reconstructions]).mean()
        total = loss.weight * distance + output.quantized.loss
        total.backward()
        clip_grad_norm_(tokenizer.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}: {total.item():.4f}")


def evaluate(tokenizer: Tokenizer, source: Source) -> dict[str, float]:
    """Each item encoded to tokens and back, as a user would, and what the metrics say of it."""
    metrics = build_metrics(["psnr", "usage", "cvu"], tokenizer.modality)
    for index in range(len(source)):
        round_trip = tokenizer.round_trip(source.load(index).signal[None])
        for metric in metrics.values():
            metric.update(round_trip)
    return {name: metric.compute() for name, metric in metrics.items()}


def main(steps: int = 2000, folder: str = "runs/by-hand") -> dict[str, float]:
    """Train, save, open what was saved, evaluate that."""
    torch.manual_seed(0)
    recipe = from_text(RECIPE, "by-hand")
    tokenizer = build_tokenizer(recipe)
    train(tokenizer, DeadLeaves(items=1000, size=32), steps)
    save_artifact(pathlib.Path(folder) / "tokenizer.safetensors", Artifact(tokenizer.eval(), recipe, weights="raw"))
    return evaluate(tokcli.load(folder).module, DeadLeaves(items=32, size=32, seed=1))


if __name__ == "__main__":
    print(main(int(sys.argv[1]) if sys.argv[1:] else 2000, *sys.argv[2:3]))
