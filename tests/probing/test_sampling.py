"""Draws follow the temperature, the most probable codes and the group whose turn it is."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from tokcli.probing.sampling import draw_tokens
from tokcli.progress import SILENT


class Fixed(nn.Module):
    """Says the same logits whatever it reads, and remembers what that was."""

    device = torch.device("cpu")

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)
        self.seen: list[list[int]] = []

    def forward(self, input_ids: Tensor, past_key_values: object, use_cache: bool) -> SimpleNamespace:
        self.seen.append(input_ids[:, 0].tolist())
        return SimpleNamespace(logits=self.logits.expand(len(input_ids), 1, -1), past_key_values=past_key_values)


def draw(network: Fixed, **changes) -> Tensor:
    arguments = {"temperature": 1.0, "top_k": None, "seed": 0, "reporter": SILENT} | changes
    return draw_tokens(network, [6] * 50, 4, 2, 3, **arguments)  # type: ignore[arg-type]


def test_codes_come_from_the_group_whose_turn_it_is_and_are_read_back() -> None:
    network = Fixed([0, 0, 0, 0, 0, 0, 9])
    drawn = draw(network)
    assert drawn.shape == (50, 4, 2)
    assert set(drawn.flatten().tolist()) == {0, 1, 2}
    assert network.seen[0] == [6] * 50
    assert set(network.seen[1]) == {0, 1, 2}
    assert set(network.seen[2]) == {3, 4, 5}


def test_one_most_probable_code_leaves_no_choice() -> None:
    drawn = draw(Fixed([0, 1, 0, 2, 0, 0, 0]), top_k=1)
    assert set(drawn[..., 0].flatten().tolist()) == {1}
    assert set(drawn[..., 1].flatten().tolist()) == {0}


def test_cold_draws_are_certain_and_the_seed_repeats_them() -> None:
    network = Fixed([0, 1, 0, 2, 0, 0, 0])
    assert set(draw(network, temperature=1e-3)[..., 0].flatten().tolist()) == {1}
    assert torch.equal(draw(network), draw(network))
    assert not torch.equal(draw(network), draw(network, seed=1))
