"""What a probe is: the network and its training, fixed under a name, so that figures of the same name compare.

Both are Llama configurations (rotary positions, RMS norms, gated units), as LlamaGen's networks are (Sun et al. 2024,
arXiv 2406.06525).
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from tokcli.errors import UsageError
from tokcli.recipe.settings import TrainingSettings
from tokcli.spelling import nearest


@dataclass(frozen=True)
class Protocol:
    """A network and how it is trained.

    Attributes:
        name: of the protocol; a shortened one says so.
        layers: of the transformer.
        heads: of its attention.
        width: of its hidden states.
        inner_width: of its gated units.
        context: tokens that it sees; longer items are cut.
        tied: whether the first and the last layer share their weights.
        training: steps, sequences a step, learning rate.
        points: of the curve over training, evenly spaced; each of them is a checkpoint.
        point_sequences: validation sequences that a point is the mean of; the last one takes all.
    """

    name: str
    layers: int
    heads: int
    width: int
    inner_width: int
    context: int
    tied: bool
    training: TrainingSettings
    points: int = 10
    point_sequences: int = 32

    def to_json(self) -> dict[str, Any]:
        """All that figures depend on."""
        told = ("steps", "batch_size", "learning_rate", "betas", "weight_decay", "warmup_steps", "final_fraction")
        training = dataclasses.asdict(self.training)
        kept = {name: training[name] for name in (*told, "clip_norm", "precision")}
        return dataclasses.asdict(self) | {"family": "llama", "training": kept}


PROTOCOLS = {
    "probe-small": Protocol(
        name="probe-small",
        layers=4,
        heads=4,
        width=128,
        inner_width=352,
        context=256,
        tied=True,
        training=TrainingSettings(
            steps=1000,
            batch_size=16,
            learning_rate=2e-3,
            betas=[0.9, 0.95],
            weight_decay=0.05,
            warmup_steps=50,
            final_fraction=0.1,
        ),
    ),
    "probe-base": Protocol(
        name="probe-base",
        layers=12,
        heads=12,
        width=768,
        inner_width=2048,
        context=576,
        tied=False,
        training=TrainingSettings(
            steps=20_000,
            batch_size=128,
            learning_rate=4e-4,
            betas=[0.9, 0.95],
            weight_decay=0.05,
            warmup_steps=1000,
            final_fraction=0.1,
            precision="bf16",
        ),
        points=40,
        point_sequences=512,
    ),
}
"""`probe-small` takes two cores some ten minutes; `probe-base` has the size of LlamaGen-B and wants a GPU."""


def choose_protocol(name: str, steps: int | None = None) -> Protocol:
    """The protocol called `name`; with `steps`, shortened or prolonged to these, and called so.

    Raises:
        UsageError: where there is none of that name.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"there is no protocol '{name}'; {nearest(name, PROTOCOLS)}")
    protocol = PROTOCOLS[name]
    if steps is None or steps == protocol.training.steps:
        return protocol
    warmup = min(protocol.training.warmup_steps, max(1, steps // 10))
    training = dataclasses.replace(protocol.training, steps=steps, warmup_steps=warmup)
    return dataclasses.replace(protocol, name=f"{name}, {steps} steps", training=training)
