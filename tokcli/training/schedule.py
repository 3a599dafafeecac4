"""The learning rate as a function of the step alone, so that a resumed run needs no scheduler state."""

import math

from tokcli.recipe.settings import TrainingSettings


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """The rate of step `step`, counted from 0: linear warm-up, then constant or a cosine down to the final fraction."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.decay == "constant":
        return settings.learning_rate
    progress = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return settings.learning_rate * (settings.final_fraction + (1 - settings.final_fraction) * cosine)


def mix_step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of everything random in one step of one process; distinct for distinct arguments in practice.

    Seeding each step makes randomness, like the learning rate, a function of the step: nothing to save, and an
    evaluation in between changes nothing.
    """
    mixed = seed & 0xFFFFFFFFFFFFFFFF
    for value in (step + 1, rank + 1):
        # One round of SplitMix64 for each value: neighbouring steps get unrelated streams.
        mixed = (mixed + value * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    return mixed >> 1
