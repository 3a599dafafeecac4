"""Learning rate and randomness as functions of the step."""

import pytest

from tokcli.recipe.settings import TrainingSettings
from tokcli.training.schedule import learning_rate, mix_step_seed


def test_warm_up_rises_in_equal_steps_and_the_cosine_falls_to_its_end() -> None:
    settings = TrainingSettings(steps=12, learning_rate=1.0, warmup_steps=4, final_fraction=0.1)
    assert [learning_rate(settings, step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert learning_rate(settings, 4) == pytest.approx(1.0)
    assert learning_rate(settings, 8) == pytest.approx(0.55)  # half way: (1 + 0.1) / 2
    assert learning_rate(settings, 12) == pytest.approx(0.1)


def test_a_constant_rate_stays() -> None:
    settings = TrainingSettings(steps=10, learning_rate=0.5, decay="constant")
    assert {learning_rate(settings, step) for step in range(10)} == {0.5}


def test_step_seeds_differ_by_seed_step_and_rank() -> None:
    seeds = {mix_step_seed(seed, step, rank) for seed in range(8) for step in range(50) for rank in range(4)}
    assert len(seeds) == 8 * 50 * 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix_step_seed(3, 5, 1) == mix_step_seed(3, 5, 1)
