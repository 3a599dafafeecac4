"""The next batch is on its way while one is computed, and items, order and tokens are the same."""

import pytest
import torch

from tokcli.commands import encode_items
from tokcli.commands.copying import PlainWay, find_way, pack_batch, send_ahead
from tokcli.contracts import Item
from tokcli.data.items import Failure
from tokcli.tokens import open_tokens


class Recorded(PlainWay):
    """A way that keeps what happens on it."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.happened: list[str] = []

    def send(self, signals: torch.Tensor) -> torch.Tensor:
        self.happened.append(f"send {int(signals[0, 0, 0, 0])}")
        assert signals.shape[0] == 4
        return super().send(signals)

    def receive(self, sent: torch.Tensor) -> torch.Tensor:
        self.happened.append(f"receive {int(sent[0, 0, 0, 0])}")
        return super().receive(sent)


def items(*values: float) -> list[Item]:
    return [Item(str(value), torch.full((1, 2, 2), value), (2, 2)) for value in values]


def test_a_batch_is_sent_before_the_one_ahead_of_it_is_received() -> None:
    way, groups = Recorded(), [items(2, 3), Failure("torn", "why"), items(4), items(5, 6, 7, 8)]
    seen = []
    for group, sent in send_ahead(iter(groups), way, 4):
        seen.append(group)
        assert (sent is None) == isinstance(group, Failure)
        if sent is not None:
            assert torch.equal(way.receive(sent), pack_batch(group, 4))
    assert seen == groups
    assert way.happened == ["send 2", "receive 2", "send 4", "send 5", "receive 4", "receive 5"]


def test_a_cpu_needs_no_way() -> None:
    assert find_way(torch.device("cpu")) is None
    assert isinstance(find_way(torch.device("mps")), PlainWay)


@pytest.mark.parametrize("batch_size", ["1", "2", "8"])
def test_tokens_are_the_same_by_whatever_way(tok, tiny_run, photos, monkeypatch, batch_size: str) -> None:
    """As on a GPU: packed, filled up, sent ahead."""
    words = ["encode", "photos", "--size", "16", "--batch-size", batch_size, "--device", "cpu", "-q"]
    assert tok(*words, "-o", "one.npy").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(encode_items, "find_way", PlainWay)
        assert tok(*words, "-o", "two.npy").code == 0
    assert all(
        torch.equal(a.tokens, b.tokens) for a, b in zip(open_tokens("one.npy"), open_tokens("two.npy"), strict=True)
    )
